"""Read NIfTI-1 and NIfTI-2 files, single or in pairs, plain or packed by gzip or bzip2.

nibabel parses the header; the voxels are taken from the bytes here. SimpleITK, which reads the format too, returns voxels of a
truncated .nii without a word, never sees a wrong gzip CRC, drops the shear of an sform and knows no NIfTI-2. Where it and we both
read a file, they agree (tests/ingest/test_geometry_against_simpleitk.py).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from augserver.errors import VolumeError
from augserver.ingest.readers.nifti_affine import affine_of_nifti
from augserver.ingest.readers.nifti_header import LONGEST_HEADER, NiftiHeader, dtype_of, offset_of, parse_nifti_header, shape_of
from augserver.ingest.readers.voxel_stream import UNPACKING_ERRORS, length_of, read_exactly, skip_bytes, sniffed_packing, unpacked
from augserver.ingest.scan import Scan

_EXTENDER = 4  # bytes between the header and the voxels of a single file, at least


def read_nifti(path: Path, believe: str = "auto") -> Scan:
    """Read a .nii, .nii.gz, .nii.bz2, or the .hdr of a pair whose .img lies beside it.

    A fourth axis comes back as channels, whatever it means; the caller decides whether to take them.

    Args:
        path: packed or not, as its content says, not its name.
        believe: one of nifti_affine.NIFTI_AFFINES.
    Raises:
        VolumeError: truncated, corrupt, not NIfTI, no grid of real numbers, or a geometry that is missing or contradicts itself.
    """
    name = path.name
    with _errors_of(name):
        header = _read_header(path)
        shape, notes = shape_of(header, name)
        dtype = dtype_of(header, name)
        affine, placed = affine_of_nifti(header.fields, shape[:3], believe, name=name)
        size = int(np.prod(shape, dtype=object)) * dtype.itemsize
        image, offset, found = _find_voxels(path, header, size)
        data = _read_at(image, offset, size, name)
    voxels = np.frombuffer(data, dtype).reshape((*shape[3:], *shape[2::-1]))
    scaled, told = _scaled(voxels, header.fields, name)
    return Scan(voxels=scaled, affine=affine, format="nifti", notes=header.notes + notes + found + placed + told)


def nifti_files(path: Path) -> list[Path]:
    """The file, or both files of a pair.

    Raises:
        VolumeError: the second file of a pair is missing.
    """
    image = image_of_pair(path) if is_pair_header(path) else path
    return list(dict.fromkeys([path, image]))


def nifti_voxel_count(path: Path) -> int:
    """How many values a file promises, from its header alone.

    Raises:
        VolumeError: the header cannot be read.
    """
    with _errors_of(path.name):
        return int(np.prod(shape_of(_read_header(path), path.name)[0], dtype=object))


def is_pair_header(path: Path) -> bool:
    """Whether a file is named as the header of a pair."""
    return path.name.lower().removesuffix(".gz").removesuffix(".bz2").endswith(".hdr")


def image_of_pair(header: Path) -> Path:
    """The .img (.img.gz, .img.bz2) that belongs to a .hdr (.hdr.gz, .hdr.bz2); the case of suffixes does not count.

    Raises:
        VolumeError: there is none, or more than one.
    """
    stem = header.name[: header.name.lower().rindex(".hdr")]
    upper = header.name[len(stem) :].isupper()
    beside = {file.name for file in header.parent.iterdir() if file.name.startswith(stem) and file.is_file()}
    for suffix in (".img", ".img.gz", ".img.bz2"):
        found = sorted(name for name in beside if name[len(stem) :].lower() == suffix)
        alike = stem + (suffix.upper() if upper else suffix)
        if len(found) > 1 and alike not in found:
            raise VolumeError(f"{header.name}: its voxels may be in {found[0]} or {found[1]}; leave one of them")
        if found:
            return header.with_name(alike if alike in found else found[0])
    raise VolumeError(f"{header.name}: its voxels are missing: neither {stem}.img nor {stem}.img.gz lies beside it")


@contextmanager
def _errors_of(name: str) -> Iterator[None]:
    try:
        yield
    except UNPACKING_ERRORS as error:
        raise VolumeError(f"{name}: the packed stream is truncated or corrupt ({error}); copy the file again from its source") from error
    except OSError as error:
        raise VolumeError(f"{name}: cannot be read ({error.strerror or error}); copy the file again from its source") from error


@contextmanager
def _opened(path: Path) -> Iterator[tuple[IO[bytes], str]]:
    """A stream of the unpacked content, and how it was packed, which the content says, not the name."""
    with path.open("rb") as file:
        packing = sniffed_packing(file)
        if packing == "zstd":
            raise VolumeError(f"{path.name}: is packed by zstd, which is not read; unpack it with `unzstd`, or pack it by gzip")
        yield unpacked(file, packing), packing


def _read_header(path: Path) -> NiftiHeader:
    with _opened(path) as (file, _):
        return parse_nifti_header(file.read(LONGEST_HEADER), path.name)


def _find_voxels(path: Path, header: NiftiHeader, size: int) -> tuple[Path, int, tuple[str, ...]]:
    """The file with the voxels, the byte where they begin, and notes.

    Writers are careless with magic and vox_offset; where the two cannot be right, the length of the file decides or nothing does.
    """
    name = path.name
    offset, notes = offset_of(header, name)
    if is_pair_header(path):
        if header.paired:
            return image_of_pair(path), offset, notes
        notes += ("the magic is that of a single file, the voxels are in the .img",)
        image = image_of_pair(path)
        return image, offset if _length(image) == offset + size else 0, notes
    if header.paired:
        notes += ("the magic is that of a pair, the voxels follow the header",)
    if offset >= header.size + _EXTENDER:
        return path, offset, notes
    rest = _length(path) - header.size - size
    if rest not in (0, _EXTENDER):
        raise VolumeError(
            f"{name}: its voxels begin at byte {offset} (vox_offset), within the header of {header.size} bytes, and its length does not "
            f"tell where instead: {size} bytes of voxels leave {rest} bytes between; correct the header, or copy the file again"
        )
    return path, header.size + rest, (*notes, f"vox_offset {offset} lies within the header: voxels read from byte {header.size + rest}")


def _length(path: Path) -> int:
    with _opened(path) as (file, _):
        return length_of(file)


def _read_at(path: Path, offset: int, size: int, name: str) -> NDArray[np.uint8]:
    with _opened(path) as (file, packing):
        if not skip_bytes(file, offset):
            raise VolumeError(f"{name}: the voxels begin at byte {offset}, beyond the end of the file; the header or the file is damaged")
        return read_exactly(file, size, packing, os.stat(path).st_size, name)


def _scaled(voxels: NDArray[Any], fields: Any, name: str) -> tuple[NDArray[Any], tuple[str, ...]]:
    """Slope and intercept applied, plane by plane in float64, to float32, and a note; without a slope the dtype stays.

    A slope of 0 means none; so does NaN, which nibabel writes, and infinity, which nibabel and SimpleITK read as none.
    """
    slope, intercept = float(fields["scl_slope"]), float(fields["scl_inter"])
    if slope == 0 or not np.isfinite(slope):
        unused = np.isfinite(intercept) and intercept != 0
        odd = f"scl_slope is {slope:g}" + (f": the intercept {intercept:g} is not added, as the standard has it" if unused else "")
        return voxels, (odd + ": values taken as stored",) if unused or np.isinf(slope) else ()
    if not np.isfinite(intercept):
        raise VolumeError(f"{name}: the intensity scaling is damaged: slope {slope:g}, intercept {intercept}; correct the header")
    if slope == 1 and intercept == 0:
        return voxels, ()
    scaled = np.empty(voxels.shape, np.float32)
    with np.errstate(over="ignore", invalid="ignore"):  # what overflows becomes infinite, which is refused later by count
        for index in np.ndindex(voxels.shape[:2]):
            scaled[index] = voxels[index].astype(np.float64) * slope + intercept
    return scaled, (f"scaled by slope {slope:g}, intercept {intercept:g}",)
