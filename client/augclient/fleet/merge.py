"""Put batches together from the shares of several servers: each sample once, each batch whole, batches in order.

    server a  | step 7: samples 28, 31 | step 8: -      | step 9 ...        a share names the indices of its samples
    server b  | step 7: 29, 30         | step 8: 32..35 |
    batch 7   [ 28 | 29 | 30 | 31 ]  -> ready when all four are whole

The arrays belong to the trainer once a batch is ready, so nothing is written to a sample that is whole: what comes for it later, from
the slower of two servers that were asked for the same, is dropped. Not thread-safe: the receiver's lock is held.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

from augclient.errors import WireError
from augclient.stream.assembly import read_message
from augclient.stream.batch import Batch, Sample, samples_from_proto
from augclient.stream.buffers import BufferPool
from augclient.stream.form import BatchMemory
from augclient.stream.hand_over import HandOver
from augclient.stream.spec import StreamSpec
from augclient.wire.parts import Part
from augclient.wire.v1 import augserver_pb2 as pb

_ITEM_BYTES = {"float32": 4, "float16": 2, "uint8": 1}


class _OpenBatch:
    """A batch of which some samples are not whole yet."""

    def __init__(self, memory: BatchMemory, samples: int) -> None:
        self.memory = memory
        self.whole: list[Sample | None] = [None] * samples
        self.left = samples


class BatchMerge:
    """Batches first, first + stride, ... of a spec, at most `prefetch` of them received and not yet taken."""

    def __init__(self, spec: StreamSpec, pool: BufferPool, *, first: int, prefetch: int) -> None:
        self.spec = spec
        self.first_open = first  # the first step that is not whole
        self._pool = pool
        self._open: dict[int, _OpenBatch] = {}
        self.hand_over = HandOver(first, spec.stride, prefetch)

    @property
    def all_received(self) -> bool:
        """Whether the last batch is whole."""
        return self.spec.stop is not None and self.first_open >= self.spec.stop

    def may_receive(self, step: int) -> bool:
        """Whether there is room for batch `step` beside those that were received and not taken."""
        return self.hand_over.may_receive(step)

    def forget_open(self) -> None:
        """Drop what is not whole: its servers change, and all of it will be asked for again."""
        self._open.clear()

    def begin_share(self, step: int, header: memoryview, takes: Callable[[str], bool], sender: str) -> Share:
        """Where the samples of a share belong.

        Args:
            takes: whether the samples that were planned of a volume are the sender's to send.
            sender: for errors.
        Raises:
            WireError: the header is not one of a share of this batch. StateError: it is of another dataset.
        """
        message = read_message(pb.BatchHeader, header)
        spec = self.spec
        spec.form.check(step, message, samples=len(message.samples))
        samples = samples_from_proto(message.samples)
        first = step * spec.batch_size + spec.rank * spec.samples
        places = [sample.index - first for sample in samples]
        if not all(0 <= place < spec.samples for place in places) or any(b <= a for a, b in itertools.pairwise(places)):
            raise WireError(
                f"{sender}: batch {step} came with samples {[s.index for s in samples][:20]}; due are some of {first} to"
                f" {first + spec.samples - 1}, each once, in order"
            )
        strange = next((sample for sample in samples if not takes(sample.replaces or sample.volume)), None)
        if strange is not None:
            raise WireError(
                f"{sender}: it sent sample {strange.index} of volume {strange.replaces or strange.volume!r}, which falls to another server;"
                " servers of this version know shares of batches, older ones do not: update them, or connect to this one alone"
            )
        if step < self.first_open:
            return Share(self, step, None, places, samples, message)
        batch = self._open.get(step)
        channels, has_label = message.image_shape[1], bool(message.label_shape)
        if batch is None:
            batch = self._open[step] = _OpenBatch(spec.form.take_memory(self._pool, channels=channels, has_label=has_label), spec.samples)
        if (batch.memory.image.shape[1], batch.memory.label is not None) != (channels, has_label):
            raise WireError(f"{sender}: batch {step} came with {channels} channels, labels: {has_label}; other servers sent it otherwise")
        return Share(self, step, batch, places, samples, message)

    def settle(self) -> bool:
        """Move batches that are whole to the ready ones; whether there was one."""
        begun = self.first_open
        while (batch := self._open.get(self.first_open)) is not None and not batch.left:
            del self._open[self.first_open]
            samples = tuple(sample for sample in batch.whole if sample is not None)
            self.hand_over.put(Batch(self.first_open, batch.memory.image, batch.memory.label, samples))
            self.first_open += self.spec.stride
        return self.first_open > begun


class Share:
    """One server's samples of one batch, on their way in; made by `BatchMerge.begin_share`."""

    def __init__(
        self,
        merge: BatchMerge,
        step: int,
        batch: _OpenBatch | None,
        places: list[int],
        samples: tuple[Sample, ...],
        header: pb.BatchHeader,
    ) -> None:
        self._merge = merge
        self._step = step
        self._batch = batch
        self._places = places
        self._samples = samples
        voxels = math.prod(merge.spec.patch)
        self._image_bytes = math.prod(header.image_shape[1:]) * _ITEM_BYTES[header.image_dtype]
        self._label_bytes = voxels if header.label_shape else 0
        self._image_at = self._label_at = 0

    @property
    def size_bytes(self) -> tuple[int, int]:
        """Of all its samples' image and label."""
        return len(self._places) * self._image_bytes, len(self._places) * self._label_bytes

    def add(self, part: Part) -> None:
        """Copy a part's payload to where it belongs; WireError where it leaves a gap, overlaps, exceeds, or ends too early."""
        image_size, label_size = self.size_bytes
        memory = None if self._batch is None else self._batch.memory
        if part.image is not None and len(part.image):
            self._check("image", part.image_offset, len(part.image), self._image_at, image_size)
            if memory is not None:
                self._scatter(memory.image_bytes.data, self._image_bytes, self._image_at, part.image)
            self._image_at += len(part.image)
        if part.label is not None and len(part.label):
            self._check("label", part.label_offset, len(part.label), self._label_at, label_size)
            if memory is not None and memory.label_bytes is not None:
                self._scatter(memory.label_bytes.data, self._label_bytes, self._label_at, part.label)
            self._label_at += len(part.label)
        if not part.last:
            return
        if (self._image_at, self._label_at) != (image_size, label_size):
            raise WireError(
                f"batch {self._step}: a share of {len(self._places)} samples ended after {self._image_at} of {image_size} image bytes"
                f" and {self._label_at} of {label_size} label bytes"
            )
        self._finish()

    def _finish(self) -> None:
        if self._batch is None:
            return
        for place, sample in zip(self._places, self._samples, strict=True):
            if self._batch.whole[place] is None:
                self._batch.whole[place] = sample
                self._batch.left -= 1

    def _check(self, name: str, offset: int, size: int, at: int, total: int) -> None:
        if offset != at or offset + size > total:
            raise WireError(
                f"batch {self._step}: {name} bytes [{offset}, {offset + size}) of a share came where {at} of {total} were received;"
                " parts must follow each other without gap or overlap"
            )

    def _scatter(self, target: memoryview, sample_bytes: int, at: int, payload: memoryview) -> None:
        """Copy bytes [at, at + len) of the share's own array into the batch's, sample by sample."""
        whole = () if self._batch is None else self._batch.whole
        done = 0
        while done < len(payload):
            k, inside = divmod(at + done, sample_bytes)
            size = min(sample_bytes - inside, len(payload) - done)
            place = self._places[k]
            if whole[place] is None:
                start = place * sample_bytes + inside
                target[start : start + size] = payload[done : done + size]
            done += size
