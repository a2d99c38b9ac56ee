"""Look at an NRRD header and its data before SimpleITK does: it never reads the CRC of gzipped voxels and guesses what is not given."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np

from augserver.errors import VolumeError
from augserver.ingest.readers.payload import Payload, data_beside, packed_payload, raw_payload
from augserver.ingest.scan import check_grid

_MAX_HEADER_BYTES = 1 << 20
_SPACES = ("left-posterior-superior", "lps", "right-anterior-superior", "ras", "left-anterior-superior", "las")
_ITEM_BYTES = {
    1: ("signed char", "int8", "int8_t", "uchar", "unsigned char", "uint8", "uint8_t"),
    2: ("short", "short int", "signed short", "signed short int", "int16", "int16_t",
        "ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"),
    4: ("int", "signed int", "int32", "int32_t", "uint", "unsigned int", "uint32", "uint32_t", "float"),
    8: ("longlong", "long long", "long long int", "signed long long", "signed long long int", "int64", "int64_t",
        "ulonglong", "unsigned long long", "unsigned long long int", "uint64", "uint64_t", "double"),
}  # fmt: skip


def check_nrrd(path: Path) -> tuple[tuple[int, ...], Payload]:
    """Refuse an NRRD whose voxels are not all there, or whose place in the patient is not given.

    Returns:
        Its size (x, y, z) and its voxels' checksum: SimpleITK must find the same.
    Raises:
        VolumeError: says what is missing or wrong.
        OSError: the file cannot be read.
    """
    fields, header_bytes = _read_header(path)
    try:
        shape = tuple(int(word) for word in fields["sizes"].split())
    except (KeyError, ValueError) as error:
        raise VolumeError(f"{path.name}: 'sizes' must be whole numbers, got {fields.get('sizes')!r}") from error
    check_grid(shape, name=path.name)
    _check_place(path, fields)
    item_bytes = next((size for size, names in _ITEM_BYTES.items() if fields.get("type", "").lower() in names), None)
    if item_bytes is None:
        raise VolumeError(f"{path.name}: NRRD type {fields.get('type')!r} is not one number per voxel")
    if any(fields.get(key, "0") != "0" for key in ("line skip", "lineskip", "byte skip", "byteskip")):
        raise VolumeError(f"{path.name}: skips into a foreign data file (line skip, byte skip), which is not taken; write it again without")
    expected = int(np.prod(shape, dtype=object)) * item_bytes
    data_name = fields.get("data file", fields.get("datafile"))
    file, offset = (path, header_bytes) if data_name is None else (data_beside(path, data_name), 0)
    encoding = fields.get("encoding", "").lower()
    if encoding in ("gzip", "gz"):
        got = packed_payload(file, offset, path.name, wbits=zlib.MAX_WBITS | 16)
    elif encoding == "raw":
        got = raw_payload(file, offset)
    else:
        raise VolumeError(f"{path.name}: encoding {encoding!r} is not taken; write it again as raw or gzip")
    if got.length != expected:
        raise VolumeError(
            f"{path.name}: the header promises {expected} bytes of voxels, {file.name} has {got.length}; copy the files again"
        )
    return shape, got


def _check_place(path: Path, fields: dict[str, str]) -> None:
    space = fields.get("space", "").lower()
    if space not in _SPACES:
        raise VolumeError(
            f"{path.name}: space is {fields.get('space')!r}, so which way is left, front and up is unknown; "
            f"allowed: {', '.join(_SPACES[::2])}; correct the header"
        )
    for key in ("space directions", "space origin"):
        if key not in fields:
            raise VolumeError(f"{path.name}: has no {key!r}, so the voxels have no place in the patient; add it to the header")
    units = set(fields.get("space units", "").replace('"', " ").split()) - {"mm", "millimeter"}
    if units:
        raise VolumeError(f"{path.name}: lengths are in {sorted(units)}, must be mm; convert the header")


def _read_header(path: Path) -> tuple[dict[str, str], int]:
    """The `key: value` fields up to the blank line (or the end of a detached header), and the bytes they take."""
    fields: dict[str, str] = {}
    used = 0
    with path.open("rb") as file:
        if not file.readline(16).startswith(b"NRRD"):
            raise VolumeError(f"{path.name}: is no NRRD: it does not begin with 'NRRD'")
        used = file.tell()
        while used < _MAX_HEADER_BYTES and (line := file.readline(_MAX_HEADER_BYTES)):
            used += len(line)
            text = line.decode("latin-1").strip()
            if not text:
                break
            key, separator, value = text.partition(": ")
            if separator and not text.startswith("#"):
                if key.lower() in fields:
                    raise VolumeError(f"{path.name}: {key!r} is there twice in the header; leave the right one")
                fields[key.lower()] = value.strip()
    return fields, used
