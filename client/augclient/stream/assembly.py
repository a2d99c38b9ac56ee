"""Put the parts of a batch or volume together, in order and whole, or say what is wrong.

Buffers are reused, so a byte that never came would be a byte of an older batch: nothing is handed out before every byte of image and
label has arrived, each where the last one ended.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from google.protobuf.message import DecodeError

from augclient.errors import WireError
from augclient.stream.batch import Batch, samples_from_proto
from augclient.stream.buffers import BufferPool
from augclient.stream.call_loop import check_step
from augclient.stream.form import BatchForm
from augclient.stream.road import Road
from augclient.wire.array_filler import ArrayFiller
from augclient.wire.parts import Part, decode_part
from augclient.wire.v1 import augserver_pb2 as pb


class BatchAssembler:
    """Turns encoded BatchParts into batches of the expected form, on reused buffers or in shared memory.

    Args:
        road: knows the shared memory; None where there is none.
    """

    def __init__(self, form: BatchForm, pool: BufferPool, road: Road | None = None) -> None:
        self._form = form
        self._pool = pool
        self._road = road
        self._open: tuple[Batch, ArrayFiller] | None = None

    def reset(self) -> None:
        """Forget a half-received batch: its stream broke off."""
        self._open = None

    def add(self, data: memoryview, step: int, stride: int = 1) -> Batch | None:
        """Take one message of batch `step`, in a call for every `stride`-th batch.

        Returns:
            The batch when this was its last part, else None.
        Raises:
            StrideIgnored: the server sends every batch. WireError: not the part that is due. StateError: a batch of another dataset.
            BudgetError: no memory for the batch.
        """
        part = decode_part(data)
        check_step(part.step, step, stride)
        if part.slot is not None:
            return self._refer(part, part.slot)
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

    def _refer(self, part: Part, data: memoryview) -> Batch:
        """A batch that lies in shared memory, where the SlotRef `data` says."""
        step = part.step
        if self._road is None or self._open is not None or part.header is None or not part.last or part.image or part.label:
            raise WireError(f"batch {step}: a part with a slot must be a batch's only one, with a header and without bytes, when asked for")
        header = read_message(pb.BatchHeader, part.header)
        self._form.check(step, header, samples=self._form.samples)
        channels, has_label = header.image_shape[1], bool(header.label_shape)
        slot = read_message(pb.SlotRef, data)
        image, label, crowded = self._road.view(slot, *self._form.sizes(channels=channels, has_label=has_label))
        memory = self._form.shape_memory(image, label, channels=channels)
        if crowded:
            own = self._form.take_memory(self._pool, channels=channels, has_label=has_label)
            np.copyto(own.image, memory.image)
            if own.label is not None and memory.label is not None:
                np.copyto(own.label, memory.label)
            memory = own
        return Batch(step, memory.image, memory.label, samples_from_proto(header.samples))

    def _start(self, step: int, data: memoryview) -> tuple[Batch, ArrayFiller]:
        header = read_message(pb.BatchHeader, data)
        self._form.check(step, header, samples=self._form.samples)
        memory = self._form.take_memory(self._pool, channels=header.image_shape[1], has_label=bool(header.label_shape))
        batch = Batch(step, memory.image, memory.label, samples_from_proto(header.samples))
        return batch, ArrayFiller(memory.image_bytes, memory.label_bytes, f"batch {step}")


def read_message(message_class: Any, data: memoryview) -> Any:
    """Parse a small message; WireError where it is malformed."""
    try:
        return message_class.FromString(bytes(data))
    except DecodeError as error:
        raise WireError(f"a {message_class.DESCRIPTOR.name} of {len(data)} bytes cannot be read: {error}") from error
