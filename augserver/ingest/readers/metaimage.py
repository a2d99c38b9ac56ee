"""Look at a MetaImage header and its data before SimpleITK does: it fills what zlib could not decode with noise and says nothing."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np

from augserver.errors import VolumeError
from augserver.ingest.readers.payload import Payload, data_beside, packed_payload, raw_payload
from augserver.ingest.scan import check_grid

_MAX_HEADER_BYTES = 1 << 16
_ITEM_BYTES = {
    "MET_CHAR": 1, "MET_UCHAR": 1, "MET_SHORT": 2, "MET_USHORT": 2, "MET_INT": 4, "MET_UINT": 4,
    "MET_LONG": 4, "MET_ULONG": 4, "MET_LONG_LONG": 8, "MET_ULONG_LONG": 8, "MET_FLOAT": 4, "MET_DOUBLE": 8,
}  # fmt: skip


def check_metaimage(path: Path) -> tuple[tuple[int, ...], Payload]:
    """Refuse a MetaImage whose voxels are not all there, or whose place in the patient is not given.

    Returns:
        Its size (x, y, z) and its voxels' checksum: SimpleITK must find the same.
    Raises:
        VolumeError: says what is missing or wrong.
        OSError: the file cannot be read.
    """
    fields, header_bytes = _read_header(path)
    shape = _numbers(path, fields, "DimSize")
    check_grid(shape, name=path.name)
    if "ElementSpacing" not in fields and "ElementSize" not in fields:
        raise VolumeError(f"{path.name}: has neither ElementSpacing nor ElementSize: the voxel size is unknown; add it to the header")
    item_bytes = _ITEM_BYTES.get(fields.get("ElementType", ""))
    if item_bytes is None or fields.get("ElementNumberOfChannels", "1") != "1":
        raise VolumeError(
            f"{path.name}: {fields.get('ElementNumberOfChannels', '1')} values of ElementType {fields.get('ElementType')} per voxel; "
            "one number per voxel is taken: split the channels into files of their own"
        )
    if not _is_true(fields, "BinaryData", default=False):
        raise VolumeError(f"{path.name}: stores its voxels as text (BinaryData is not True); write it again in binary")
    expected = int(np.prod(shape, dtype=object)) * item_bytes
    data_name = fields["ElementDataFile"]
    local = data_name.upper() == "LOCAL"
    file = path if local else data_beside(path, data_name)
    if _is_true(fields, "CompressedData", default=False):
        got = packed_payload(file, header_bytes if local else 0, path.name, wbits=zlib.MAX_WBITS | 32)
    else:
        if fields.get("HeaderSize", "0") != "0":
            raise VolumeError(f"{path.name}: skips into a foreign data file (HeaderSize), which is not taken; write it again without")
        got = raw_payload(file, header_bytes if local else 0)
    if got.length != expected:
        raise VolumeError(
            f"{path.name}: the header promises {expected} bytes of voxels, {file.name} has {got.length}; copy the files again"
        )
    return shape, got


def _read_header(path: Path) -> tuple[dict[str, str], int]:
    """The fields up to ElementDataFile, which is the last by definition, and the bytes they take."""
    fields: dict[str, str] = {}
    used = 0
    with path.open("rb") as file:
        while used < _MAX_HEADER_BYTES and (line := file.readline(_MAX_HEADER_BYTES)):
            used += len(line)
            key, separator, value = line.decode("latin-1").partition("=")
            if key.strip() in fields:
                raise VolumeError(f"{path.name}: {key.strip()} is there twice in the header; leave the right one")
            if separator:
                fields[key.strip()] = value.strip()
            if key.strip() == "ElementDataFile" and separator:
                return fields, used
    raise VolumeError(f"{path.name}: is no MetaImage: there is no ElementDataFile in its header")


def _numbers(path: Path, fields: dict[str, str], key: str) -> tuple[int, ...]:
    try:
        return tuple(int(word) for word in fields[key].split())
    except (KeyError, ValueError) as error:
        raise VolumeError(f"{path.name}: {key} must be whole numbers, got {fields.get(key)!r}") from error


def _is_true(fields: dict[str, str], key: str, *, default: bool) -> bool:
    return fields[key].lower() in ("true", "1") if key in fields else default
