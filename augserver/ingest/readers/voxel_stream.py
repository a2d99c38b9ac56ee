"""Read packed or plain voxels to their end: exactly as many as a header promises, with every checksum on the way."""

from __future__ import annotations

import bz2
import gzip
import io
import os
import zlib
from collections.abc import Iterator
from typing import IO, Any, cast

import numpy as np
from isal import igzip
from isal.igzip_lib import IsalError
from numpy.typing import NDArray

from augserver.errors import VolumeError

UNPACKING_ERRORS: tuple[type[Exception], ...] = (EOFError, gzip.BadGzipFile, zlib.error, IsalError)  # type: ignore[assignment]  # isal's stub errs
READ_BYTES = 16 << 20
_MOST_BYTES = {"raw": 1, "gzip": 1040, "zlib": 1040, "bzip2": 1 << 21, "hex": 1}
"""Bytes of voxels per byte of a file, at most: deflate packs 1032 into one, bzip2 millions that are equal."""
_MAX_PADDING = 4096  # zero bytes that some writers leave after the voxels
_GZIP_MAGIC = b"\x1f\x8b"
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"


def unpacked(file: IO[bytes], packing: str) -> IO[bytes]:
    """A stream of what `file` holds from its position on.

    Args:
        packing: "raw", "gzip", "zlib" (or gzip, which MetaImage takes too), "bzip2" or "hex".
    """
    if packing == "gzip":
        return cast("IO[bytes]", igzip.IGzipFile(fileobj=file))  # 3.7 times as fast as zlib, and checks the CRC
    if packing == "bzip2":
        return cast("IO[bytes]", bz2.BZ2File(file))
    if packing == "zlib":
        start = file.tell()
        zipped = file.read(2) == _GZIP_MAGIC
        file.seek(start)
        return unpacked(file, "gzip") if zipped else cast("IO[bytes]", io.BufferedReader(_Pieces(_inflated(file))))
    if packing == "hex":
        return cast("IO[bytes]", io.BufferedReader(_Pieces(_from_hex(file))))
    return file


def sniffed_packing(file: IO[bytes]) -> str:
    """How a whole file is packed, by its first bytes: "gzip", "bzip2", "zstd" (which `unpacked` does not know) or "raw"."""
    start = file.read(4)
    file.seek(0)
    if start[:2] == _GZIP_MAGIC:
        return "gzip"
    if start == _ZSTD_MAGIC:
        return "zstd"
    return "bzip2" if start[:3] == b"BZh" and start[3:].isdigit() else "raw"


def read_exactly(stream: IO[bytes], size: int, packing: str, file_bytes: int, name: str) -> NDArray[np.uint8]:
    """`size` bytes; reads on to the end, which checks the checksum of a packed stream and finds what is too much.

    Memory grows with what the file can hold, not with what its header claims: pages that nothing is read into are never resident.

    Args:
        stream: of `unpacked`, at the first voxel.
        file_bytes: size of the file on disk.
        name: for the error.
    Raises:
        VolumeError: fewer bytes, or more than some zeros.
        UNPACKING_ERRORS: the stream is corrupt or ends early.
    """
    filled = 0
    data = np.empty(min(size, file_bytes * _MOST_BYTES[packing]), np.uint8)
    while filled < data.size and (count := stream.readinto(data.data[filled : filled + READ_BYTES])):  # type: ignore[attr-defined]
        filled += count
    if filled < size:
        raise VolumeError(
            f"{name}: is truncated: the header promises {size} bytes of voxels, the file has {filled}; copy it again from its source"
        )
    rest = stream.read(_MAX_PADDING + 1)
    if len(rest) > _MAX_PADDING or any(rest):
        raise VolumeError(
            f"{name}: holds more than the {size} bytes of voxels its header promises: header and voxels do not belong together"
        )
    return data


def skip_bytes(stream: IO[bytes], count: int) -> bool:
    """Read past `count` bytes without keeping them; False if there are fewer."""
    while count and (part := stream.read(min(READ_BYTES, count))):
        count -= len(part)
    return not count


def length_of(stream: IO[bytes]) -> int:
    """How many bytes a stream has from here to its end."""
    if isinstance(stream, io.BufferedReader) and stream.seekable():
        return os.fstat(stream.fileno()).st_size - stream.tell()
    length = 0
    while part := stream.read(READ_BYTES):
        length += len(part)
    return length


class _Pieces(io.RawIOBase):
    """A stream of what an iterator yields; nothing is kept but the piece in hand."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._rest:
            piece = next(self._pieces, None)
            if piece is None:
                return 0
            self._rest = memoryview(piece)
        count = min(len(buffer), len(self._rest))
        buffer[:count], self._rest = self._rest[:count], self._rest[count:]
        return count


def _inflated(file: IO[bytes]) -> Iterator[bytes]:
    decoder = zlib.decompressobj()
    while not decoder.eof:
        packed = file.read(READ_BYTES >> 4)
        if not packed:
            raise EOFError("the compressed voxels end early")
        while packed and not decoder.eof:  # a few bytes can stand for gigabytes: in steps
            yield decoder.decompress(packed, READ_BYTES)
            packed = decoder.unconsumed_tail
    if any(decoder.unused_data) or any(file.read(_MAX_PADDING)):
        raise zlib.error("something follows the compressed voxels")


def _from_hex(file: IO[bytes]) -> Iterator[bytes]:
    digits = b""
    while text := file.read(READ_BYTES):
        digits += text.translate(None, b" \t\r\n\v\f")
        whole = len(digits) & ~1
        yield _bytes_of(digits[:whole])
        digits = digits[whole:]
    if digits:
        raise zlib.error("the number of hexadecimal digits is odd")


def _bytes_of(digits: bytes) -> bytes:
    try:
        return bytes.fromhex(digits.decode("ascii"))
    except ValueError as error:
        raise zlib.error("there are other signs than hexadecimal digits") from error
