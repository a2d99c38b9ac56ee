"""Host arrays that devices copy to and from directly: pages of their own, registered with the driver.

array -> base: PinnedPages (dies with the last view) -> finalizer -> `expired` -> the owner thread unregisters, then frees the pages
"""

from __future__ import annotations

import bisect
import math
import mmap
import threading
import weakref
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from augserver.kernel.cuda import driver as cuda_driver


class PinnedPages:
    """Mapped pages that numpy sees as bytes; numpy keeps this object as long as any array looks at them."""

    def __init__(self, pages: mmap.mmap) -> None:
        self.pages = pages
        view = np.frombuffer(pages, np.uint8)
        self.address: int = view.ctypes.data
        self.__array_interface__ = {"data": (self.address, False), "shape": (len(self.pages),), "typestr": "|u1", "version": 3}


class PinnedArrays:
    """Makes arrays in pinned memory and knows which addresses are pinned.

    `allocate`, `adopt`, `free_expired` and `free_all` belong to one owner thread, where a context is current; `is_pinned` may be called
    from anywhere.

    Args:
        wake: called, from any thread and from garbage collection, when an array has died and `free_expired` has work.
    """

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._lock = threading.Lock()
        self._ranges: list[tuple[int, int]] = []  # (address, size), ascending
        self._pages: dict[int, mmap.mmap] = {}
        self._expired: deque[int] = deque()

    def allocate(self, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """A writable array of garbage in pinned memory; it is unpinned some time after its last view has died.

        Raises:
            MemoryError: the system has no address space for it.
            DriverError: the driver cannot pin as much.
        """
        size = math.prod(shape) * np.dtype(dtype).itemsize
        try:
            pages = mmap.mmap(-1, max(size, 1))
        except (OSError, OverflowError) as cause:
            raise MemoryError(f"no address space for an array of {shape} {np.dtype(dtype)} ({size} bytes): {cause}") from cause
        return self.adopt(pages)[:size].view(dtype).reshape(shape)

    def adopt(self, mapped: mmap.mmap) -> NDArray[np.uint8]:
        """Pin pages that are mapped, also shared ones, and give all their bytes as an array; else as `allocate`."""
        pages = PinnedPages(mapped)
        cuda_driver.register_host(pages.address, len(pages.pages))
        with self._lock:
            bisect.insort(self._ranges, (pages.address, len(pages.pages)))
            self._pages[pages.address] = pages.pages
        weakref.finalize(pages, self._expire, pages.address).atexit = False
        return np.asarray(pages)

    def is_pinned(self, array: NDArray[Any]) -> bool:
        """Whether all of a C-contiguous array lies in memory of `allocate` or `adopt`."""
        first = array.ctypes.data
        with self._lock:
            k = bisect.bisect_right(self._ranges, (first, math.inf)) - 1
            return k >= 0 and first + array.nbytes <= sum(self._ranges[k])

    def free_expired(self) -> None:
        """Unpin and free the memory of arrays that have died.

        Raises:
            DriverError: the driver refuses one; its pages stay mapped, for an address that is pinned must not be used anew.
        """
        while self._expired:
            self._free(self._expired.popleft())

    def free_all(self) -> None:
        """Unpin everything, also what is still in use: it stays ordinary memory. Errors as of `free_expired`, after the last one."""
        self._expired.clear()
        refused: cuda_driver.DriverError | None = None
        for address in list(self._pages):
            try:
                self._free(address)
            except cuda_driver.DriverError as error:
                refused = error
        if refused is not None:
            raise refused

    def _free(self, address: int) -> None:
        pages = self._pages.get(address)
        if pages is None:
            return
        with self._lock:
            if (address, len(pages)) in self._ranges:
                self._ranges.remove((address, len(pages)))
        cuda_driver.unregister_host(address)
        del self._pages[address]

    def _expire(self, address: int) -> None:
        # Runs inside garbage collection, perhaps of a thread that holds a lock: only reentrant operations.
        self._expired.append(address)
        self._wake()
