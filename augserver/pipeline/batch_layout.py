"""How one batch lies in its slot.

one slot      | image, C order (N, C, Z, Y, X) | pad to 64 | label (N, Z, Y, X) |
"""

from __future__ import annotations

import math
import mmap
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_ALIGN = 64  # a cache line, the widest vector register, and what TensorFlow asks for to take an array without copying it


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

    @property
    def slot_stride(self) -> int:
        """Bytes from one slot to the next in shared memory: whole pages, so that each can be dropped without its neighbour."""
        return -(-self.slot_bytes // mmap.PAGESIZE) * mmap.PAGESIZE


class Slot:
    """One batch's memory: `image` and `label` are views of `buffer` and hold the last batch until the kernel overwrites them.

    Attributes:
        offset: of `buffer` in shared memory; 0 in private memory.
        label_offset: of `label` likewise; 0 without labels.
    """

    __slots__ = ("buffer", "image", "label", "label_offset", "offset")

    def __init__(self, buffer: NDArray[np.uint8], layout: BatchLayout, offset: int = 0) -> None:
        self.buffer = buffer
        self.offset = offset
        self.image: NDArray[Any] = buffer[: layout.image_bytes].view(layout.image_dtype).reshape(layout.image_shape)
        self.label: NDArray[np.uint8] | None = None
        self.label_offset = 0
        if layout.label_shape is not None:
            stop = layout.label_offset + layout.label_bytes
            self.label = buffer[layout.label_offset : stop].reshape(layout.label_shape)
            self.label_offset = offset + layout.label_offset
