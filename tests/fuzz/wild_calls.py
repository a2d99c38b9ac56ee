"""Calls that no sane client makes, by number: the same number is the same call. Shared by the fuzzing test and the load test.

A call is a kind and bytes. Requests are built from the contract's own descriptor, field by field, of values near every limit, then some are
cut, flipped or padded, so that all depths of the reading code are reached.
"""

from __future__ import annotations

import contextlib
import random
import socket
import struct
from collections.abc import Iterator
from typing import Any

import grpc
from augclient.wire.v1 import augserver_pb2 as pb
from google.protobuf.descriptor import FieldDescriptor

SERVICE = "/augserver.v1.AugServer/"
DEADLINE_S = 20.0
OVERSIZE_BYTES = (1 << 20) + 1  # above limits.max_request_bytes

# What a server may answer. UNKNOWN and INTERNAL are its own failures.
ANSWERS = {
    grpc.StatusCode.OK,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.UNAUTHENTICATED,
    grpc.StatusCode.CANCELLED,  # by us
}

_REQUESTS = {
    "GetDataset": pb.GetDatasetRequest,
    "GetVolume": pb.GetVolumeRequest,
    "StreamBatches": pb.StreamBatchesRequest,
    "GetSample": pb.GetSampleRequest,
    "Warp": pb.WarpPart,
}
_INTEGERS = (0, 1, 2, 3, 5, 7, 64, 255, 256, 1 << 20, (1 << 31) - 1, 1 << 31, (1 << 32) - 1, (1 << 63) - 1, (1 << 64) - 1)
_REALS = (0.0, -0.0, 0.5, 1.0, -1.0, 90.0, 1e-30, 1e30, -1e300, float("inf"), float("-inf"), float("nan"))
_TEXTS = (
    "",
    "case_1",
    "case_9",
    "center",
    "uniform",
    "valid",
    "foreground",
    "exact",
    "texture",
    "liver",
    "../../etc",
    "\x00",
    "ü" * 400,
    "int16",
    "float32",
)


def make_request(rng: random.Random, kind: Any) -> Any:
    """A message of `kind`, each field of it set or not."""
    message = kind()
    _fill(rng, message, depth=0)
    if kind is pb.StreamBatchesRequest and rng.random() < 0.7:  # or nearly all fall at the first check
        message.ClearField("patch")
        message.patch.extend(rng.choice([(3, 5, 7), (8, 11, 13), (1, 1, 1), (9, 9, 9)]))
        message.batch_size, message.steps, message.rank, message.world = rng.choice([1, 2, 4]), rng.randrange(3), 0, rng.choice([0, 1])
        message.ClearField("fingerprint")
        if rng.random() < 0.7:
            message.ClearField("recipe")
    return message


def make_bytes(rng: random.Random, kind: Any) -> bytes:
    """An encoded message of `kind`, or what became of it, or no message at all."""
    if rng.random() < 0.1:
        return rng.randbytes(rng.randrange(200))
    data = bytearray(make_request(rng, kind).SerializeToString())
    for _ in range(rng.choice([0, 0, 1, 3])):
        if data:
            data[rng.randrange(len(data))] = rng.randrange(256)
    if rng.random() < 0.15:
        del data[rng.randrange(len(data) + 1) :]
    if rng.random() < 0.1:
        data += rng.randbytes(rng.randrange(1, 30))
    return bytes(data)


def call_once(channel: grpc.Channel, number: int) -> grpc.StatusCode:
    """Make call `number`; what it ended with."""
    rng = random.Random(number)
    method = rng.choice(list(_REQUESTS))
    oversize = rng.random() < 0.002
    leave_after = rng.choice([30, 30, 1, 2])  # messages read before the client goes away: many streams are endless
    if method == "Warp":
        messages = [b"\0" * OVERSIZE_BYTES] if oversize else [make_bytes(rng, pb.WarpPart) for _ in range(rng.randrange(4))]
        call = channel.stream_stream(SERVICE + method)(iter(messages), timeout=DEADLINE_S)
    else:
        request = b"\0" * OVERSIZE_BYTES if oversize else make_bytes(rng, _REQUESTS[method])
        if method in ("GetDataset", "GetSample"):
            try:
                channel.unary_unary(SERVICE + method)(request, timeout=DEADLINE_S)
            except grpc.RpcError as error:
                return error.code()
            return grpc.StatusCode.OK
        call = channel.unary_stream(SERVICE + method)(request, timeout=DEADLINE_S)
    with contextlib.suppress(grpc.RpcError):
        for read, _ in enumerate(call, 1):
            if read >= leave_after:
                call.cancel()
    code = call.code()
    assert isinstance(code, grpc.StatusCode)
    return code


def half_close(address: tuple[str, int], number: int) -> None:
    """A connection that speaks no HTTP/2, or half of it, and goes away in some way."""
    rng = random.Random(number)
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + struct.pack(">I", 0)[1:] + b"\x04\x00" + bytes(4)
    words = rng.choice(
        [b"", rng.randbytes(100), b"GET / HTTP/1.1\r\n\r\n", preface[: rng.randrange(len(preface))], preface + rng.randbytes(60)]
    )
    with socket.create_connection(address, timeout=DEADLINE_S) as connection, contextlib.suppress(OSError):
        connection.sendall(words)
        if rng.random() < 0.5:
            connection.shutdown(socket.SHUT_WR)
        elif rng.random() < 0.5:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a reset


def _fill(rng: random.Random, message: Any, depth: int) -> None:
    for field in message.DESCRIPTOR.fields:
        if rng.random() < (0.5 if depth else 0.4):
            continue
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            continue
        values, repeated = list(_values(rng, field)), hasattr(getattr(message, field.name), "extend")
        if field.message_type is not None:
            target = getattr(message, field.name)
            for _ in range(rng.randrange(3) if repeated else 1):
                inner = target.add() if repeated else target
                inner.SetInParent()
                _fill(rng, inner, depth + 1)
        elif repeated:
            getattr(message, field.name).extend(rng.choices(values, k=rng.choice([0, 1, 2, 3, 3, 4, 12])))
        else:
            setattr(message, field.name, rng.choice(values))


def _values(rng: random.Random, field: Any) -> Iterator[Any]:
    kind = field.cpp_type
    if kind in (FieldDescriptor.CPPTYPE_UINT32, FieldDescriptor.CPPTYPE_UINT64):
        bound = 1 << (32 if kind == FieldDescriptor.CPPTYPE_UINT32 else 64)
        yield from (value for value in _INTEGERS if value < bound)
    elif kind in (FieldDescriptor.CPPTYPE_DOUBLE, FieldDescriptor.CPPTYPE_FLOAT):
        yield from _REALS
    elif kind == FieldDescriptor.CPPTYPE_BOOL:
        yield from (False, True)
    elif kind == FieldDescriptor.CPPTYPE_ENUM:
        yield from (0, 1, 2, 77)
    elif field.type == FieldDescriptor.TYPE_BYTES:
        yield from (b"", b"\0" * 12, rng.randbytes(33))
    elif kind == FieldDescriptor.CPPTYPE_STRING:
        yield from _TEXTS
