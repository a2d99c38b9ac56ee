"""What server and client say to each other over the Unix socket: three messages, each one packet of SOCK_SEQPACKET.

    server -> client   HELLO    "AUGH"  version u32   token 32 bytes            at once, when the peer is allowed
    server -> client   RING     "AUGR"  version u32   size u64   + one memfd    when a call to StreamBatches names the token
    client -> server   RELEASE  "AUGF"  zero u32      lease u64                 as often as leases end

Numbers are little-endian. Everything else travels over gRPC. Either end closes the socket to end it all: for the server the client is
dead then, and all its leases have ended.
"""

from __future__ import annotations

import struct

from augclient.errors import WireError

VERSION = 1
TOKEN_BYTES = 32
MAX_PACKET = 64  # bytes; a longer packet is malformed
ALIGNMENT = 64  # of every array in a ring

# F_SEAL_SEAL, _SHRINK, _GROW and _FUTURE_WRITE (no new writable mapping and no write(); the server's own mapping goes on). As numbers:
# Python 3.11 does not name the last one, and a client imports this on systems that have none.
SEALS = 0x01 | 0x02 | 0x04 | 0x10

_HELLO = struct.Struct("<4sI32s")
_RING = struct.Struct("<4sIQ")
_RELEASE = struct.Struct("<4sIQ")


def encode_hello(token: bytes) -> bytes:
    """HELLO with a token of TOKEN_BYTES."""
    return _HELLO.pack(b"AUGH", VERSION, token)


def encode_ring(size_bytes: int) -> bytes:
    """RING; the memfd goes along as ancillary data."""
    return _RING.pack(b"AUGR", VERSION, size_bytes)


def encode_release(lease: int) -> bytes:
    """RELEASE of one lease."""
    return _RELEASE.pack(b"AUGF", 0, lease)


def decode_hello(packet: bytes) -> bytes:
    """The token of a HELLO; WireError where it is none, or of another version."""
    _, version, token = _unpack(_HELLO, b"AUGH", packet)
    _check_version(version)
    return bytes(token)


def decode_ring(packet: bytes) -> int:
    """The size in bytes of a RING; WireError where it is none."""
    _, version, size_bytes = _unpack(_RING, b"AUGR", packet)
    _check_version(version)
    return int(size_bytes)


def decode_release(packet: bytes) -> int:
    """The lease of a RELEASE; WireError where it is none."""
    _, zero, lease = _unpack(_RELEASE, b"AUGF", packet)
    if zero:
        raise WireError(f"a RELEASE on the local socket has {zero} where 0 is due")
    return int(lease)


def _unpack(form: struct.Struct, magic: bytes, packet: bytes) -> tuple[bytes, int, int | bytes]:
    if len(packet) != form.size or packet[:4] != magic:
        raise WireError(f"a packet of {len(packet)} bytes that begins with {packet[:4]!r} came on the local socket; due is {magic!r}")
    first, second, third = form.unpack(packet)
    return first, second, third


def _check_version(version: int) -> None:
    if version != VERSION:
        raise WireError(
            f"the local socket speaks version {version}, this client version {VERSION}; use transport='grpc', or the same release"
        )
