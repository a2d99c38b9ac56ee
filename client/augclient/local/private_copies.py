"""Drop what a trainer wrote into memory that is mapped copy-on-write."""

from __future__ import annotations

import mmap
import os
import weakref

import numpy as np

# Documentation/admin-guide/mm/pagemap.rst of Linux: eight bytes a page
_HERE_OR_SWAPPED, _OF_A_FILE = np.uint64(3 << 62), np.uint64(1 << 61)


class PrivateCopies:
    """The pages of a MAP_PRIVATE mapping of a file that were written to: copies, which hide what the file says later."""

    def __init__(self, pages: mmap.mmap) -> None:
        self._pages = pages
        self._first_page = np.frombuffer(pages, np.uint8).ctypes.data // mmap.PAGESIZE
        self._pagemap: int | None = None
        try:
            self._pagemap = os.open("/proc/self/pagemap", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return  # a sandbox without /proc: every drop() takes it that there are copies
        weakref.finalize(self, os.close, self._pagemap)

    def drop(self, offset: int, size: int) -> None:
        """Let the pages of these bytes be the file's again; `offset` is a multiple of the page size.

        The pages' state is asked for first: who drops pages that are no copies pays for mapping all of them again when the next batch is
        read, 7 ms for 46 MB where reading takes 8 (tests/benchmarks/bench_local.py).
        """
        if self._any(offset, size):
            self._pages.madvise(mmap.MADV_DONTNEED, offset, size)

    def _any(self, offset: int, size: int) -> bool:
        if self._pagemap is None:
            return True
        first, count = self._first_page + offset // mmap.PAGESIZE, -(-size // mmap.PAGESIZE)
        try:
            states = np.frombuffer(os.pread(self._pagemap, 8 * count, 8 * first), np.uint64)
        except OSError:
            return True
        copies = ((states & _HERE_OR_SWAPPED) != 0) & ((states & _OF_A_FILE) == 0)
        return len(states) < count or bool(copies.any())
