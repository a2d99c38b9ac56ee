"""The form that every batch of a stream has: headers are checked against it, and memory is taken for it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from augclient.contract import MAX_CHANNELS
from augclient.errors import BudgetError, StateError, WireError
from augclient.stream.buffers import ALIGNMENT, BufferPool
from augclient.wire.v1 import augserver_pb2 as pb


@dataclass(frozen=True, slots=True)
class BatchMemory:
    """One batch's memory.

    Attributes:
        image: (N, C, Z, Y, X) of the stream's dtype, 64-byte aligned, contents undefined.
        label: uint8 (N, Z, Y, X), or None.
        image_bytes, label_bytes: the same memory as flat uint8 arrays.
    """

    image: NDArray[Any]
    label: NDArray[np.uint8] | None
    image_bytes: NDArray[np.uint8]
    label_bytes: NDArray[np.uint8] | None


@dataclass(frozen=True, slots=True)
class BatchForm:
    """N and (Z, Y, X) of every batch, its dtype's name, and the dataset's fingerprint."""

    samples: int
    patch: tuple[int, int, int]
    image_dtype: str
    fingerprint: str

    def check(self, step: int, header: pb.BatchHeader, *, samples: int) -> None:
        """Whether a header announces `samples` samples of this form.

        Raises:
            StateError: it is of another dataset. WireError: it is of another form.
        """
        image_shape, label_shape = tuple(header.image_shape), tuple(header.label_shape)
        if header.fingerprint != self.fingerprint:
            raise StateError(
                f"batch {step} is of dataset {header.fingerprint!r}, the stream began on {self.fingerprint!r}:"
                " the server was restarted with another dataset; start a new stream"
            )
        due = (samples, "1 to 8", *self.patch)
        if len(image_shape) != 5 or (image_shape[0], *image_shape[2:]) != (samples, *self.patch) or not 1 <= image_shape[1] <= MAX_CHANNELS:
            raise WireError(f"batch {step} has image shape {image_shape}; due is {due} (N, C, Z, Y, X)")
        if label_shape not in ((), (samples, *self.patch)):
            raise WireError(f"batch {step} has label shape {label_shape}; due is {(samples, *self.patch)} (N, Z, Y, X) or none")
        if header.image_dtype != self.image_dtype or len(header.samples) != samples:
            raise WireError(
                f"batch {step} has dtype {header.image_dtype!r} and {len(header.samples)} samples;"
                f" due are {self.image_dtype!r} and {samples}"
            )

    def take_memory(self, pool: BufferPool, *, channels: int, has_label: bool) -> BatchMemory:
        """Memory for a whole batch; BudgetError where there is none."""
        image_bytes, label_bytes = self.sizes(channels=channels, has_label=has_label)
        label_at = -(-image_bytes // ALIGNMENT) * ALIGNMENT
        size = label_at + label_bytes
        try:
            buffer = pool.take(size)
        except MemoryError:
            raise BudgetError(f"no memory for a batch of {size / 1e6:.0f} MB; lower batch_size, patch or prefetch") from None
        return self.shape_memory(buffer[:image_bytes], buffer[label_at:] if has_label else None, channels=channels)

    def sizes(self, *, channels: int, has_label: bool) -> tuple[int, int]:
        """Bytes of a whole batch's image and label; 0 without labels."""
        voxels = self.samples * math.prod(self.patch)
        return voxels * channels * np.dtype(self.image_dtype).itemsize, voxels if has_label else 0

    def shape_memory(self, image: NDArray[np.uint8], label: NDArray[np.uint8] | None, *, channels: int) -> BatchMemory:
        """Flat bytes of `sizes` as the arrays of a batch."""
        dtype = np.dtype(self.image_dtype).newbyteorder("<")
        shaped = image.view(dtype).reshape(self.samples, channels, *self.patch)
        return BatchMemory(shaped, None if label is None else label.reshape(self.samples, *self.patch), image, label)
