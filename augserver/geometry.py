"""Affines between voxels and the patient: the one place outside the readers that knows xyz, LPS and RAS.

An affine is float64 (4, 4) and maps the zyx index of a voxel (centres at integers) to xyz in mm, LPS: x grows to the patient's
Left, y to Posterior, z to Superior. The canonical order of axes is z to Superior, y to Posterior, x to Left, or as near to that as
flips and permutations come: no voxel is interpolated, so an oblique scan keeps its own grid and its exact affine.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import permutations
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from augserver.errors import GeometryError

Affine = NDArray[np.float64]

SAME_SPACING_MM = 1e-4  # what formats and affines round away, far below what a scanner can set
_GRID_SLACK = 1e-6  # voxels: rounding adds no plane to a grid
_RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
_REVERSED = np.eye(4)[[2, 1, 0, 3]]  # zyx <-> xyz


def check_affine(affine: ArrayLike) -> Affine:
    """The affine as a read-only float64 (4, 4).

    Raises:
        GeometryError: wrong shape or last row, an entry that is not finite, or axes that span no volume.
    """
    matrix = np.array(affine, np.float64)
    if matrix.shape != (4, 4) or not np.array_equal(matrix[3], [0, 0, 0, 1]):
        raise GeometryError(f"an affine is 4x4 with last row 0 0 0 1, got shape {matrix.shape}: {matrix.tolist()}")
    if not np.isfinite(matrix).all():
        raise GeometryError(f"the affine has entries that are not finite: {matrix.tolist()}")
    with np.errstate(over="ignore"):  # an infinite spacing spans nothing
        spacing = np.linalg.norm(matrix[:3, :3], axis=0)
    # The determinant of the unit axes is the volume they span: 1 if orthogonal, 0 if they lie in one plane.
    if not spacing.min() > 0 or abs(np.linalg.det(matrix[:3, :3] / spacing)) < 1e-3:
        raise GeometryError(f"the affine is singular: its axes span no volume: {matrix[:3, :3].tolist()}")
    matrix.setflags(write=False)
    return matrix


def check_spacing(spacing_mm: Sequence[float], *, what: str = "spacing") -> tuple[float, float, float]:
    """Three finite numbers > 0, in mm.

    Raises:
        GeometryError: anything else.
    """
    values = np.asarray(spacing_mm, np.float64)
    if values.shape != (3,) or not np.isfinite(values).all() or not (values > 0).all():
        raise GeometryError(f"{what} must be three finite numbers > 0 in mm (z, y, x), got {spacing_mm!r}")
    return float(values[0]), float(values[1]), float(values[2])


def common_spacing(spacings_mm: Iterable[tuple[float, float, float]]) -> tuple[float, float, float] | None:
    """The spacing that volumes share: exactly, or but for what formats and affines round away (1e-4 mm, then rounded to that).

    None where they differ, or there are none.
    """
    different = set(spacings_mm)
    if len(different) <= 1:
        return next(iter(different), None)
    values = np.array(sorted(different))
    if (np.ptp(values, axis=0) > SAME_SPACING_MM).any():
        return None
    z, y, x = (float(round(value, 4)) for value in values.mean(axis=0))
    return z, y, x


def spacing_of(affine: Affine) -> tuple[float, float, float]:
    """Spacing (sz, sy, sx) in mm: the lengths of the affine's columns."""
    z, y, x = np.linalg.norm(affine[:3, :3], axis=0)
    return float(z), float(y), float(x)


def affine_of(spacing_mm: Sequence[float], origin_mm: Sequence[float] = (0.0, 0.0, 0.0)) -> Affine:
    """The affine of an upright grid in canonical order.

    Args:
        spacing_mm: zyx.
        origin_mm: xyz LPS position of the centre of voxel 0.
    """
    affine = np.diag([*check_spacing(spacing_mm)[::-1], 1.0]) @ _REVERSED
    affine[:3, 3] = origin_mm
    return check_affine(affine)


def affine_from_itk(origin: Sequence[float], spacing: Sequence[float], direction: Sequence[float]) -> Affine:
    """The affine of an ITK image: its origin, spacing (xyz) and direction (row by row) are in LPS already.

    Raises:
        GeometryError: see check_affine.
    """
    matrix = np.eye(4)
    matrix[:3, :3] = np.reshape(direction, (3, 3)) * np.asarray(spacing)
    matrix[:3, 3] = origin
    return check_affine(matrix @ _REVERSED)


def affine_from_ras(xyz_to_ras: ArrayLike) -> Affine:
    """The affine of a NIfTI header's matrix, which maps xyz voxels to RAS mm.

    Raises:
        GeometryError: see check_affine.
    """
    return check_affine(_RAS_TO_LPS @ check_affine(xyz_to_ras) @ _REVERSED)


def affine_to_ras(affine: Affine) -> Affine:
    """The inverse of affine_from_ras: what nibabel wants for an array whose axes are x, y, z."""
    return check_affine(_RAS_TO_LPS @ affine @ _REVERSED)


