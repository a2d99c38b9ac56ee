"""Decide where a label lies against its image: on the same grid, on another one, or nowhere that its header could be believed."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from augserver.errors import VolumeError
from augserver.geometry import Affine, axis_letters, spacing_of, voxel_to_voxel

_ROUNDING = 0.05  # voxels between corners that headers of one grid differ by without a word: float32, or positions to 0.1 mm
_SAME_VOXEL = 0.5  # voxels, up to which each voxel of the label is nearest to its own voxel of the image
_DEFAULT = 1e-6  # mm


def place_label(
    shape: tuple[int, ...], affine: Affine, image_shape: tuple[int, ...], image_affine: Affine, *, by_voxel: bool, name: str
) -> tuple[Affine, bool, tuple[str, ...]]:
    """Where the label lies.

    Args:
        shape, affine: of the label, axes in the order of its file.
        image_shape, image_affine: of the scan, likewise.
        by_voxel: do not believe the label's header: its voxels are the image's, in the order of the files.
        name: for errors and notes.
    Returns:
        The label's affine, as it is or, where the two are one grid, exactly on the image's; whether they are; notes.
    Raises:
        VolumeError: the label has the image's voxels, but its header places them elsewhere; it has the header of no scan at all; or it
            has other voxels and `by_voxel` is set.
    """
    fit, apart = same_grid(image_shape, image_affine, shape, affine)
    grids = f"the label has {_shown(shape, affine)}, the image {_shown(image_shape, image_affine)}"
    if by_voxel and shape == image_shape:
        believed = fit is not None and np.array_equal(fit, np.eye(4))
        note = f"LABEL TAKEN VOXEL FOR VOXEL, AGAINST ITS HEADER (--labels-by-voxel): {grids}"
        return image_affine, True, () if believed else (note,)
    if fit is not None:
        notes: tuple[str, ...] = ()
        if not np.array_equal(fit, np.eye(4)):
            notes = (f"label turned from {axis_letters(affine)} to the image's {axis_letters(image_affine)}, as its header says",)
        if apart > _ROUNDING:
            notes += (f"the headers of label and image differ by {apart:.2g} voxels, less than half of one: taken for the same grid",)
        return image_affine @ np.linalg.inv(fit), True, notes
    if by_voxel:
        raise VolumeError(
            f"{name}: cannot be taken voxel for voxel: {grids}; give the label the image's voxels in the image's order, or ingest it "
            "without --labels-by-voxel"
        )
    if sorted(shape) == sorted(image_shape):
        way_out = (
            "write the image's geometry into the label, or pass --labels-by-voxel to take it voxel for voxel"
            if shape == image_shape
            else "its axes were swapped as well: swap them back and write the image's geometry into it"
        )
        raise VolumeError(
            f"{name}: label and image have the same number of voxels in different places, as if the label's geometry was lost: {grids}; "
            f"{way_out}; if it is right, resample the label onto the image's grid first"
        )
    if _is_default(affine) and np.abs(image_affine[:3, 3]).max() > _DEFAULT:
        raise VolumeError(
            f"{name}: the label's geometry was lost: {grids}, and its header is what programs write if they are given none; "
            "write its true geometry into it, or resample it onto the image's grid"
        )
    return affine, False, ()


def same_grid(shape: Sequence[int], affine: Affine, other_shape: Sequence[int], other_affine: Affine) -> tuple[Affine | None, float]:
    """Whether two grids are one, turned and flipped at most, and how exactly.

    Returns:
        The matrix from voxels of the first grid to those of the other, of whole numbers; None if any two voxels that belong together
        are half a voxel or more apart. Then how far they are apart, in voxels of the other.
    """
    matrix = voxel_to_voxel(affine, other_affine)
    along = np.abs(matrix[:3, :3]).argmax(axis=1)  # the first grid's axis that runs along each axis of the other
    if sorted(along.tolist()) != [0, 1, 2] or any(other_shape[axis] != shape[first] for axis, first in enumerate(along)):
        return None, np.inf
    exact = np.zeros((4, 4))
    exact[3, 3] = 1
    for axis, first in enumerate(along):
        flipped = matrix[axis, first] < 0
        exact[axis, first], exact[axis, 3] = (-1, other_shape[axis] - 1) if flipped else (1, 0)
    corners = np.array([[*corner, 1] for corner in itertools.product(*((0, size - 1) for size in shape))], float).T
    apart = float(np.abs((matrix - exact) @ corners).max())
    return (exact if apart < _SAME_VOXEL else None), apart


def turned(voxels: NDArray[Any], fit: Affine) -> NDArray[Any]:
    """A view of (Z, Y, X) voxels of the other grid on the first one, by the matrix of `same_grid`."""
    flipped = np.flip(voxels, tuple(axis for axis in range(3) if fit[axis, :3].sum() < 0))
    return flipped.transpose(tuple(np.abs(fit[:3, :3]).argmax(axis=0)))


def _is_default(affine: Affine) -> bool:
    """Whether the header is what is written where nobody gave one: voxels of 1 mm from the origin along LPS or RAS."""
    return bool(np.abs(np.abs(affine[:3]) - np.eye(3)[:, [2, 1, 0, 0]] * [1, 1, 1, 0]).max() < _DEFAULT)


def _shown(shape: Sequence[int], affine: Affine) -> str:
    """A grid as people know it from their files: x first."""
    size = "x".join(map(str, shape[::-1]))
    spacing = "x".join(f"{value:.6g}" for value in spacing_of(affine)[::-1])
    origin = ", ".join(f"{value:.6g}" for value in affine[:3, 3] + 0.0)
    return f"{size} voxels of {spacing} mm from ({origin}) mm, axes {axis_letters(affine)}"
