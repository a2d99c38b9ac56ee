"""Put the parts of a batch or volume together, in order and whole, or say what is wrong.

Buffers are reused, so a byte that never came would be a byte of an older batch: nothing is handed out before every byte of image and
label has arrived, each where the last one ended.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError

from augclient.errors import BudgetError, StateError, WireError
from augclient.stream.batch import Batch, samples_from_proto
from augclient.stream.buffers import ALIGNMENT, BufferPool
from augclient.wire.array_filler import ArrayFiller
from augclient.wire.parts import decode_part
from augclient.wire.v1 import augserver_pb2 as pb

MAX_CHANNELS = 8  # of the contract; bounds what a header can make the client allocate


class BatchAssembler:
    """Turns encoded BatchParts into batches of the expected form, on reused buffers."""

    def __init__(self, *, samples: int, patch: Sequence[int], image_dtype: str, fingerprint: str, pool: BufferPool) -> None:
        """Args: N and (Z, Y, X) of every batch, its dtype's name, the dataset's fingerprint, where the memory comes from."""
        self._form = (samples, tuple(patch), image_dtype, fingerprint)
        self._dtype = np.dtype(image_dtype).newbyteorder("<")
        self._pool = pool
        self._open: tuple[Batch, ArrayFiller] | None = None

    def reset(self) -> None:
        """Forget a half-received batch: its stream broke off."""
        self._open = None

    def add(self, data: bytes, step: int) -> Batch | None:
        """Take one message of batch `step`.

        Returns:
            The batch when this was its last part, else None.
        Raises:
            WireError: not the part that is due. StateError: a batch of another dataset. BudgetError: no memory for the batch.
        """
        part = decode_part(data)
        if part.step != step:
            raise WireError(f"a part of batch {part.step} came where batch {step} was due")
        if part.header is not None:
            if self._open is not None:
                raise WireError(f"batch {step}: a second header; only the first part of a batch has one")
            self._open = self._start(step, part.header)
        if self._open is None:
            raise WireError(f"batch {step}: its first part came without a header")
        batch, filler = self._open
        filler.add(part)
        if not part.last:
            return None
        self._open = None
        return batch

    def _start(self, step: int, data: memoryview) -> tuple[Batch, ArrayFiller]:
        header = read_message(pb.BatchHeader, data)
        samples, patch, image_dtype, fingerprint = self._form
        image_shape, label_shape = tuple(header.image_shape), tuple(header.label_shape)
        if header.fingerprint != fingerprint:
            raise StateError(
                f"batch {step} is of dataset {header.fingerprint!r}, the stream began on {fingerprint!r}:"
                " the server was restarted with another dataset; start a new stream"
            )
        due = (samples, "1 to 8", *patch)
        if len(image_shape) != 5 or (image_shape[0], *image_shape[2:]) != (samples, *patch) or not 1 <= image_shape[1] <= MAX_CHANNELS:
            raise WireError(f"batch {step} has image shape {image_shape}; due is {due} (N, C, Z, Y, X)")
        if label_shape not in ((), (samples, *patch)):
            raise WireError(f"batch {step} has label shape {label_shape}; due is {(samples, *patch)} (N, Z, Y, X) or none")
        if header.image_dtype != image_dtype or len(header.samples) != samples:
            raise WireError(
                f"batch {step} has dtype {header.image_dtype!r} and {len(header.samples)} samples; due are {image_dtype!r} and {samples}"
            )
        image_bytes = math.prod(image_shape) * self._dtype.itemsize
        label_bytes = math.prod(label_shape) if label_shape else 0
        label_at = -(-image_bytes // ALIGNMENT) * ALIGNMENT
        try:
            buffer = self._pool.take(label_at + label_bytes)
        except MemoryError:
            raise BudgetError(
                f"no memory for a batch of {(label_at + label_bytes) / 1e6:.0f} MB; lower batch_size, patch or prefetch"
            ) from None
        image = buffer[:image_bytes]
        label = buffer[label_at:] if label_shape else None
        batch = Batch(
            step,
            image.view(self._dtype).reshape(image_shape),
            None if label is None else label.reshape(label_shape),
            samples_from_proto(header.samples),
        )
        return batch, ArrayFiller(image, label, f"batch {step}")


def read_message(message_class: Any, data: memoryview) -> Any:
    """Parse a small message; WireError where it is malformed."""
    try:
        return message_class.FromString(bytes(data))
    except DecodeError as error:
        raise WireError(f"a {message_class.DESCRIPTOR.name} of {len(data)} bytes cannot be read: {error}") from error
