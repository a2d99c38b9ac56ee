"""Arrays for caches and output slots: aligned, and on huge pages where the system grants them.

A rotated walk through a volume touches a new page every few voxels; with 2 MB pages the address lookups stay in the CPU's tables.
"""

from __future__ import annotations

import contextlib
import math
import mmap
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

ALIGNMENT = 64
HUGE_PAGE = 2 << 20


def allocate(shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
    """A C-contiguous array of zeros, aligned to 64 bytes; from 2 MB on aligned to 2 MB and advised to be on huge pages.

    The memory goes back to the system when the array and all its views are gone.

    Raises:
        MemoryError: the system has no address space for it.
    """
    wanted = np.dtype(dtype)
    size = math.prod(shape) * wanted.itemsize
    if size < HUGE_PAGE:
        raw = np.zeros(size + ALIGNMENT, np.uint8)
        start = -raw.ctypes.data % ALIGNMENT
    else:
        try:
            pages = mmap.mmap(-1, size + HUGE_PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        except OSError as cause:
            raise MemoryError(f"no address space for an array of {shape} {wanted} ({size} bytes): {cause}") from cause
        if hasattr(mmap, "MADV_HUGEPAGE"):
            with contextlib.suppress(OSError):  # a kernel built without transparent huge pages: ordinary ones are only slower
                pages.madvise(mmap.MADV_HUGEPAGE)
        raw = np.frombuffer(pages, np.uint8)
        start = -raw.ctypes.data % HUGE_PAGE
    return raw[start : start + size].view(wanted).reshape(shape)
