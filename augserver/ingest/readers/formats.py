"""Which file is read by which reader: by suffix."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from augserver.ingest.readers.itk_file import read_metaimage, read_nrrd
from augserver.ingest.readers.nifti import image_of_pair, read_nifti
from augserver.ingest.scan import Scan

READERS: dict[str, Callable[[Path], Scan]] = {
    ".nii.gz": read_nifti,
    ".nii": read_nifti,
    ".hdr.gz": read_nifti,
    ".hdr": read_nifti,
    ".nrrd": read_nrrd,
    ".nhdr": read_nrrd,
    ".mha": read_metaimage,
    ".mhd": read_metaimage,
}
"""By suffix, longest first."""


def read_file(path: Path) -> Scan:
    """Read one file by its suffix, which READERS must have.

    Raises:
        VolumeError: as the readers.
    """
    return READERS[split_suffix(path)[1]](path)


def split_suffix(path: Path) -> tuple[str, str]:
    """Stem and known suffix ("" if unknown) of a file name; case does not count."""
    for suffix in READERS:
        if path.name.lower().endswith(suffix):
            return path.name[: -len(suffix)], suffix
    return path.stem, ""


def files_of(path: Path) -> list[Path]:
    """Every file that the voxels and geometry of a scan's file come from, as far as the name tells.

    Raises:
        VolumeError: the second file of a pair is missing.
    """
    if split_suffix(path)[1] in (".hdr", ".hdr.gz"):
        return [path, image_of_pair(path)]
    return [path]
