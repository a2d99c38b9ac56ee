"""What every reader returns: a grid of voxels and where it lies in the patient."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from augserver.errors import GeometryError, VolumeError
from augserver.geometry import Affine, axis_letters, spacing_of, to_canonical


@dataclass(frozen=True, slots=True, kw_only=True)
class Scan:
    """A scan as its file has it, or re-oriented.

    Attributes:
        voxels: (C, Z, Y, X) of any real dtype, in the volume's own unit (rescale slope and intercept applied).
        affine: (4, 4), zyx voxel -> xyz LPS mm; its axes need not be at right angles (gantry tilt).
        format: "nifti", "metaimage", "nrrd" or "dicom".
        notes: what was done to it on the way, for the report.
    """

    voxels: NDArray[Any]
    affine: Affine
    format: str
    notes: tuple[str, ...] = ()

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """zyx."""
        return spacing_of(self.affine)

    @property
    def grid(self) -> tuple[int, int, int]:
        """(Z, Y, X)."""
        z, y, x = self.voxels.shape[1:]
        return z, y, x


def canonical_scan(scan: Scan) -> Scan:
    """The scan with axes to Superior, Posterior, Left as nearly as permutation and flips come: no voxel is interpolated."""
    voxels, affine = to_canonical(scan.voxels, scan.affine)
    letters = axis_letters(scan.affine)
    notes = () if letters == "LPS" else (f"axes turned from {letters} to LPS",)
    return Scan(voxels=voxels, affine=affine, format=scan.format, notes=scan.notes + notes)


def one_channel(scan: Scan, *, name: str) -> NDArray[Any]:
    """The (Z, Y, X) voxels of a scan that must have one channel.

    Raises:
        VolumeError: it has several.
    """
    if len(scan.voxels) != 1:
        raise VolumeError(f"{name}: has {len(scan.voxels)} channels (a fourth axis), must be one; split it into 3-D files")
    voxels: NDArray[Any] = scan.voxels[0]
    return voxels


def check_grid(shape: tuple[int, ...], *, name: str) -> None:
    """Refuse what is no 3-D grid of one value per voxel.

    Args:
        shape: sizes in the file's order (x first), trailing axes of size 1 removed beyond the third.
        name: for the error.
    Raises:
        VolumeError: fewer or more than three axes, or an empty one.
    """
    if any(size < 1 for size in shape):
        raise VolumeError(f"{name}: an axis is empty: size {shape} (x, y, z, ...); every axis needs at least one voxel")
    if len(shape) < 3:
        raise VolumeError(f"{name}: has {len(shape)} axes {shape}, a volume has three; stack the slices into one 3-D file")
    if len(shape) > 3:
        raise VolumeError(
            f"{name}: has {len(shape)} axes {shape} (x, y, z, ...), which only NIfTI files may have: "
            "split it into 3-D files, or convert it to NIfTI and pass --fourth-axis channels"
        )


@contextmanager
def geometry_of(name: str) -> Iterator[None]:
    """Turn a geometry error inside the block into one that names the file.

    Raises:
        VolumeError: the file's geometry has no meaning.
    """
    try:
        yield
    except GeometryError as error:
        raise VolumeError(f"{name}: {error}; correct the header") from error
