"""The voxel bytes behind a text header: find the file that holds them, and read them to their end."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import NamedTuple

from augserver.errors import VolumeError

_READ_BYTES = 1 << 20


def data_beside(header: Path, name: str) -> Path:
    """The data file that a header names; it must lie in the header's folder.

    Raises:
        VolumeError: it is missing, elsewhere, or a list of files.
    """
    if not name or Path(name).name != name or name.upper().startswith("LIST") or "%" in name:
        raise VolumeError(
            f"{header.name}: its voxels are in {name!r}; only one data file in the same folder is taken: join them into one file"
        )
    file = header.with_name(name)
    if not file.is_file():
        raise VolumeError(f"{header.name}: its data file {name!r} is missing; put it beside the header")
    return file


class Payload(NamedTuple):
    """Bytes of voxels behind a header: how many, and their CRC-32."""

    length: int
    crc32: int


def raw_payload(file: Path, offset: int) -> Payload:
    """What lies in `file` from `offset` to its end."""
    length, crc = 0, 0
    with file.open("rb") as data:
        data.seek(offset)
        while part := data.read(_READ_BYTES):
            length, crc = length + len(part), zlib.crc32(part, crc)
    return Payload(length, crc)


def packed_payload(file: Path, offset: int, name: str, *, wbits: int) -> Payload:
    """What a zlib or gzip stream decodes to; reads to its end, where its checksum is, and keeps nothing.

    Args:
        offset: where in `file` the stream begins.
        name: for the error.
        wbits: as zlib.decompressobj takes it.
    Raises:
        VolumeError: the stream is corrupt, ends early, or something follows it.
    """
    decoder, length, crc = zlib.decompressobj(wbits), 0, 0
    with file.open("rb") as data:
        data.seek(offset)
        while not decoder.eof:
            part = data.read(_READ_BYTES)
            if not part:
                raise VolumeError(
                    f"{name}: the compressed voxels end early, after {length} bytes of voxels; copy the file again from its source"
                )
            while part:  # a few bytes can stand for gigabytes: decode in steps
                try:
                    voxels = decoder.decompress(part, _READ_BYTES)
                except zlib.error as error:
                    raise VolumeError(
                        f"{name}: the compressed voxels are corrupt ({error}); copy the file again from its source"
                    ) from error
                length, crc = length + len(voxels), zlib.crc32(voxels, crc)
                part = decoder.unconsumed_tail
        if decoder.unused_data or data.read(1):
            raise VolumeError(
                f"{name}: something follows the compressed voxels, which end after {length} bytes of voxels; write the file again"
            )
    return Payload(length, crc)
