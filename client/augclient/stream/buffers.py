"""Reused memory for batches, safe against whoever still looks at an old one.

A buffer goes back to the pool when the last array on it is gone: every array of a batch, and every view that the user or a framework
took of it, keeps the Lease alive through the array's base object, and the Lease's end returns the storage. So a batch never
changes under its reader, and nobody has to release anything.

Memory: buffers in use = batches that somebody holds. The pool never waits and never takes a buffer away: whoever keeps a hundred batches
has a hundred buffers. Of those that come back it keeps `keep`, the rest is freed.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

ALIGNMENT = 64  # a cache line; and what TensorFlow asks for to take an array without copying it


@dataclass(frozen=True, slots=True)
class PoolStatistics:
    """Counters of a BufferPool: buffers ever allocated, and those that lie free now."""

    allocated: int
    free: int


class BufferPool:
    """Buffers of one size at a time; thread-safe without a lock, as a Lease may end inside a garbage collection anywhere."""

    def __init__(self, keep: int) -> None:
        self._free: deque[NDArray[np.uint8]] = deque(maxlen=keep)
        self._allocated = 0

    def take(self, size_bytes: int) -> NDArray[np.uint8]:
        """A flat uint8 array, 64-byte aligned, contents undefined; its memory returns here after its last view."""
        try:
            storage = self._free.pop()
        except IndexError:
            storage = None
        if storage is None or storage.size != size_bytes:
            storage = _aligned(size_bytes)
            self._allocated += 1
        return np.asarray(_Lease(storage, self._free))

    def statistics(self) -> PoolStatistics:
        """Counters at this moment."""
        return PoolStatistics(self._allocated, len(self._free))


class _Lease:
    """Owner of a buffer as numpy sees it: the base of the array, and of every view on it."""

    __slots__ = ("_free", "_storage")

    def __init__(self, storage: NDArray[np.uint8], free: deque[NDArray[np.uint8]]) -> None:
        self._storage = storage
        self._free = free

    @property
    def __array_interface__(self) -> dict[str, Any]:
        return self._storage.__array_interface__

    def __del__(self) -> None:
        self._free.append(self._storage)


def _aligned(size_bytes: int) -> NDArray[np.uint8]:
    raw = np.empty(size_bytes + ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % ALIGNMENT
    return raw[start : start + size_bytes]
