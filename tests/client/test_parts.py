"""The hand-written wire format against generated code, both ways."""

from __future__ import annotations

import numpy as np
import pytest
from augclient.errors import WireError
from augclient.wire.parts import Part, decode_part, encode_part, encode_payload, split_payload, split_samples
from augclient.wire.v1 import augserver_pb2 as pb
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st

uint64 = st.integers(0, 2**64 - 1)
payload = st.binary(max_size=300)
headers = st.builds(
    lambda shape, index, volume: pb.BatchHeader(image_shape=shape, samples=[pb.Sample(index=index, volume=volume)]),
    st.lists(st.integers(0, 2**32 - 1), max_size=5),
    uint64,
    st.text(max_size=5),
)
slots = st.builds(lambda lease, image, label: pb.SlotRef(lease=lease, image_offset=image, label_offset=label), uint64, uint64, uint64)


def fields(part: Part) -> tuple[object, ...]:
    """The parts of a Part as plain values; absent and empty bytes are one to proto3."""
    header = None if part.header is None else pb.BatchHeader.FromString(bytes(part.header))
    slot = None if part.slot is None else pb.SlotRef.FromString(bytes(part.slot))
    return (part.step, header, part.image_offset, bytes(part.image or b""), part.label_offset, bytes(part.label or b""), part.last, slot)


def message_fields(message: pb.BatchPart) -> tuple[object, ...]:
    header = message.header if message.HasField("header") else None
    slot = message.slot if message.HasField("slot") else None
    return (message.step, header, message.image_offset, message.image, message.label_offset, message.label, message.last, slot)


@given(uint64, st.none() | headers, uint64, st.none() | payload, uint64, st.none() | payload, st.booleans())
def test_encoding_equals_generated_code_byte_for_byte(step, header, image_offset, image, label_offset, label, last):
    message = pb.BatchPart(
        step=step, header=header, image_offset=image_offset, image=image, label_offset=label_offset, label=label, last=last
    )
    ours = encode_part(step, header and header.SerializeToString(), image_offset, image, label_offset, label, last)
    assert ours == message.SerializeToString()
    assert fields(decode_part(ours)) == message_fields(message)


@given(st.text(max_size=8), uint64, payload, uint64, payload, st.booleans())
def test_volume_parts_share_the_layout(name, image_offset, image, label_offset, label, last):
    info = pb.VolumeInfo(id=name, shape=[1, 5, 7, 11])
    message = pb.VolumePart(info=info, image_offset=image_offset, image=image, label_offset=label_offset, label=label, last=last)
    ours = encode_part(0, info.SerializeToString(), image_offset, image, label_offset, label, last)
    assert ours == message.SerializeToString()
    part = decode_part(ours)
    assert pb.VolumeInfo.FromString(bytes(part.header)) == info
    assert (part.step, part.image_offset, bytes(part.image or b"")) == (0, image_offset, image)


def test_payload_of_an_array_is_its_c_order_bytes():
    image = np.arange(2 * 3 * 5, dtype="<f4").reshape(2, 3, 5)
    message = pb.BatchPart.FromString(encode_part(7, None, 0, image.data, 0, None, False))
    np.testing.assert_array_equal(np.frombuffer(message.image, "<f4").reshape(2, 3, 5), image)


def test_decoded_payload_is_a_view_on_the_received_bytes():
    data = encode_part(1, None, 0, b"abc", 0, b"de", True)
    part = decode_part(data)
    assert part.image.obj is data
    assert part.label.obj is data


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


unknown = st.one_of(
    st.builds(lambda n, v: varint(n << 3) + varint(v), st.integers(9, 2**29 - 1), uint64),
    st.builds(lambda n, v: varint(n << 3 | 1) + v, st.integers(1, 2**29 - 1), st.binary(min_size=8, max_size=8)),
    st.builds(lambda n, v: varint(n << 3 | 2) + varint(len(v)) + v, st.integers(9, 2**29 - 1), st.binary(max_size=20)),
    st.builds(lambda n, v: varint(n << 3 | 5) + v, st.integers(1, 2**29 - 1), st.binary(min_size=4, max_size=4)),
)
known = st.one_of(
    st.builds(lambda n, v: varint(n << 3) + varint(v), st.sampled_from([1, 3, 4, 5]), uint64),
    st.builds(lambda h: b"\x12" + varint(len(h)) + h, headers.map(lambda h: h.SerializeToString())),
    st.builds(lambda s: b"\x42" + varint(len(s)) + s, slots.map(lambda s: s.SerializeToString())),
    st.builds(lambda n, v: varint(n << 3 | 2) + varint(len(v)) + v, st.sampled_from([6, 7]), payload),
)


