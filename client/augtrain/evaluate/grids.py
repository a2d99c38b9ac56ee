"""Whether two label maps lie on the same voxels. Nothing is resampled: that would change the labels that are to be scored."""

from __future__ import annotations

import numpy as np
from augclient.errors import GeometryError

from augtrain.label_map import Grid

_SLACK_VOXELS = 0.1  # far above the rounding of headers, far below what moves a label
_SLACK_RAD = 1e-3  # float32 quaternions are no better near half turns


def check_same_grid(prediction: Grid, truth: Grid, case: str) -> None:
    """Compare shape, spacing, directions and position.

    Raises:
        GeometryError: they differ; the message says in what.
    """
    differences = _differences(prediction, truth)
    if differences:
        raise GeometryError(
            f"{case}: prediction and truth lie on different grids: {'; '.join(differences)}; "
            "predict on the scan that the truth was drawn on, or resample one onto the other with nearest neighbour"
        )


def _differences(prediction: Grid, truth: Grid) -> list[str]:
    found = []
    if prediction.shape != truth.shape:
        found.append(f"shape (Z,Y,X) {prediction.shape} against {truth.shape}")
    ours, theirs = np.array(prediction.spacing_mm), np.array(truth.spacing_mm)
    if (np.abs(ours - theirs) * np.array(truth.shape) > _SLACK_VOXELS * theirs).any():
        found.append(f"spacing (z,y,x) {_numbers(ours)} against {_numbers(theirs)} mm")
    turned = np.linalg.norm(prediction.affine[:3, :3] / ours - truth.affine[:3, :3] / theirs, axis=0)
    if (turned > _SLACK_RAD).any():
        words = f"axes (z,y,x) point to {_axes(prediction)} against {_axes(truth)}"
        found.append(f"{words}, up to {np.degrees(2 * np.arcsin(turned.max() / 2)):.3g} degrees apart")
    if not found:
        centre = np.array([*((size - 1) / 2 for size in truth.shape), 1.0])
        shift = ((prediction.affine - truth.affine) @ centre)[:3]
        if np.linalg.norm(shift) > _SLACK_VOXELS * theirs.min():
            found.append(f"the prediction lies {_numbers(shift)} mm (x,y,z, LPS) from the truth")
    return found


def _axes(grid: Grid) -> str:
    """The nearest anatomical direction of each axis, such as SPL."""
    letters = (("R", "L"), ("A", "P"), ("I", "S"))
    nearest = np.abs(grid.affine[:3, :3]).argmax(axis=0)
    return "".join(letters[row][int(grid.affine[row, axis] > 0)] for axis, row in enumerate(nearest.tolist()))


def _numbers(values: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> str:
    return f"({', '.join(f'{value:.5g}' for value in values.tolist())})"
