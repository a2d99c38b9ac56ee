"""What every reader returns: one grid of voxels and where it lies in the patient."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from augserver.errors import GeometryError, VolumeError
from augserver.geometry import Affine, skew_deg, spacing_of, to_canonical

MAX_SKEW_DEG = 0.5  # above it rotations in mm would visibly shear the body; below lie rounded headers


@dataclass(frozen=True, slots=True, kw_only=True)
class Scan:
    """A scan as its file has it, or re-oriented.

    Attributes:
        voxels: (Z, Y, X) of any real dtype, in the volume's own unit (rescale slope and intercept applied).
        affine: (4, 4), zyx voxel -> xyz LPS mm.
        format: "nifti", "metaimage", "nrrd" or "dicom".
    """

    voxels: NDArray[Any]
    affine: Affine
    format: str

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """zyx."""
        return spacing_of(self.affine)


def canonical_scan(scan: Scan, *, name: str) -> Scan:
    """The scan with axes to Superior, Posterior, Left, by permutation and flips only.

    Raises:
        VolumeError: the axes are not at right angles (gantry tilt, shear).
    """
    skew = skew_deg(scan.affine)
    if skew > MAX_SKEW_DEG:
        raise VolumeError(
            f"{name}: the voxel axes are {skew:.1f} degrees off a right angle (gantry tilt or shear), at most {MAX_SKEW_DEG} is allowed; "
            "resample the scan onto an orthogonal grid first"
        )
    voxels, affine = to_canonical(scan.voxels, scan.affine)
    return Scan(voxels=voxels, affine=affine, format=scan.format)


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
            f"{name}: has {len(shape)} axes {shape} (x, y, z, ...): channels or time points are not taken yet; "
            "split it into 3-D files, one each"
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
