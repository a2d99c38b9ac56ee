"""Distances between the surfaces of prediction and truth, exact and in mm.

A voxel is on the surface of its class if one of its face neighbours (4 in a plane, 6 in a volume) is of another class, or if it lies on
the border of the image; axes of length 1 have no neighbours and no border. The distance is that between voxel centres. MONAI takes the
same voxels, and so the same numbers come out. SimpleITK's LabelContour leaves the border of the image out; DeepMind's surface-distance
puts the surface between the voxels and weights it by area, which is smoother for shapes that are smooth and invents a sub-voxel surface
that nobody drew.

Averages pool the voxels of both surfaces, as the LiTS challenge of Rister's table III and MONAI do. Percentiles are taken in each
direction and the larger stands, as with MONAI and DeepMind: pooled, a large surface that is right would hide a small one that is wrong.

A face towards an ignored voxel is no surface: nobody knows what lies behind it.

Nearest points come from a k-d tree over the other surface, not from a distance map over all voxels: both are exact, and a scan has a
hundred times as many voxels as surface (tests/benchmarks/bench_metrics.py compares). What lies on both surfaces is not asked for: 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import find_objects
from scipy.spatial import KDTree

from augtrain.metrics.label_pair import Indices, LabelPair

Distances = NDArray[np.float64]
Places = NDArray[np.signedinteger[Any]]

_WORTH_THREADS = 10_000  # points; starting threads takes as long as asking for some thousands
_ROUNDING = 1e-9  # relative; a distance of exactly the tolerance is within it


@dataclass(frozen=True, slots=True, eq=False)
class SurfaceDistances:
    """Of one class, both ways, in mm.

    Attributes:
        to_truth: float64 (surface voxels of the prediction,).
        to_prediction: float64 (surface voxels of the truth,). Neither is empty.
    """

    to_truth: Distances
    to_prediction: Distances

    def assd(self) -> float:
        """Average symmetric surface distance: the mean over the voxels of both surfaces together."""
        return float((self.to_truth.sum() + self.to_prediction.sum()) / (self.to_truth.size + self.to_prediction.size))

    def rmsd(self) -> float:
        """Root mean square over the voxels of both surfaces together."""
        squares = np.square(self.to_truth).sum() + np.square(self.to_prediction).sum()
        return float(np.sqrt(squares / (self.to_truth.size + self.to_prediction.size)))

    def mssd(self) -> float:
        """Maximum symmetric surface distance, the Hausdorff distance of the surfaces."""
        return float(max(self.to_truth.max(), self.to_prediction.max()))

    def hd95(self) -> float:
        """The larger of the two directions' 95th percentiles, each interpolated linearly."""
        return float(max(np.percentile(self.to_truth, 95), np.percentile(self.to_prediction, 95)))

    def bf_score(self, tolerance_mm: float) -> float:
        """Harmonic mean of the shares of either surface that lie within the tolerance of the other."""
        reach = tolerance_mm * (1 + _ROUNDING)
        precision, recall = float(np.mean(self.to_truth <= reach)), float(np.mean(self.to_prediction <= reach))
        return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def surface_distances(pair: LabelPair, steps_mm: NDArray[np.float64]) -> dict[int, SurfaceDistances]:
    """Distances by class number; classes without a surface in prediction or truth are left out, and the background is.

    Args:
        steps_mm: float64 (axes, D), the way from a voxel to the next along each of the pair's axes.
    """
    box = _box_of_classes(pair)
    if box is None:
        return {}
    prediction, truth = _Surfaces(pair.prediction[box], pair.ignored), _Surfaces(pair.truth[box], pair.ignored)
    found = {}
    for number in range(1, len(pair.ids)):
        ours, theirs = prediction.places_of(number), truth.places_of(number)
        if ours.size and theirs.size:
            found[number] = SurfaceDistances(
                to_truth=_directed(ours, truth, number, theirs, steps_mm),
                to_prediction=_directed(theirs, prediction, number, ours, steps_mm),
            )
    return found


class _Surfaces:
    """Surface voxels of every class of one label map, found in one pass."""

    def __init__(self, labels: Indices, ignored: int) -> None:
        self.shape = labels.shape
        on_surface = _on_surface(labels, ignored)
        self.places = np.flatnonzero(on_surface)
        self.numbers = labels.ravel()[self.places]
        # 0, the background's number, wherever there is no surface
        self.number_at = np.where(on_surface, labels, 0).ravel()

    def places_of(self, number: int) -> Places:
        """Flat positions of a class's surface voxels, ascending."""
        places: Places = self.places[self.numbers == number]
        return places


def _directed(start: Places, surfaces: _Surfaces, number: int, goal: Places, steps_mm: NDArray[np.float64]) -> Distances:
    """Distance from each voxel of `start` to the nearest of `goal`, which are the surface voxels of class `number` in `surfaces`."""
    distances = np.zeros(start.size)
    apart = surfaces.number_at[start] != number
    if apart.any():
        tree = KDTree(_points(goal, surfaces.shape, steps_mm), compact_nodes=False, balanced_tree=False)
        points = _points(start[apart], surfaces.shape, steps_mm)
        distances[apart] = tree.query(points, workers=-1 if len(points) > _WORTH_THREADS else 1)[0]
    return distances


def _points(places: Places, shape: tuple[int, ...], steps_mm: NDArray[np.float64]) -> Distances:
    return np.stack(np.unravel_index(places, shape), axis=-1).astype(np.float64) @ steps_mm


def _on_surface(labels: Indices, ignored: int) -> NDArray[np.bool_]:
    """Whether a voxel of a class has a face to another class, or to the outside of the array."""
    surface = np.zeros(labels.shape, np.bool_)
    known = labels != ignored
    for axis in range(labels.ndim):
        here, there = _shifted(axis, slice(1, None)), _shifted(axis, slice(None, -1))
        face = labels[here] != labels[there]
        face &= known[here]
        face &= known[there]
        surface[here] |= face
        surface[there] |= face
        surface[_shifted(axis, slice(None, 1))] = True
        surface[_shifted(axis, slice(-1, None))] = True
    surface &= labels != 0
    return surface


def _shifted(axis: int, part: slice) -> tuple[slice, ...]:
    return (*[slice(None)] * axis, part)


def _box_of_classes(pair: LabelPair) -> tuple[slice, ...] | None:
    """The smallest box of all voxels that are not background in both maps.

    It needs no margin: beyond it lies background or the border of the image, and either ends a class.
    """
    occupied = (pair.prediction != 0) | (pair.truth != 0)
    boxes: list[tuple[slice, ...] | None] = find_objects(occupied.view(np.uint8), max_label=1)
    return boxes[0]
