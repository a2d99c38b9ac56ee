"""Resample a sheared scan (tilted gantry, sform with shear) onto a grid at right angles, every position in mm kept.

Rotations and scales in mm would shear the body if a volume's axes were not at right angles, so the server stores none.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from augserver.errors import VolumeError
from augserver.geometry import Affine, orthogonal_grid, skew_deg, voxel_to_voxel
from augserver.ingest.scan import Scan
from augserver.store.content import check_finite

MAX_SKEW_DEG = 0.5  # above it rotations in mm would visibly shear the body; below lie rounded headers
_MAX_GROWTH = 8.0  # of the number of voxels: 45 degrees over a cube double it, fine voxels sheared over thick ones take more


def orthogonal_scan(scan: Scan, *, fill: float, name: str) -> Scan:
    """The scan on a grid at right angles; itself if it has one.

    Args:
        fill: the value of voxels that the scan does not cover.
        name: for errors.
    Returns:
        A float32 Scan on the grid of geometry.orthogonal_grid, linearly interpolated. A voxel is covered if its centre lies in a voxel
        of the scan, which at the rim means half a voxel beyond the last centre, with that voxel's value.
    Raises:
        VolumeError: the shear is so strong that most of the new grid would be empty, or voxels are not finite.
    """
    skew = skew_deg(scan.affine)
    if skew <= MAX_SKEW_DEG:
        return scan
    shape, affine = orthogonal_grid(scan.affine, scan.grid)
    growth = math.prod(shape) / math.prod(scan.grid)
    if growth > _MAX_GROWTH:
        raise VolumeError(
            f"{name}: the voxel axes are {skew:.1f} degrees off a right angle, and a grid at right angles would have {growth:.0f} times "
            "as many voxels; check the header's matrix, or resample the scan first"
        )
    check_finite(scan.voxels, name=name)  # before interpolation spreads them
    voxels = np.empty((len(scan.voxels), *shape), np.float32)
    matrix = voxel_to_voxel(affine, scan.affine)
    for channel, straight in zip(scan.voxels, voxels, strict=True):
        _interpolate(channel, matrix, fill, straight)
    note = f"sheared by {skew:.1f} degrees: resampled onto a grid at right angles, {'x'.join(map(str, shape))} voxels"
    return Scan(voxels=voxels, affine=affine, format=scan.format, notes=(*scan.notes, note))


def _interpolate(source: NDArray[Any], matrix: Affine, fill: float, out: NDArray[np.float32]) -> None:
    """Fill `out` (Z, Y, X) from `source` (Z, Y, X); `matrix` maps voxels of `out` to voxels of `source`."""
    source = source.astype(source.dtype.newbyteorder("="), copy=False)  # SciPy would copy it for each plane
    plane_to_source = matrix[:3, 1:3]
    rows, columns = np.indices(out.shape[1:])
    flat = np.einsum("ij,jyx->iyx", plane_to_source, np.stack([rows, columns]).astype(np.float64))
    limit = np.array(source.shape, np.float64)[:, None, None]
    for index, plane in enumerate(out):
        position = flat + (matrix[:3, 0] * index + matrix[:3, 3])[:, None, None]
        # Prefiltering is off for order 1; "nearest" makes rounding at the rim harmless, and what is truly outside is filled.
        ndimage.map_coordinates(source, position, order=1, mode="nearest", output=plane)
        plane[((position < -0.5) | (position > limit - 0.5)).any(axis=0)] = fill
