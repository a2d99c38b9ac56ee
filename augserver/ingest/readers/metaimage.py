"""Read MetaImage files, in one file or with data files beside the header, as MetaIO reads them.

The voxels are taken from the bytes here. SimpleITK, which reads the format by MetaIO, fills what zlib could not decode with whatever is
in memory, and ends the process on a pattern of files without a step; where it and we both read a file, we agree (tests/ingest/readers).
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from augserver.errors import VolumeError
from augserver.geometry import Affine, affine_from_itk, affine_of
from augserver.ingest.readers.data_files import data_file, is_pattern, listed_files, numbered_files
from augserver.ingest.readers.metaimage_header import MetaHeader, read_metaimage_header
from augserver.ingest.readers.nifti_affine import UNPLACED
from augserver.ingest.readers.payload import Payload, read_payload
from augserver.ingest.readers.units import affine_in_mm
from augserver.ingest.scan import Scan, check_grid, geometry_of

_TYPES = {
    "MET_CHAR": "i1", "MET_ASCII_CHAR": "i1", "MET_UCHAR": "u1", "MET_SHORT": "i2", "MET_USHORT": "u2", "MET_INT": "i4", "MET_UINT": "u4",
    "MET_LONG": "i4", "MET_ULONG": "u4", "MET_LONG_LONG": "i8", "MET_ULONG_LONG": "u8", "MET_FLOAT": "f4", "MET_DOUBLE": "f8",
}  # fmt: skip
_BYTE_ORDER = ("BinaryDataByteOrderMSB", "ElementByteOrderMSB")
_ROUNDED = 1e-2  # by how much two decimals change the length of a direction
_UPRIGHT = {3: "1 0 0 0 1 0 0 0 1", 4: "1 0 0 0 0 1 0 0 0 0 1 0 0 0 0 1"}


def read_metaimage(path: Path, believe: str = "auto") -> Scan:
    """Read a .mha, or a .mhd whose data files lie in its folder or below.

    Several values per voxel, or a fourth axis, come back as channels; the caller decides whether to take them.

    Args:
        path: of the header.
        believe: with nifti_affine.UNPLACED, a header without a place in the patient will do.
    Raises:
        VolumeError: truncated, corrupt, no 3-D grid of real numbers, or without voxel size.
    """
    name = path.name
    try:
        header = read_metaimage_header(path)
        sizes, components = _sizes(header)
        affine, notes = (affine_of((1, 1, 1)), ()) if believe == UNPLACED else _affine(header, len(sizes))
        dtype = _dtype(header)
        voxels = read_payload(_payload(header, path, sizes), dtype, (*sizes[::-1], components), name=name)
    except OSError as error:
        raise VolumeError(f"{name}: cannot be read ({error.strerror or error}); copy the file again from its source") from error
    if dtype.itemsize > 1 and header.one_of(*_BYTE_ORDER) is None:
        notes += ("no byte order: little endian taken, as SimpleITK has it",)
    if components > 1:
        voxels = np.moveaxis(voxels, -1, 0)
    return Scan(voxels=voxels.reshape(-1, *sizes[2::-1]), affine=affine, format="metaimage", notes=notes)


def metaimage_files(path: Path) -> list[Path]:
    """The header and its data files.

    Raises:
        VolumeError: a data file is missing or elsewhere, or the header is no MetaImage header.
        OSError: the header cannot be read.
    """
    header = read_metaimage_header(path)
    return list(dict.fromkeys([path, *_payload(header, path, _sizes(header)[0]).files]))


def metaimage_voxel_count(path: Path) -> int:
    """How many values a header promises.

    Raises:
        VolumeError, OSError: the header cannot be read.
    """
    sizes, components = _sizes(read_metaimage_header(path))
    return math.prod(sizes) * components


def _sizes(header: MetaHeader) -> tuple[tuple[int, ...], int]:
    """DimSize, and values per voxel."""
    fields = header.fields
    if fields.get("ObjectType", "Image") != "Image":
        raise VolumeError(f"{header.name}: is a MetaIO {fields['ObjectType']}, not an image; leave it out")
    try:
        sizes = tuple(int(word) for word in fields["DimSize"].split())
        axes, components = int(fields.get("NDims", str(len(sizes)))), int(fields.get("ElementNumberOfChannels", "1"))
    except (KeyError, ValueError) as error:
        got = {key: fields.get(key) for key in ("NDims", "DimSize", "ElementNumberOfChannels")}
        raise VolumeError(f"{header.name}: DimSize, NDims and ElementNumberOfChannels must be whole numbers, got {got}") from error
    if axes != len(sizes):
        raise VolumeError(f"{header.name}: NDims is {axes}, but DimSize has {len(sizes)} numbers; correct the header")
    check_grid(sizes[:3] if len(sizes) == 4 and sizes[3] > 0 else sizes, name=header.name)
    if components < 1 or (components > 1 and sizes[3:] not in ((), (1,))):
        raise VolumeError(f"{header.name}: has {components} values per voxel on {len(sizes)} axes {sizes}; split it into 3-D files")
    return sizes, components


def _dtype(header: MetaHeader) -> np.dtype[Any]:
    wanted = header.fields.get("ElementType", "")
    kind = _TYPES.get(wanted.removesuffix("_ARRAY"))
    if kind is None:
        raise VolumeError(f"{header.name}: ElementType is {wanted or 'not given'}; one number per voxel is taken: {', '.join(_TYPES)}")
    big = header.is_true(*_BYTE_ORDER, default=False)
    return np.dtype(kind).newbyteorder(">" if big else "<")


def _payload(header: MetaHeader, path: Path, sizes: tuple[int, ...]) -> Payload:
    fields = header.fields
    packed = header.is_true("CompressedData", default=False)
    binary = header.is_true("BinaryData", default=True)
    files = _data_files(header, path, sizes)
    start = 0 if files else header.bytes
    try:
        skip = int(fields.get("HeaderSize", "0"))
    except ValueError:
        skip = -2
    if skip < -1 or (skip == -1 and (packed or not binary)) or (not files and 0 < skip < start):
        raise VolumeError(
            f"{header.name}: HeaderSize is {fields['HeaderSize']!r}, must be the bytes before the voxels in their file, or -1 where they "
            "are its last bytes and not compressed; correct the header"
        )
    return Payload(
        files=files or [path],
        packing="text" if not binary else "zlib" if packed else "raw",
        offset=max(start, skip),
        byte_skip=min(skip, 0),
    )


def _data_files(header: MetaHeader, path: Path, sizes: tuple[int, ...]) -> list[Path]:
    """Empty if the voxels follow the header."""
    words = header.fields["ElementDataFile"]
    if words.upper() == "LOCAL":
        return []
    if not words.startswith("LIST") and not is_pattern(words):
        return [data_file(path, words)]
    axes = str(len(sizes) - 1)
    if words.startswith("LIST"):
        axes = words.removeprefix("LIST").strip().upper().removesuffix("D").strip() or axes
    files = listed_files(path, header.listed) if words.startswith("LIST") else numbered_files(path, words)
    if not axes.isdigit() or len(files) != math.prod(sizes[int(axes) :]):
        raise VolumeError(
            f"{header.name}: names {len(files)} data files of {axes} axes each, which do not make up DimSize {sizes}; "
            "correct ElementDataFile"
        )
    return files


def _affine(header: MetaHeader, axes: int) -> tuple[Affine, tuple[str, ...]]:
    """The affine (zyx voxel -> xyz LPS mm), and notes."""
    fields = header.fields
    notes: tuple[str, ...] = ()
    if "ElementSpacing" not in fields and "ElementSize" not in fields:
        raise VolumeError(
            f"{header.name}: has neither ElementSpacing nor ElementSize: the voxel size is unknown; add it to the header, or "
            "if it is a label, pass --labels-by-voxel"
        )
    spacing = header.numbers("ElementSpacing", fields.get("ElementSpacing", fields.get("ElementSize")), axes, "")[:3]
    given = header.one_of("TransformMatrix", "Rotation", "Orientation")
    # A row of the text is where an axis of voxels runs: a column of the direction.
    matrix = np.array(header.numbers("TransformMatrix", given, axes * axes, _UPRIGHT[axes])).reshape(axes, axes)
    place = header.one_of("Offset", "Origin", "Position")
    origin = header.numbers("Offset", place, axes, "0 " * axes)[:3]
    if matrix[3:, :3].any() or matrix[:3, 3:].any():
        raise VolumeError(f"{header.name}: the fourth axis is turned into the patient by TransformMatrix {given}; split it into 3-D files")
    direction = matrix[:3, :3].T
    lengths = np.linalg.norm(direction, axis=0)
    if not np.allclose(lengths, 1.0, atol=_ROUNDED):
        raise VolumeError(
            f"{header.name}: its direction has columns that are not of length 1, so the voxel size is ambiguous; correct the header"
        )
    if not np.allclose(lengths, 1.0, atol=1e-3):
        direction = direction / lengths
        notes += ("directions rounded to two decimals: lengthened or shortened to 1",)
    _check_intensity(header)
    with geometry_of(header.name):
        affine = affine_from_itk(origin, spacing, direction.ravel().tolist())
    if given is None:
        letters = fields.get("AnatomicalOrientation", "RAI")
        if letters not in ("RAI", "LPS", "???"):
            raise VolumeError(
                f"{header.name}: has no TransformMatrix, and AnatomicalOrientation {letters!r}, which programs read as where axes come "
                "from or as where they go; add a TransformMatrix"
            )
        notes += ("no TransformMatrix: axes taken to run to Left, Posterior and Superior, as MetaImage's default is",)
    if place is None:
        notes += ("no Offset: the first voxel taken to lie at 0, as MetaImage's default is",)
    if min(spacing) < 0:
        notes += ("a negative ElementSpacing turns its axis, as SimpleITK has it",)
    if any(header.numbers("CenterOfRotation", fields.get("CenterOfRotation"), axes, "0 " * axes)):
        notes += ("CenterOfRotation is not used, as SimpleITK has it: Offset is the place of the first voxel",)
    affine, converted = affine_in_mm(affine, {fields.get("DistanceUnits", "?")} - {"?"}, name=header.name)
    return affine, notes + converted


def _check_intensity(header: MetaHeader) -> None:
    """Refuse values that are to be scaled: MetaImage's definition scales them, SimpleITK does not."""
    slope = header.numbers("ElementToIntensityFunctionSlope", header.fields.get("ElementToIntensityFunctionSlope"), 1, "1")
    offset = header.numbers("ElementToIntensityFunctionOffset", header.fields.get("ElementToIntensityFunctionOffset"), 1, "0")
    if slope != [1] or offset != [0]:
        raise VolumeError(
            f"{header.name}: its values are to be scaled by {slope[0]:g} with offset {offset[0]:g} (ElementToIntensityFunction), which "
            "some programs do and others do not; scale them, and set the slope to 1 and the offset to 0"
        )