def skew_deg(affine: Affine) -> float:
    """By how many degrees the two axes that deviate most are from a right angle; 0 for every rotation."""
    unit = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    cosine = np.abs(unit.T @ unit - np.eye(3)).max()
    return float(np.degrees(np.arcsin(min(1.0, cosine))))


def axis_letters(affine: Affine) -> str:
    """Where the file's x, y and z axes run, as three of L R P A S I: "RAS" means x to the Right, y to Anterior, z to Superior."""
    unit = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    order = _assign_axes(unit)  # patient axis z, y, x -> array axis
    letters = {}
    for patient, (positive, negative) in enumerate((("S", "I"), ("P", "A"), ("L", "R"))):
        letters[order[patient]] = positive if unit[2 - patient, order[patient]] > 0 else negative
    return letters[2] + letters[1] + letters[0]


def orthogonal_grid(affine: Affine, shape: Sequence[int]) -> tuple[tuple[int, int, int], Affine]:
    """The grid at right angles that holds every voxel of a sheared one.

    Two axes are kept with their spacing, and the third is turned to their normal; planes of the two keep their distance. Kept are the
    two nearest a right angle, of equals (a tilted gantry) those of the smaller voxels: the slices, so that nothing is interpolated
    between slices. Where no two are at a right angle, the second is turned too, within their plane.

    Args:
        affine: (4, 4) of the sheared grid.
        shape: its (Z, Y, X).
    Returns:
        The new (Z, Y, X) and affine. Voxel centres of the old grid lie inside the new one.
    """
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    unit = affine[:3, :3] / spacing
    pairs = [(first, second) for first in range(3) for second in range(first + 1, 3)]
    # Rounded, so that equal angles are equal.
    first, second = min(pairs, key=lambda pair: (round(abs(float(unit[:, pair[0]] @ unit[:, pair[1]])), 3), spacing[list(pair)].prod()))
    if spacing[second] < spacing[first]:
        first, second = second, first  # the finer axis stays
    third = 3 - first - second
    frame = np.empty((3, 3))
    frame[:, first] = unit[:, first]
    across = unit[:, second] - (unit[:, second] @ unit[:, first]) * unit[:, first]
    frame[:, second] = across / np.linalg.norm(across)
    normal = np.cross(frame[:, first], frame[:, second])
    frame[:, third] = normal * np.sign(normal @ unit[:, third])
    step = spacing.copy()
    step[third] = spacing[third] * float(unit[:, third] @ frame[:, third])
    corners = np.array(np.meshgrid(*((0, size - 1) for size in shape), indexing="ij")).reshape(3, -1)
    places = (frame.T @ affine[:3, :3] @ corners) / step[:, None]  # in steps of the new axes, from voxel 0
    low, high = places.min(axis=1), places.max(axis=1)
    # Begin on a plane of the old grid where it has one: the smallest whole number of steps from voxel 0 that covers the corner.
    begin = np.floor(low + _GRID_SLACK)
    z, y, x = (int(size) for size in np.ceil(high - begin - _GRID_SLACK) + 1)
    matrix = np.eye(4)
    matrix[:3, :3] = frame * step
    matrix[:3, 3] = affine[:3, 3] + matrix[:3, :3] @ begin
    return (z, y, x), check_affine(matrix)


def to_canonical(array: NDArray[Any], affine: Affine) -> tuple[NDArray[Any], Affine]:
    """Permute and flip the last three axes so that they run to Superior, Posterior, Left as nearly as possible.

    Args:
        array: (..., Z, Y, X); not modified.
        affine: (4, 4) of these axes.
    Returns:
        A view of the array, and the affine of its axes: every voxel keeps its position in mm.
    """
    unit = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    cosines = unit[::-1]  # row k: along patient axis z, y, x; column: array axis
    order = _assign_axes(unit)
    lead = array.ndim - 3
    moved = array.transpose(*range(lead), *(lead + axis for axis in order))
    step = np.eye(4)
    step[:3, :3] = np.eye(3)[:, list(order)]
    matrix = affine @ step
    for axis in range(3):
        if cosines[axis, order[axis]] < 0:
            moved = np.flip(moved, lead + axis)
            matrix[:3, 3] += matrix[:3, axis] * (moved.shape[lead + axis] - 1)
            matrix[:3, axis] *= -1
    return moved, check_affine(matrix)


def voxel_to_voxel(source: Affine, target: Affine) -> Affine:
    """The (4, 4) matrix from zyx voxels of the grid `source` to zyx voxels of the grid `target` through the patient's mm."""
    return np.linalg.solve(target, source).astype(np.float64, copy=False)


def _assign_axes(unit: NDArray[np.float64]) -> tuple[int, ...]:
    """For patient axis z, y and x, the array axis that runs along it; `unit` has the array axes as columns, in xyz.

    Of the six assignments the one with the largest summed |cos|: unlike an axis-by-axis maximum it never uses an axis twice.
    """
    return max(permutations(range(3)), key=lambda axes: sum(abs(unit[2 - k, axes[k]]) for k in range(3)))
