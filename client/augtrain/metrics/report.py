"""Score one predicted label map against the true one."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from augclient.errors import GeometryError, RequestError
from numpy.typing import ArrayLike, NDArray

from augtrain.metrics.label_pair import pair_labels
from augtrain.metrics.scores import ClassScores, Counts, OverallScores
from augtrain.metrics.surfaces import SurfaceDistances, surface_distances
from augtrain.metrics.undefined import Undefined, mean

BOUNDARY_TOLERANCE = 0.0075
"""Of the image's diagonal, where no tolerance is given in mm (Furtado 2.3)."""


@dataclass(frozen=True, slots=True)
class Report:
    """The scores of one volume.

    Attributes:
        per_class: by class id, ascending; the background (0) has overlap scores only.
        overall: all classes together.
        voxels: that have a say.
        boundary_tolerance_mm: of bf_score.
    """

    per_class: dict[int, ClassScores]
    overall: OverallScores
    voxels: int
    boundary_tolerance_mm: float

    def to_dict(self) -> dict[str, Any]:
        """For JSON; without NaN, undefined scores are null and named under "undefined"."""
        return {
            "voxels": self.voxels,
            "boundary_tolerance_mm": self.boundary_tolerance_mm,
            "overall": self.overall.to_dict(),
            "classes": {str(class_id): scores.to_dict() for class_id, scores in self.per_class.items()},
        }


def report(
    prediction: ArrayLike,
    truth: ArrayLike,
    spacing_mm: Sequence[float],
    classes: Mapping[int, str],
    *,
    ignore: int | None = None,
    boundary_tolerance_mm: float | None = None,
    directions: ArrayLike | None = None,
    surfaces: bool = True,
) -> Report:
    """Score a label map.

    Args:
        prediction: class ids, integers (Z, Y, X) or (Y, X); not modified.
        truth: as prediction.
        spacing_mm: one number per axis, in the axes' order.
        classes: id -> name of every class that may occur; 0 is the background, named or not.
        ignore: id in the truth that takes a voxel out of every score, whatever the prediction has there; it is not scored itself.
        boundary_tolerance_mm: of the boundary F-score; None: 0.75 % of the image's diagonal.
        directions: (axes, D) unit vectors, where the axes point, for grids that are sheared (tilted gantry); None: at right angles.
        surfaces: False leaves surface distances and the boundary F-score out, which take most of the time.
    Raises:
        GeometryError: shapes differ, spacing_mm is not one finite number > 0 per axis, or directions are not one unit vector per axis.
        RequestError: values that are no integers, ids outside the classes, or a tolerance that is negative or not finite.
    """
    spacing = _checked_spacing(spacing_mm, np.ndim(truth))
    steps_mm = _steps(spacing, directions)
    tolerance_mm = _tolerance(boundary_tolerance_mm, np.shape(truth), spacing)
    pair = pair_labels(prediction, truth, classes, ignore)
    confusion = pair.confusion()
    counts = {class_id: _counts(confusion, number) for number, class_id in enumerate(pair.ids) if class_id != ignore}
    found: dict[int, SurfaceDistances] = {}
    if surfaces:
        long_axes = [axis for axis, size in enumerate(np.shape(truth)) if size > 1]
        found = surface_distances(pair, steps_mm[long_axes or [0]])
    names = {0: "background", **classes}
    per_class = {}
    for number, class_id in enumerate(pair.ids):
        if class_id in counts:
            measured = surfaces and class_id != 0
            surface = found.get(number) or _why_no_surface(counts[class_id], measured)
            per_class[class_id] = ClassScores.of(names[class_id], counts[class_id], surface, tolerance_mm)
    voxels = int(confusion.sum())
    bf_scores = [scores.value("bf_score") for class_id, scores in per_class.items() if class_id]
    overall = OverallScores.of(counts, voxels, mean(bf_scores, Undefined.NO_CLASS if surfaces else Undefined.NOT_MEASURED))
    return Report(per_class=per_class, overall=overall, voxels=voxels, boundary_tolerance_mm=tolerance_mm)


def check_tolerance(tolerance_mm: float | None) -> None:
    """Refuse a boundary tolerance that report() would refuse.

    Raises:
        RequestError: it is negative or not finite.
    """
    if tolerance_mm is not None and not (math.isfinite(tolerance_mm) and tolerance_mm >= 0):
        raise RequestError(f"boundary_tolerance_mm must be a finite number >= 0, got {tolerance_mm}")


def _counts(confusion: NDArray[np.int64], number: int) -> Counts:
    tp = int(confusion[number, number])
    fp, fn = int(confusion[:, number].sum()) - tp, int(confusion[number].sum()) - tp
    return Counts(tp=tp, fp=fp, fn=fn, tn=int(confusion.sum()) - tp - fp - fn)


def _why_no_surface(counts: Counts, measured: bool) -> Undefined:
    if not measured:
        return Undefined.NOT_MEASURED
    if counts.truth and counts.prediction:
        return Undefined.NO_SURFACE
    if counts.truth:
        return Undefined.ABSENT_IN_PREDICTION
    return Undefined.ABSENT_IN_TRUTH if counts.prediction else Undefined.ABSENT_IN_BOTH


def _checked_spacing(spacing_mm: Sequence[float], axes: int) -> tuple[float, ...]:
    spacing = tuple(float(step) for step in spacing_mm)
    if len(spacing) != axes or not all(math.isfinite(step) and step > 0 for step in spacing):
        raise GeometryError(f"spacing_mm must be {axes} finite numbers > 0, one per axis of the label maps, got {tuple(spacing_mm)}")
    return spacing


def _steps(spacing: tuple[float, ...], directions: ArrayLike | None) -> NDArray[np.float64]:
    """mm from a voxel to the next, one row per axis."""
    if directions is None:
        return np.diag(np.array(spacing))
    units = np.asarray(directions, np.float64)
    if units.ndim != 2 or len(units) != len(spacing) or not np.allclose(np.linalg.norm(units, axis=1), 1, atol=1e-3):
        raise GeometryError(f"directions must be {len(spacing)} unit vectors, one per axis, got {units.tolist()}")
    return np.diag(np.array(spacing)) @ units


def _tolerance(tolerance_mm: float | None, shape: tuple[int, ...], spacing: tuple[float, ...]) -> float:
    check_tolerance(tolerance_mm)
    if tolerance_mm is None:
        return BOUNDARY_TOLERANCE * math.hypot(*(size * step for size, step in zip(shape, spacing, strict=True)))
    return float(tolerance_mm)
