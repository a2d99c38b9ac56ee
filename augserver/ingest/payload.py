"""The voxel bytes behind a text header: find the file that holds them, and decode a stream to its end."""

from __future__ import annotations

import zlib
from pathlib import Path

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


def stream_length(file: Path, offset: int, name: str, *, wbits: int) -> int:
    """Bytes that a zlib or gzip stream decodes to; reads to the stream's end, where its checksum is.

    Args:
        offset: where in `file` the stream begins.
        name: for the error.
        wbits: as zlib.decompressobj takes it.
    Raises:
        VolumeError: the stream is corrupt, or ends early.
    """
    decoder, length = zlib.decompressobj(wbits), 0
    with file.open("rb") as data:
        data.seek(offset)
        while not decoder.eof:
            part = data.read(_READ_BYTES)
            if not part:
                raise VolumeError(
                    f"{name}: the compressed voxels end early, after {length} bytes of voxels; copy the file again from its source"
                )
            while part:  # a few bytes can stand for gigabytes: decode in steps, keep none
                try:
                    length += len(decoder.decompress(part, _READ_BYTES))
                except zlib.error as error:
                    raise VolumeError(
                        f"{name}: the compressed voxels are corrupt ({error}); copy the file again from its source"
                    ) from error
                part = decoder.unconsumed_tail
    return length
