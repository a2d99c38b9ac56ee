"""Which file is read by which reader: by suffix."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from augserver.ingest.readers.metaimage import metaimage_files, metaimage_voxel_count, read_metaimage
from augserver.ingest.readers.nifti import nifti_files, nifti_voxel_count, read_nifti
from augserver.ingest.readers.nrrd import nrrd_files, nrrd_voxel_count, read_nrrd
from augserver.ingest.scan import Scan


class Reader(NamedTuple):
    """How files of a format are read.

    Attributes:
        read: the scan of a file, by one of nifti_affine.NIFTI_AFFINES, which only NIfTI heeds, or UNPLACED.
        files: every file that its voxels and geometry come from.
        voxel_count: how many values its header promises.
    """

    read: Callable[[Path, str], Scan]
    files: Callable[[Path], list[Path]]
    voxel_count: Callable[[Path], int]


_NIFTI = Reader(read_nifti, nifti_files, nifti_voxel_count)
_NRRD = Reader(read_nrrd, nrrd_files, nrrd_voxel_count)
_METAIMAGE = Reader(read_metaimage, metaimage_files, metaimage_voxel_count)
READERS: dict[str, Reader] = {
    ".nii.gz": _NIFTI,
    ".nii.bz2": _NIFTI,
    ".nii.zst": _NIFTI,  # refused with its reason
    ".nii": _NIFTI,
    ".hdr.gz": _NIFTI,
    ".hdr.bz2": _NIFTI,
    ".hdr": _NIFTI,
    ".nrrd": _NRRD,
    ".nhdr": _NRRD,
    ".mha": _METAIMAGE,
    ".mhd": _METAIMAGE,
}
"""By suffix, longest first."""


def read_file(path: Path, nifti_affine: str = "auto") -> Scan:
    """Read one file by its suffix, which READERS must have.

    Args:
        path: of the file; of a pair, the header.
        nifti_affine: one of nifti_affine.NIFTI_AFFINES, or UNPLACED.
    Raises:
        VolumeError: as the readers.
    """
    return READERS[split_suffix(path)[1]].read(path, nifti_affine)


def voxel_count(path: Path) -> int:
    """How many values the header of a file promises.

    Raises:
        VolumeError, OSError: the header cannot be read.
    """
    return READERS[split_suffix(path)[1]].voxel_count(path)


def split_suffix(path: Path) -> tuple[str, str]:
    """Stem and known suffix ("" if unknown) of a file name; case does not count."""
    for suffix in READERS:
        if path.name.lower().endswith(suffix):
            return path.name[: -len(suffix)], suffix
    return path.stem, ""


def files_of(path: Path) -> list[Path]:
    """Every file that the voxels and geometry of a scan's file come from.

    Raises:
        VolumeError: one of them is missing.
        OSError: the header that names them cannot be read.
    """
    reader = READERS.get(split_suffix(path)[1])
    return [path] if reader is None else reader.files(path)
