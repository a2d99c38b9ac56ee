"""Read NRRD files, attached or detached, as teem's format definition says.

The voxels are taken from the bytes here. SimpleITK, which reads the format too, never looks at the CRC of gzipped voxels, knows
no bzip2, ignores units, and gives an axis without a direction 1 mm; where it or pynrrd and we both read a file, we agree
(tests/ingest/readers).
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from augserver.errors import VolumeError
from augserver.geometry import affine_of
from augserver.ingest.readers.data_files import data_file, is_pattern, listed_files, numbered_files
from augserver.ingest.readers.nifti_affine import UNPLACED
from augserver.ingest.readers.nrrd_affine import affine_of_nrrd
from augserver.ingest.readers.nrrd_header import NrrdHeader, read_nrrd_header
from augserver.ingest.readers.payload import Payload, read_payload
from augserver.ingest.scan import Scan, check_grid

_TYPES = {
    name: dtype
    for dtype, names in {
        "i1": "signed char,int8,int8_t",
        "u1": "uchar,unsigned char,uint8,uint8_t",
        "i2": "short,short int,signed short,signed short int,int16,int16_t",
        "u2": "ushort,unsigned short,unsigned short int,uint16,uint16_t",
        "i4": "int,signed int,int32,int32_t",
        "u4": "uint,unsigned int,uint32,uint32_t",
        "i8": "longlong,long long,long long int,signed long long,signed long long int,int64,int64_t",
        "u8": "ulonglong,unsigned long long,unsigned long long int,uint64,uint64_t",
        "f4": "float",
        "f8": "double",
    }.items()
    for name in names.split(",")
}
_PACKINGS = {
    "raw": "raw", "gzip": "gzip", "gz": "gzip", "bzip2": "bzip2", "bz2": "bzip2",
    "hex": "hex", "text": "text", "txt": "text", "ascii": "text",
}  # fmt: skip


def read_nrrd(path: Path, believe: str = "auto") -> Scan:
    """Read a .nrrd, or a .nhdr whose data files lie in its folder or below.

    An axis without a direction comes back as channels, whatever it means; the caller decides whether to take them.

    Args:
        path: of the header.
        believe: with nifti_affine.UNPLACED, a header without a place in the patient will do.
    Raises:
        VolumeError: truncated, corrupt, no 3-D grid of real numbers, or its place in the patient is not given.
    """
    name = path.name
    try:
        header = read_nrrd_header(path)
        sizes = _sizes(header, name)
        if believe == UNPLACED and len(sizes) == 3:
            affine, spatial, notes = affine_of((1, 1, 1)), (0, 1, 2), tuple[str, ...]()
        else:
            affine, spatial, notes = affine_of_nrrd(header, sizes, name)
        check_grid(tuple(sizes[axis] for axis in spatial), name=name)
        voxels = read_payload(_payload(header, path), _dtype(header, name), sizes[::-1], name=name)
    except OSError as error:
        raise VolumeError(f"{name}: cannot be read ({error.strerror or error}); copy the file again from its source") from error
    return Scan(voxels=_channels_first(voxels, spatial), affine=affine, format="nrrd", notes=notes)


def nrrd_files(path: Path) -> list[Path]:
    """The header and its data files.

    Raises:
        VolumeError: a data file is missing or elsewhere, or the header is no NRRD header.
        OSError: the header cannot be read.
    """
    return list(dict.fromkeys([path, *_data_files(read_nrrd_header(path), path)]))


def nrrd_voxel_count(path: Path) -> int:
    """How many values a header promises.

    Raises:
        VolumeError, OSError: the header cannot be read.
    """
    return math.prod(_sizes(read_nrrd_header(path), path.name))


def _sizes(header: NrrdHeader, name: str) -> tuple[int, ...]:
    try:
        sizes = tuple(int(word) for word in header.fields["sizes"].split())
        dimension = int(header.fields["dimension"])
    except (KeyError, ValueError) as error:
        got = {key: header.fields.get(key) for key in ("dimension", "sizes")}
        raise VolumeError(f"{name}: 'dimension' and 'sizes' must be whole numbers, got {got}; correct the header") from error
    if dimension != len(sizes):
        raise VolumeError(f"{name}: 'dimension' is {dimension}, but 'sizes' has {len(sizes)} numbers; correct the header")
    if any(size < 1 for size in sizes):
        raise VolumeError(f"{name}: an axis is empty: size {sizes} (x, y, z, ...); every axis needs at least one voxel")
    return sizes


def _dtype(header: NrrdHeader, name: str) -> np.dtype[Any]:
    wanted = header.fields.get("type", "")
    kind = _TYPES.get(" ".join(wanted.lower().split()))
    if kind is None:
        raise VolumeError(f"{name}: NRRD type {wanted!r} is not one number per voxel")
    order = header.fields.get("endian", "").lower()
    packing = _packing(header, name)
    if order not in ("little", "big") and (order or (kind[1] != "1" and packing != "text")):
        raise VolumeError(f"{name}: endian is {order or 'not given'}, so the order of bytes is unknown; allowed: little, big")
    return np.dtype(kind).newbyteorder(">" if order == "big" else "<")


def _packing(header: NrrdHeader, name: str) -> str:
    encoding = header.fields.get("encoding", "").lower()
    if encoding not in _PACKINGS:
        raise VolumeError(f"{name}: encoding {encoding!r} is not taken; write it again as raw or gzip")
    return _PACKINGS[encoding]


def _payload(header: NrrdHeader, path: Path) -> Payload:
    try:
        line_skip, byte_skip = (int(header.fields.get(key, "0")) for key in ("lineskip", "byteskip"))
    except ValueError as error:
        raise VolumeError(f"{path.name}: 'line skip' and 'byte skip' must be whole numbers; correct the header") from error
    if line_skip < 0:
        raise VolumeError(f"{path.name}: 'line skip' is {line_skip}, must be at least 0; correct the header")
    return Payload(
        files=_data_files(header, path) or [path],
        packing=_packing(header, path.name),
        offset=0 if "datafile" in header.fields else header.bytes,
        line_skip=line_skip,
        byte_skip=byte_skip,
    )


def _data_files(header: NrrdHeader, path: Path) -> list[Path]:
    """Empty if the voxels are attached to the header."""
    words = header.fields.get("datafile")
    if words is None:
        return []
    if words.split(" ")[0] != "LIST" and not is_pattern(words):
        return [data_file(path, words)]
    sizes = _sizes(header, path.name)
    numbers = words.split()[1:]
    has_subdim = len(numbers) == (1 if words.startswith("LIST") else 4)
    subdim = numbers.pop() if has_subdim else str(len(sizes) - 1)
    files = listed_files(path, header.listed) if words.startswith("LIST") else numbered_files(path, " ".join([words.split()[0], *numbers]))
    if not subdim.isdigit() or not 0 < int(subdim) <= len(sizes):
        raise VolumeError(f"{path.name}: each data file has {subdim!r} dimensions, allowed are 1 to {len(sizes)}; correct 'data file'")
    wanted = math.prod(sizes[int(subdim) :]) if int(subdim) < len(sizes) else sizes[-1]
    if len(files) != wanted and (int(subdim) < len(sizes) or wanted % len(files)):
        raise VolumeError(f"{path.name}: names {len(files)} data files, its sizes {sizes} want {wanted}; correct 'data file'")
    return files


def _channels_first(voxels: NDArray[Any], spatial: tuple[int, int, int]) -> NDArray[Any]:
    """(C, Z, Y, X) of an array whose axes are the header's, slowest first."""
    place = [voxels.ndim - 1 - axis for axis in spatial[::-1]]
    others = [axis for axis in range(voxels.ndim) if axis not in place]
    turned = voxels.transpose(*others, *place)
    return turned.reshape(-1, *turned.shape[-3:])
