"""Divide one block of memory into pieces, without touching it: first fit, neighbours joined when they are freed.

Device memory is taken once, at start-up: cuMemAlloc and cuMemFree wait for all work of a device, and so would end the overlap of
copies and kernels whenever one volume makes room for another.
"""

from __future__ import annotations

import bisect

ALIGN = 256  # what cuMemAlloc gives, and texture-free loads of any type need less


def aligned(size_bytes: int) -> int:
    """`size_bytes` rounded up to a whole number of ALIGN."""
    return -(-size_bytes // ALIGN) * ALIGN


class Arena:
    """Offsets in [0, size_bytes) that are free or taken. Not thread-safe.

    Args:
        size_bytes: of the block; rounded down to ALIGN.
    """

    def __init__(self, size_bytes: int) -> None:
        self.size_bytes = size_bytes // ALIGN * ALIGN
        self._holes = [(0, self.size_bytes)] if self.size_bytes else []  # (offset, size), ascending, never adjacent
        self._taken: dict[int, int] = {}

    @property
    def taken_bytes(self) -> int:
        """Sum of the pieces in use, as rounded."""
        return sum(self._taken.values())

    def take(self, size_bytes: int) -> int | None:
        """Offset of a piece of at least `size_bytes`, or None where no hole is large enough."""
        size = aligned(max(size_bytes, 1))
        for k, (offset, hole) in enumerate(self._holes):
            if hole >= size:
                self._holes[k : k + 1] = [(offset + size, hole - size)] if hole > size else []
                self._taken[offset] = size
                return offset
        return None

    def give(self, offset: int) -> None:
        """Free the piece at `offset`, which `take` returned."""
        size = self._taken.pop(offset)
        k = bisect.bisect_left(self._holes, (offset, 0))
        if k < len(self._holes) and self._holes[k][0] == offset + size:
            size += self._holes.pop(k)[1]
        if k > 0 and sum(self._holes[k - 1]) == offset:
            offset, before = self._holes.pop(k - 1)
            size += before
            k -= 1
        self._holes.insert(k, (offset, size))
