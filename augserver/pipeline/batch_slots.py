"""Memory that batches are computed into: slots of one layout, reserved by a stream when it opens, reused batch after batch.

    one slot      | image, C order (N, C, Z, Y, X) | pad to 64 | label (N, Z, Y, X) |

The pool is bounded in bytes and a reservation either succeeds at once or is refused: a stream that runs never waits for the
memory of another.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from augserver.errors import BudgetError

_ALIGN = 64  # a cache line, and the widest vector register


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchLayout:
    """Shape and type of one batch.

    Attributes:
        image_shape: (N, C, Z, Y, X).
        image_dtype: "float32", "float16" or "uint8".
        has_label: whether a label array (N, Z, Y, X) uint8 goes along.
    """

    image_shape: tuple[int, int, int, int, int]
    image_dtype: str
    has_label: bool

    @property
    def label_shape(self) -> tuple[int, int, int, int] | None:
        """(N, Z, Y, X), or None without labels."""
        count, _, *grid = self.image_shape
        return (count, grid[0], grid[1], grid[2]) if self.has_label else None

    @property
    def image_bytes(self) -> int:
        """Bytes of the image array."""
        return math.prod(self.image_shape) * np.dtype(self.image_dtype).itemsize

    @property
    def label_bytes(self) -> int:
        """Bytes of the label array; 0 without labels."""
        return math.prod(self.label_shape) if self.label_shape else 0

    @property
    def label_offset(self) -> int:
        """Where the label begins in a slot."""
        return -(-self.image_bytes // _ALIGN) * _ALIGN

    @property
    def slot_bytes(self) -> int:
        """Bytes of a slot that holds one batch."""
        return self.label_offset + self.label_bytes


class Slot:
    """One batch's memory: `image` and `label` are views of `buffer` and hold the last batch until the kernel overwrites them."""

    __slots__ = ("buffer", "image", "label")

    def __init__(self, buffer: NDArray[np.uint8], layout: BatchLayout) -> None:
        self.buffer = buffer
        self.image: NDArray[Any] = buffer[: layout.image_bytes].view(layout.image_dtype).reshape(layout.image_shape)
        self.label: NDArray[np.uint8] | None = None
        if layout.label_shape is not None:
            stop = layout.label_offset + layout.label_bytes
            self.label = buffer[layout.label_offset : stop].reshape(layout.label_shape)


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotStatistics:
    """Bytes that streams have reserved, and their bound."""

    reserved_bytes: int
    max_bytes: int


class SlotPool:
    """Bounded memory for the slots of all streams.

    Args:
        max_bytes: of all reserved slots together.
        allocate: size in bytes -> uint8 array of that size.
        budget: the setting that holds `max_bytes`, for errors.
    """

    def __init__(self, max_bytes: int, allocate: Callable[[int], NDArray[np.uint8]], *, budget: str = "streams.max_slot_bytes") -> None:
        self._max_bytes = max_bytes
        self._allocate = allocate
        self._budget = budget
        self._lock = threading.Lock()
        self._reserved_bytes = 0

    def reserve(self, layout: BatchLayout, count: int) -> list[Slot]:
        """Take `count` slots; give each back by `release`.

        Raises:
            BudgetError: they do not fit beside what other streams hold, or the machine has not the memory; nothing was taken.
        """
        size, wanted = layout.slot_bytes, layout.slot_bytes * count
        with self._lock:
            if self._reserved_bytes + wanted > self._max_bytes:
                raise BudgetError(
                    f"{count} slots of {size} bytes for this stream exceed the budget {self._budget} = {self._max_bytes} bytes, "
                    f"of which {self._reserved_bytes} are in use; ask for a smaller batch or patch, or try again later"
                )
            self._reserved_bytes += wanted
        try:
            return [Slot(self._allocate(size), layout) for _ in range(count)]
        except BaseException as error:
            with self._lock:
                self._reserved_bytes -= wanted
            if isinstance(error, MemoryError):
                raise BudgetError(
                    f"the machine has no memory for {count} slots of {size} bytes, which {self._budget} = {self._max_bytes} allows; "
                    "ask for a smaller batch or patch, or lower that budget and cache.max_bytes to what the machine has"
                ) from error
            raise

    def release(self, slot: Slot) -> None:
        """Give one slot back; its memory is freed with its last view, so the caller keeps none."""
        with self._lock:
            self._reserved_bytes -= slot.buffer.nbytes

    def statistics(self) -> SlotStatistics:
        """Sizes at this moment."""
        with self._lock:
            return SlotStatistics(reserved_bytes=self._reserved_bytes, max_bytes=self._max_bytes)
