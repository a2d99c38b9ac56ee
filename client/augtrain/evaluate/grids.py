"""Whether two label maps lie on the same voxels, in whatever order their files have them.

Axes are exchanged and turned round, as tools do when they save a label map. Nothing is resampled: that would change the labels that are
to be scored.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from augclient.errors import GeometryError
from numpy.typing import NDArray

from augtrain.label_map import Grid

_SLACK_VOXELS = 0.1  # far above the rounding of headers, far below what moves a label
_SLACK_RAD = 1e-3  # float32 quaternions are no better near half turns


@dataclass(frozen=True, slots=True)
class Turn:
    """How the voxels of one file are put in the order of another's.

    Attributes:
        axes: which axis becomes z, y, x.
        flipped: whether z, y, x, as they are then, run the other way.
    """

    axes: tuple[int, int, int]
    flipped: tuple[bool, bool, bool]

    def __bool__(self) -> bool:
        """Whether it changes anything."""
        return self.axes != (0, 1, 2) or any(self.flipped)

    def apply(self, ids: NDArray[np.unsignedinteger[Any]]) -> NDArray[np.unsignedinteger[Any]]:
        """The voxels in the other order, (Z, Y, X)."""
        ways = tuple(slice(None, None, -1 if flipped else 1) for flipped in self.flipped)
        return np.ascontiguousarray(ids.transpose(self.axes)[ways])

    def of(self, grid: Grid) -> Grid:
        """The grid of what apply() returns."""
        shape = (grid.shape[self.axes[0]], grid.shape[self.axes[1]], grid.shape[self.axes[2]])
        affine = grid.affine[:, [*self.axes, 3]]
        for axis, flipped in enumerate(self.flipped):
            if flipped:
                affine[:, 3] += (shape[axis] - 1) * affine[:, axis]
                affine[:, axis] *= -1
        return Grid(shape, affine)


def match_grids(prediction: Grid, truth: Grid) -> Turn:
    """How the prediction's voxels are put in the order of the truth's.

    Raises:
        GeometryError: the two lie on different voxels, in any order; the message says in what they differ.
    """
    towards = (truth.affine[:3, :3] / np.array(truth.spacing_mm)).T @ (prediction.affine[:3, :3] / np.array(prediction.spacing_mm))
    z, y, x = np.abs(towards).argmax(axis=1).tolist()
    turn = Turn((0, 1, 2), (False, False, False))
    if {z, y, x} == {0, 1, 2}:
        turn = Turn((z, y, x), (bool(towards[0, z] < 0), bool(towards[1, y] < 0), bool(towards[2, x] < 0)))
    differences = _differences(turn.of(prediction), truth)
    if differences:
        turned = f", even with the prediction's axes turned from {describe_axes(prediction)} to {describe_axes(truth)}" if turn else ""
        raise GeometryError(
            f"prediction and truth lie on different grids{turned}: {'; '.join(differences)}; "
            "predict on the scan that the truth was drawn on, or resample one onto the other with nearest neighbour"
        )
    return turn


def describe_axes(grid: Grid) -> str:
    """The nearest anatomical direction of each axis, such as SPL."""
    letters = (("R", "L"), ("A", "P"), ("I", "S"))
    nearest = np.abs(grid.affine[:3, :3]).argmax(axis=0)
    return "".join(letters[row][int(grid.affine[row, axis] > 0)] for axis, row in enumerate(nearest.tolist()))


def _differences(prediction: Grid, truth: Grid) -> list[str]:
    found = []
    if prediction.shape != truth.shape:
        found.append(f"shape (Z,Y,X) {prediction.shape} against {truth.shape}")
    ours, theirs = np.array(prediction.spacing_mm), np.array(truth.spacing_mm)
    if (np.abs(ours - theirs) * np.array(truth.shape) > _SLACK_VOXELS * theirs).any():
        found.append(f"spacing (z,y,x) {_numbers(ours)} against {_numbers(theirs)} mm")
    turned = np.linalg.norm(prediction.affine[:3, :3] / ours - truth.affine[:3, :3] / theirs, axis=0)
    if (turned > _SLACK_RAD).any():
        words = f"axes (z,y,x) point to {describe_axes(prediction)} against {describe_axes(truth)}"
        found.append(f"{words}, up to {np.degrees(2 * np.arcsin(turned.max() / 2)):.3g} degrees apart")
    if not found:
        centre = np.array([*((size - 1) / 2 for size in truth.shape), 1.0])
        shift = ((prediction.affine - truth.affine) @ centre)[:3]
        if np.linalg.norm(shift) > _SLACK_VOXELS * theirs.min():
            found.append(f"the prediction lies {_numbers(shift)} mm (x,y,z, LPS) from the truth")
    return found


def _numbers(values: NDArray[np.float64]) -> str:
    return f"({', '.join(f'{value:.5g}' for value in values.tolist())})"