@given(st.lists(known | unknown, max_size=8))
def test_any_order_repeats_and_unknown_fields_are_read_as_generated_code_reads_them(pieces):
    data = b"".join(pieces)
    assert fields(decode_part(data)) == message_fields(pb.BatchPart.FromString(data))


@settings(max_examples=400)
@given(st.lists(known | unknown, max_size=5), st.binary(max_size=12), st.integers(0, 200), st.integers(0, 255))
def test_damaged_bytes_give_a_wire_error_or_what_generated_code_reads(pieces, tail, place, byte):
    whole = b"".join(pieces)
    changed = bytearray(whole + tail)
    if place < len(changed):
        changed[place] = byte
    for data in (bytes(changed), whole[:place]):
        try:
            part = decode_part(data)
        except WireError:
            continue
        nested = ((pb.BatchHeader, part.header), (pb.SlotRef, part.slot))
        if not all(view is None or readable(kind, bytes(view)) for kind, view in nested):
            continue  # a nested message is parsed, and refused, by whoever reads it
        try:
            pb.BatchPart.FromString(data)
        except DecodeError:  # a nested message in several pieces: each is parsed there, here what they make together
            assert sum(data.count(tag) for tag in (b"\x12", b"\x42")) > 1
            continue
        assert fields(part) == message_fields(pb.BatchPart.FromString(data))


@settings(max_examples=400)
@given(st.binary(max_size=40))
def test_random_bytes_that_generated_code_reads_are_read_alike(data):
    try:
        message = pb.BatchPart.FromString(data)
    except DecodeError:
        return
    if not any(tag & 7 in (3, 4) for tag in data):  # no group anywhere
        assert fields(decode_part(data)) == message_fields(message)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"\x08", "cut off"),
        (b"\x08" + b"\xff" * 10, "longer than 10"),
        (b"\x32\x05abc", "claims 5 bytes at offset 2 of a message of 5"),
        (b"\x32" + b"\xff" * 9 + b"\x01", "claims"),
        (b"\x0d\x00\x00", "ends inside"),
        (b"\x00\x01", "field number 0"),
        (b"\x0b\x0c", "wire type 3"),
        (b"\x0f", "wire type 7"),
    ],
)
def test_malformed_bytes_are_named(data, words):
    with pytest.raises(WireError, match=words):
        decode_part(data)


def readable(message_class, data: bytes) -> bool:
    try:
        message_class.FromString(data)
    except DecodeError:
        return False
    return True


@given(st.integers(0, 90), st.integers(0, 40), st.integers(1, 50))
def test_split_parts_are_bounded_and_cover_image_and_label_once_in_order(image_bytes, label_bytes, part_bytes):
    stretches = list(split_payload(image_bytes, label_bytes, part_bytes))
    image = [k for s in stretches for k in range(s.image_start, s.image_stop)]
    label = [k for s in stretches for k in range(s.label_start, s.label_stop)]
    assert image == list(range(image_bytes))
    assert label == list(range(label_bytes))
    assert [s.last for s in stretches] == [False] * (len(stretches) - 1) + [True]
    assert all(s.image_stop - s.image_start + s.label_stop - s.label_start <= part_bytes for s in stretches)


@pytest.mark.parametrize("whole_samples", [False, True])
@pytest.mark.parametrize("with_label", [False, True])
def test_generated_code_puts_a_split_batch_together_again(whole_samples, with_label):
    image = np.arange(3 * 2 * 5 * 7, dtype="<f4").reshape(3, 2, 5, 7)
    label = (np.arange(3 * 5 * 7) % 251).astype(np.uint8).reshape(3, 5, 7) if with_label else None
    label_bytes = 0 if label is None else label.nbytes
    stretches = split_samples(3, image.nbytes, label_bytes) if whole_samples else split_payload(image.nbytes, label_bytes, 100)
    views = [None if a is None else memoryview(a).cast("B") for a in (image, label)]
    got_image, got_label = bytearray(image.nbytes), bytearray(label_bytes)
    parts = [pb.BatchPart.FromString(data) for data in encode_payload(4, b"\x12\x05uint8", views[0], views[1], stretches)]
    for part in parts:
        got_image[part.image_offset : part.image_offset + len(part.image)] = part.image
        got_label[part.label_offset : part.label_offset + len(part.label)] = part.label
    assert [part.HasField("header") for part in parts] == [True] + [False] * (len(parts) - 1)
    assert [part.last for part in parts] == [False] * (len(parts) - 1) + [True]
    assert {part.step for part in parts} == {4}
    assert bytes(got_image) == image.tobytes()
    assert bytes(got_label) == (b"" if label is None else label.tobytes())
    assert len(parts) == 3 if whole_samples else len(parts) > 8
