"""BatchPart and VolumePart on the wire, without a message object around the payload.

The two messages share one layout (`header` is `BatchHeader header` or `VolumeInfo info`, a VolumePart has no step):

    field  1 step   2 header   3 image_offset   4 label_offset   5 last   6 image   7 label   8 slot
    tag    0x08     0x12       0x18             0x20             0x28     0x32      0x3a      0x42

A part with a slot carries no payload and is written by generated code: only reading it is done here.

What is written here is what generated code writes, and what generated code reads is read here alike: the tests hold both.
Generated code copies the payload into a message and out of it again; here it is copied once when encoding (the join), and
not at all when decoding (views). No array is made and no shape is checked here: stream/ does that.
Groups, which proto3 does not have, are refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

from augclient.errors import WireError

PART_BYTES = 1 << 20  # as augserver's limits.part_bytes: both ends copy a part while it lies in a core's own cache

Buffer: TypeAlias = bytes | bytearray | memoryview  # of an array: its `.data`

_STEP, _HEADER, _IMAGE_OFFSET, _LABEL_OFFSET, _LAST, _IMAGE, _LABEL, _SLOT = 0x08, 0x12, 0x18, 0x20, 0x28, 0x32, 0x3A, 0x42
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_UINT64 = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class Part:
    """One decoded message; the views keep the received bytes alive.

    Attributes:
        step: number of the batch; 0 in a VolumePart.
        header: serialised BatchHeader or VolumeInfo; None where the message has none.
        image_offset, label_offset: where the stretch belongs in the whole array, in bytes.
        image, label: a stretch of the array's bytes, or None.
        last: whether this message ends the batch or volume.
        slot: serialised SlotRef; None where the message has none, or is a VolumePart.
    """

    step: int
    header: memoryview | None
    image_offset: int
    image: memoryview | None
    label_offset: int
    label: memoryview | None
    last: bool
    slot: memoryview | None = None


@dataclass(frozen=True, slots=True)
class Stretch:
    """The bytes [start, stop) of image and label that travel in one message; start == stop: none of it."""

    image_start: int
    image_stop: int
    label_start: int
    label_stop: int
    last: bool


def encode_part(
    step: int,
    header: bytes | None,
    image_offset: int,
    image: Buffer | None,
    label_offset: int,
    label: Buffer | None,
    last: bool,
) -> bytes:
    """Encode one BatchPart, or one VolumePart with step 0.

    Args:
        step: number of the batch, in [0, 2**64).
        header: serialised BatchHeader (VolumeInfo), in the first part only.
        image_offset, label_offset: bytes from the start of the whole array.
        image, label: C-contiguous buffers, copied once, into the result; None or empty: field absent.
        last: whether this message ends the batch or volume.
    Returns:
        The message's bytes, equal to those of generated code.
    """
    pieces: list[Buffer] = [b""]
    head = bytearray()
    if step:
        head += _field(_STEP, step)
    if header is not None:
        head += _field(_HEADER, len(header)) + header
    if image_offset:
        head += _field(_IMAGE_OFFSET, image_offset)
    if label_offset:
        head += _field(_LABEL_OFFSET, label_offset)
    if last:
        head += b"\x28\x01"
    image_bytes = 0 if image is None else memoryview(image).nbytes
    label_bytes = 0 if label is None else memoryview(label).nbytes
    if image is not None and image_bytes:
        head += _field(_IMAGE, image_bytes)
        pieces.append(image)
    pieces[0] = head
    if label is not None and label_bytes:
        pieces.append(_field(_LABEL, label_bytes))
        pieces.append(label)
    return b"".join(pieces)


def decode_part(data: Buffer) -> Part:
    """Decode one BatchPart or VolumePart; unknown fields are skipped.

    Args:
        data: one whole message as received.
    Returns:
        Its fields; `header`, `image` and `label` are views on `data`.
    Raises:
        WireError: `data` is not such a message: cut off, a length beyond the end, a varint of more than 10 bytes, a bad tag.
    """
    view = memoryview(data)
    size = len(view)
    step = image_offset = label_offset = 0
    last = False
    header: memoryview | None = None
    image: memoryview | None = None
    label: memoryview | None = None
    slot: memoryview | None = None
    at = 0
    while at < size:
        tag, at = _read_varint(view, at)
        kind = tag & 7
        if kind == _VARINT:
            value, at = _read_varint(view, at)
            if tag == _STEP:
                step = value
            elif tag == _IMAGE_OFFSET:
                image_offset = value
            elif tag == _LABEL_OFFSET:
                label_offset = value
            elif tag == _LAST:
                last = value != 0
        elif kind == _BYTES:
            length, at = _read_varint(view, at)
            end = at + length
            if end > size:
                raise WireError(f"field {tag >> 3} of a part claims {length} bytes at offset {at} of a message of {size}")
            if tag == _HEADER:
                # a message field that comes twice is merged, which is what parsing the concatenation does
                header = view[at:end] if header is None else memoryview(bytes(header) + bytes(view[at:end]))
            elif tag == _SLOT:
                slot = view[at:end] if slot is None else memoryview(bytes(slot) + bytes(view[at:end]))
            elif tag == _IMAGE:
                image = view[at:end]
            elif tag == _LABEL:
                label = view[at:end]
            at = end
        elif kind in (_FIXED64, _FIXED32):
            at += 8 if kind == _FIXED64 else 4
        else:
            raise WireError(f"tag {tag:#x} before offset {at} of a part has wire type {kind}; 0, 1, 2 and 5 are allowed")
        if not 0 < tag >> 3 < 1 << 29:
            raise WireError(f"tag {tag:#x} before offset {at} of a part has field number {tag >> 3}; allowed 1 to {(1 << 29) - 1}")
    if at > size:
        raise WireError(f"a part of {size} bytes ends inside a field")
    return Part(step, header, image_offset, image, label_offset, label, last, slot)


def split_payload(image_bytes: int, label_bytes: int, part_bytes: int = PART_BYTES) -> Iterator[Stretch]:
    """Cut a batch or volume into messages of up to `part_bytes` of payload: the image in order, then the label.

    The message that ends the image carries the beginning of the label too. An empty payload is one empty message.
    """
    total = image_bytes + label_bytes
    for start in range(0, max(total, 1), part_bytes):
        stop = min(start + part_bytes, total)
        yield Stretch(
            min(start, image_bytes),
            min(stop, image_bytes),
            max(start - image_bytes, 0),
            max(stop - image_bytes, 0),
            stop == total,
        )


def split_samples(samples: int, image_bytes: int, label_bytes: int) -> Iterator[Stretch]:
    """Cut a batch of `samples` equal samples into one message each; the bytes are those of the whole batch. None: one empty message."""
    if not samples:
        yield Stretch(0, 0, 0, 0, True)
        return
    image, label = image_bytes // samples, label_bytes // samples
    for k in range(samples):
        yield Stretch(k * image, (k + 1) * image, k * label, (k + 1) * label, k == samples - 1)


def encode_payload(
    step: int, header: bytes | None, image: memoryview, label: memoryview | None, stretches: Iterator[Stretch]
) -> Iterator[bytes]:
    """Encode the messages of one batch or volume, one by one as they are asked for.

    Args:
        step, header: as in encode_part; the header goes into the first message.
        image, label: the whole arrays as flat byte views (format "B"); they must live and stay unchanged until the last message.
        stretches: from split_payload or split_samples.
    """
    first: bytes | None = header
    for s in stretches:
        label_view = None if label is None else label[s.label_start : s.label_stop]
        image_view = image[s.image_start : s.image_stop]
        image_offset = s.image_start if len(image_view) else 0
        label_offset = s.label_start if label_view is not None and len(label_view) else 0
        yield encode_part(step, first, image_offset, image_view, label_offset, label_view, s.last)
        first = None


def _field(tag: int, value: int) -> bytes:
    """A tag of one byte and a varint."""
    out = bytearray((tag,))
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def _read_varint(view: memoryview, at: int) -> tuple[int, int]:
    """The varint at `at`, as an unsigned 64-bit value, and the offset behind it."""
    value = shift = 0
    size = len(view)
    while at < size and shift < 70:
        byte = view[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value & _UINT64, at
        shift += 7
    raise WireError(f"a varint at offset {at} of a message of {size} bytes is cut off or longer than 10 bytes")
