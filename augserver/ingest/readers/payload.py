"""The voxels behind a text header (NRRD, MetaImage): where they lie, how they are packed, and reading them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from augserver.errors import VolumeError
from augserver.ingest.readers.voxel_stream import UNPACKING_ERRORS, length_of, read_exactly, skip_bytes, unpacked


@dataclass(frozen=True, slots=True, kw_only=True)
class Payload:
    """Where voxels lie.

    Attributes:
        files: one after the other, each with an equal part of the voxels.
        offset: bytes before the data in each, counted from the beginning of the file: an attached header.
        line_skip: lines to skip from there.
        packing: "raw", "gzip", "zlib", "bzip2", "hex" or "text".
        byte_skip: bytes to skip after unpacking; -n: the voxels end n - 1 bytes before the end.
    """

    files: Sequence[Path]
    packing: str
    offset: int = 0
    line_skip: int = 0
    byte_skip: int = 0


def read_payload(payload: Payload, dtype: np.dtype[Any], shape: Sequence[int], *, name: str) -> NDArray[Any]:
    """The voxels, in C order.

    Args:
        dtype: with the byte order of the file.
        shape: slowest axis first.
        name: of the header, for errors.
    Raises:
        VolumeError: the files hold fewer or more voxels, or are corrupt.
        OSError: a file cannot be read.
    """
    count, files = math.prod(shape), len(payload.files)
    if count % files:
        raise VolumeError(f"{name}: {count} voxels do not divide into {files} data files; correct the list of files")
    read = _read_text if payload.packing == "text" else _read_binary
    try:
        parts = [read(payload, file, dtype, count // files, name) for file in payload.files]
    except UNPACKING_ERRORS as error:
        raise VolumeError(
            f"{name}: its packed voxels are corrupt, end early, or something follows them ({error}); copy the files again from their source"
        ) from error
    return (parts[0] if files == 1 else np.concatenate(parts)).reshape(shape)


def _read_binary(payload: Payload, file: Path, dtype: np.dtype[Any], count: int, name: str) -> NDArray[Any]:
    size = count * dtype.itemsize
    with file.open("rb") as data:
        file_bytes = data.seek(0, 2)
        skip = payload.byte_skip
        if skip < 0:
            _to_the_data(data, payload, name)
            skip += length_of(unpacked(data, payload.packing)) - size + 1
            if skip < 0:
                raise VolumeError(f"{name}: is truncated: the header promises {size} bytes of voxels, {file.name} has fewer; copy it again")
        _to_the_data(data, payload, name)
        stream = unpacked(data, payload.packing)
        if not skip_bytes(stream, skip):
            raise VolumeError(f"{name}: the header skips {skip} bytes, {file.name} has fewer; correct the header, or copy the file again")
        if payload.byte_skip < -1:  # what follows the voxels is the header's wish
            data_bytes = stream.read(size)
            if len(data_bytes) < size:
                raise VolumeError(f"{name}: is truncated: {file.name} ends within the voxels; copy it again from its source")
            return np.frombuffer(data_bytes, dtype)
        return np.frombuffer(read_exactly(stream, size, payload.packing, file_bytes, name), dtype)


def _read_text(payload: Payload, file: Path, dtype: np.dtype[Any], count: int, name: str) -> NDArray[Any]:
    """Numbers with blanks, line ends or commas between them."""
    with file.open("rb") as data:
        _to_the_data(data, payload, name)
        if payload.byte_skip < 0 or not skip_bytes(data, payload.byte_skip):
            raise VolumeError(f"{name}: the header skips {payload.byte_skip} bytes of text, which is not possible; correct the header")
        words = data.read().replace(b",", b" ").split()
    if len(words) != count:
        raise VolumeError(f"{name}: the header promises {count} voxels as text, {file.name} has {len(words)}; copy the files again")
    wide = np.dtype(np.float64 if dtype.kind == "f" else np.uint64 if dtype.kind == "u" else np.int64)
    try:
        numbers = np.array(words).astype(wide)
    except (ValueError, OverflowError) as error:
        raise VolumeError(f"{name}: its voxels as text are no numbers of type {dtype.name} ({error}); correct the file") from error
    if dtype.kind != "f" and numbers.size and not np.iinfo(dtype).min <= numbers.min() <= numbers.max() <= np.iinfo(dtype).max:
        raise VolumeError(f"{name}: has voxels as text from {numbers.min()} to {numbers.max()}, beyond {dtype.name}; correct the type")
    with np.errstate(over="ignore"):  # what overflows becomes infinite, which is refused later by count
        return numbers.astype(dtype)


def _to_the_data(data: Any, payload: Payload, name: str) -> None:
    data.seek(payload.offset)
    for _ in range(payload.line_skip):
        if not data.readline():
            raise VolumeError(f"{name}: the header skips {payload.line_skip} lines, its data file has fewer; correct the header")
