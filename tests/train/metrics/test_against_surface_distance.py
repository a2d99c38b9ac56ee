"""The same masks scored by DeepMind's surface-distance, whose surface lies between the voxels.

Its surface points are the corners where 2 x 2 x 2 voxels are not all of one kind. Such a cube holds a voxel of the class with a face to
one outside it, which is our surface voxel, half the cube's diagonal from the corner; and each of our surface voxels is in such a cube.
So either surface lies within h = |spacing| / 2 of the other, and the Hausdorff distances differ by 2 h at most.
Averages and percentiles weight points by area there, and voxels alike here. That moves them by no bound of that kind in general; for the
masks here it does by less than the same 2 h.
"""

from __future__ import annotations

import numpy as np
import pytest
import surface_distance
from augtrain.metrics import report

pytestmark = pytest.mark.filterwarnings("ignore:Please import `:DeprecationWarning")  # it imports from scipy.ndimage.filters
ORGANS = (1, 2, 3)


@pytest.mark.parametrize("organ", ORGANS)
def test_distances_agree_within_the_distance_of_the_two_surfaces(pair, organ: int) -> None:
    theirs = surface_distance.compute_surface_distances(pair.truth == organ, pair.prediction == organ, pair.spacing_mm)
    ours = report(pair.prediction, pair.truth, pair.spacing_mm, pair.classes).per_class[organ]
    bound = float(np.linalg.norm(pair.spacing_mm))
    assert abs(ours.mssd - surface_distance.compute_robust_hausdorff(theirs, 100)) <= bound
    assert abs(ours.hd95 - surface_distance.compute_robust_hausdorff(theirs, 95)) <= bound
    to_prediction, to_truth = surface_distance.compute_average_surface_distance(theirs)
    assert min(to_prediction, to_truth) - bound <= ours.assd <= max(to_prediction, to_truth) + bound


@pytest.mark.parametrize(("axis", "voxels"), [(0, 2), (1, 5), (2, 9)])
def test_a_plate_moved_along_an_axis_is_equally_far_by_both(axis: int, voxels: int) -> None:
    """Far sides aside, all area is flat and moved alike: the definitions meet."""
    spacing_mm = (3.0, 1.0, 0.5)
    truth = np.zeros((24, 30, 40), bool)
    truth[tuple(slice(4, 6) if each == axis else slice(None) for each in range(3))] = True
    prediction = np.roll(truth, voxels, axis)
    theirs = surface_distance.compute_surface_distances(truth, prediction, spacing_mm)
    ours = report(prediction, truth, spacing_mm, {1: "plate"}).per_class[1]
    assert ours.mssd == pytest.approx(voxels * spacing_mm[axis])
    assert ours.mssd == pytest.approx(surface_distance.compute_robust_hausdorff(theirs, 100))
