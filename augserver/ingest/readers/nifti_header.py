"""A NIfTI-1 or NIfTI-2 header: which it is, and what of it says where the voxels lie.

nibabel knows the fields; the checks are ours. Its own check repairs in silence what ours name: a wrong sform code to
"none", a missing voxel size to 1 mm.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.nifti1 import Nifti1Header, Nifti1PairHeader, data_type_codes
from nibabel.nifti2 import Nifti2Header, Nifti2PairHeader
from nibabel.spatialimages import HeaderDataError, HeaderTypeError

from augserver.errors import VolumeError
from augserver.ingest.scan import check_grid

LONGEST_HEADER = 540
_KINDS: dict[tuple[int, bool], Any] = {
    (348, False): Nifti1Header,
    (348, True): Nifti1PairHeader,
    (540, False): Nifti2Header,
    (540, True): Nifti2PairHeader,
}
_SINGLE_MAGIC = (b"n+1\0", b"n+2\0")
_PAIR_MAGIC = (b"ni1\0", b"ni2\0")
_LINE_ENDS = b"\r\n\x1a\n"  # behind NIfTI-2's magic: a copy in text mode changes them
_SPACE_CODES = range(6)
_CIFTI_INTENTS = range(3000, 3100)


@dataclass(frozen=True, slots=True, kw_only=True)
class NiftiHeader:
    """What a header says.

    Attributes:
        fields: nibabel's header, by name of field.
        paired: by its magic, the voxels lie in another file.
        size: 348 or 540 bytes.
        notes: what about it is not as the standard has it.
    """

    fields: Any
    paired: bool
    size: int
    notes: tuple[str, ...]


def parse_nifti_header(start: bytes, name: str) -> NiftiHeader:
    """The header at the start of a file.

    Args:
        start: the first LONGEST_HEADER bytes, or all if there are fewer.
        name: of the file, for errors.
    Raises:
        VolumeError: not NIfTI, or damaged.
    """
    first, second = start[344:348] in _SINGLE_MAGIC[:1] + _PAIR_MAGIC[:1], start[4:8] in _SINGLE_MAGIC[1:] + _PAIR_MAGIC[1:]
    told = min(int.from_bytes(start[:4], order) for order in ("little", "big"))
    if not first and not second:
        raise VolumeError(f"{name}: is not NIfTI: {_what_else(start, told)}")
    size, magic = (348, start[344:348]) if first else (540, start[4:8])
    if len(start) < size:
        raise VolumeError(f"{name}: is truncated inside the header: {len(start)} of {size} bytes; copy the file again from its source")
    notes: tuple[str, ...] = (
        () if told == size else (f"sizeof_hdr is {told}, must be {size}: the magic {_shown(magic)} tells what the file is",)
    )
    if not first and start[8:12] != _LINE_ENDS:
        if any(start[8:12]):
            raise VolumeError(
                f"{name}: the bytes behind its magic are {start[8:12]!r}, must be {_LINE_ENDS!r}: a copy in text mode has changed line "
                "ends; copy the file again, in binary mode"
            )
        notes += ("the bytes behind the magic that guard line ends are not set",)
    try:
        fields = _KINDS[size, magic in _PAIR_MAGIC](start[:size], check=False)
    except (HeaderDataError, HeaderTypeError, ImageFileError, ValueError, KeyError, OverflowError) as error:
        raise VolumeError(f"{name}: the NIfTI header is damaged: {error}") from error
    if not 1 <= int(fields["dim"][0]) <= 7:
        raise VolumeError(f"{name}: the NIfTI header is damaged: it has {fields['dim'][0]} axes (dim[0]), allowed are 1 to 7")
    if not all(int(fields[key]) in _SPACE_CODES for key in ("qform_code", "sform_code")):
        codes = f"qform_code {fields['qform_code']}, sform_code {fields['sform_code']}"
        raise VolumeError(f"{name}: the NIfTI header is damaged: {codes}, known are 0 to 5; set the wrong one to 0")
    return NiftiHeader(fields=fields, paired=magic in _PAIR_MAGIC, size=size, notes=notes)


def _what_else(start: bytes, size: int) -> str:
    if size == 348 and not any(start[344:348]):
        return "its header has no NIfTI magic; it may be ANALYZE 7.5, which is not taken: it has no orientation"
    if size in (348, 540):
        return (
            f"its magic is {start[344:348] if size == 348 else start[4:8]!r}, must be n+1, ni1, n+2 or ni2 and a zero byte; copy it again"
        )
    return "its header has neither size 348 or 540 nor a NIfTI magic"


def _shown(magic: bytes) -> str:
    return magic[:3].decode("ascii")


def shape_of(header: NiftiHeader, name: str) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """The size (x, y, z, channels), and notes.

    Raises:
        VolumeError: no grid of three axes and at most one further.
    """
    try:
        shape = tuple(int(size) for size in header.fields.get_data_shape())
    except (HeaderDataError, ValueError, IndexError) as error:
        raise VolumeError(f"{name}: the NIfTI header has no valid size: {error}") from error
    if int(header.fields["intent_code"]) in _CIFTI_INTENTS:
        raise VolumeError(f"{name}: is CIFTI, values of surfaces and connections, no volume; leave it out")
    check_grid(shape[:3], name=name)
    if any(size < 0 for size in shape):
        raise VolumeError(f"{name}: the NIfTI header has no valid size: {shape} (x, y, z, ...)")
    further = tuple(size for size in shape[3:] if size > 1)
    if len(further) > 1:
        raise VolumeError(
            f"{name}: has {len(shape)} axes {shape} (x, y, z, ...), at most one beyond the third may be longer than 1; split it"
        )
    notes = ("an axis beyond the third has size 0, taken as 1, as SimpleITK has it",) if 0 in shape[3:] else ()
    return (*shape[:3], *(further or (1,))), notes


def dtype_of(header: NiftiHeader, name: str) -> np.dtype[Any]:
    """The type of a voxel as stored.

    Raises:
        VolumeError: unknown, or not one real number.
    """
    code = int(header.fields["datatype"])
    try:
        label = str(data_type_codes.label[code])
        dtype: np.dtype[Any] = np.dtype(header.fields.get_data_dtype())
    except (HeaderDataError, KeyError) as error:
        raise VolumeError(f"{name}: unknown NIfTI datatype {code}") from error
    if label.startswith(("RGB", "complex")):
        raise VolumeError(
            f"{name}: voxels of type {label} (colour or complex) are not grey values; convert it to one real number per voxel"
        )
    if dtype.kind not in "iuf" or dtype.itemsize > 8:
        raise VolumeError(
            f"{name}: voxels of NIfTI datatype {code} ({label}) are not taken; convert it to integers or to 32- or 64-bit floats"
        )
    return dtype


def offset_of(header: NiftiHeader, name: str) -> tuple[int, tuple[str, ...]]:
    """The byte where the header says that voxels begin, and notes.

    Raises:
        VolumeError: no such byte can be.
    """
    offset = float(header.fields["vox_offset"])  # a float32 in NIfTI-1
    if not np.isfinite(offset) or offset < 0:
        raise VolumeError(f"{name}: the NIfTI header is damaged: its voxels begin at byte {offset}")
    notes = () if offset.is_integer() else (f"vox_offset {offset:g} is no whole number: voxels read from byte {int(offset)}",)
    return int(header.fields["vox_offset"]), notes
