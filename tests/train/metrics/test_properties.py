"""What must hold for any two label maps, and equality with distances between all pairs of voxels."""

from __future__ import annotations

import numpy as np
import pytest
from augtrain.metrics import CLASS_SCORES, OVERLAP_SCORES, SURFACE_SCORES, Report, report
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage
from scipy.spatial.distance import cdist

CLASSES = {1: "liver", 2: "bladder", 3: "lungs"}
shapes = hnp.array_shapes(min_dims=2, max_dims=3, min_side=1, max_side=6)
steps = st.sampled_from([0.25, 0.5, 1.0, 1.5, 3.0])


@st.composite
def pairs(draw):
    """Prediction, truth and spacing of one shape."""
    shape = draw(shapes)
    maps = [draw(hnp.arrays(np.uint8, shape, elements=st.integers(0, 3))) for _ in range(2)]
    return *maps, tuple(draw(steps) for _ in shape)


def scores_of(found: Report, names=CLASS_SCORES) -> dict:
    return {(organ, name): scores.value(name) for organ, scores in found.per_class.items() for name in names}


def similar(found, expected) -> bool:
    """Equal reasons, or numbers that differ by rounding."""
    return found == (expected if expected is None or isinstance(expected, str) else pytest.approx(expected, rel=1e-9, abs=1e-12))


def assert_close(found: dict, expected: dict) -> None:
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        assert similar(found[key], value), key


@settings(deadline=None, derandomize=True)
@given(pairs())
def test_surface_scores_equal_those_of_all_pairs_of_surface_voxels(drawn) -> None:
    prediction, truth, spacing = drawn
    found = report(prediction, truth, spacing, CLASSES, boundary_tolerance_mm=1.0)
    axes = [axis for axis, size in enumerate(truth.shape) if size > 1]
    for organ in CLASSES:
        points = []
        for labels in (prediction, truth):
            mask = (labels == organ).reshape([labels.shape[axis] for axis in axes] or [1])
            points.append(np.argwhere(mask & ~ndimage.binary_erosion(mask)) * np.array([spacing[axis] for axis in axes] or [1.0]))
        scores = found.per_class[organ]
        if not all(map(len, points)):
            assert scores.assd is None
            continue
        apart = cdist(*points)
        to_truth, to_prediction = apart.min(axis=1), apart.min(axis=0)
        both = np.concatenate([to_truth, to_prediction])
        assert scores.assd == pytest.approx(both.mean())
        assert scores.rmsd == pytest.approx(np.sqrt(np.mean(both**2)))
        assert scores.mssd == pytest.approx(both.max())
        assert scores.hd95 == pytest.approx(max(np.percentile(to_truth, 95), np.percentile(to_prediction, 95)))
        precision, recall = np.mean(to_truth <= 1.0), np.mean(to_prediction <= 1.0)
        assert scores.bf_score == pytest.approx(2 * precision * recall / (precision + recall) if precision + recall else 0.0)


@settings(deadline=None, derandomize=True)
@given(pairs())
def test_swapping_prediction_and_truth_swaps_sensitivity_and_precision_and_keeps_the_symmetric_scores(drawn) -> None:
    prediction, truth, spacing = drawn
    ahead, back = report(prediction, truth, spacing, CLASSES), report(truth, prediction, spacing, CLASSES)
    for organ in CLASSES:
        for name in ("dice", "jaccard", "voe", *SURFACE_SCORES):
            assert similar(getattr(ahead.per_class[organ], name), getattr(back.per_class[organ], name))
        assert ahead.per_class[organ].sensitivity == back.per_class[organ].precision


@settings(deadline=None, derandomize=True)
@given(pairs(), st.randoms(use_true_random=False))
def test_scores_do_not_depend_on_the_order_or_the_direction_of_axes(drawn, random) -> None:
    prediction, truth, spacing = drawn
    order = list(range(truth.ndim))
    random.shuffle(order)
    flips = [axis for axis in order if random.random() < 0.5]
    turned = [np.flip(labels.transpose(order), flips) for labels in (prediction, truth)]
    found = report(*turned, [spacing[axis] for axis in order], CLASSES)
    assert_close(scores_of(found), scores_of(report(prediction, truth, spacing, CLASSES)))


@settings(deadline=None, derandomize=True)
@given(pairs())
def test_distances_grow_with_the_spacing_and_overlap_does_not(drawn) -> None:
    prediction, truth, spacing = drawn
    small, large = (report(prediction, truth, [factor * step for step in spacing], CLASSES) for factor in (1, 4))
    assert scores_of(small, (*OVERLAP_SCORES, "bf_score")) == scores_of(large, (*OVERLAP_SCORES, "bf_score"))
    for organ in CLASSES:
        for name in ("assd", "mssd", "rmsd", "hd95"):
            value = getattr(small.per_class[organ], name)
            assert getattr(large.per_class[organ], name) == (None if value is None else pytest.approx(4 * value))


@settings(deadline=None, derandomize=True)
@given(pairs())
def test_more_background_around_changes_no_distance(drawn) -> None:
    """The crop to the classes' box sees no difference between the border of the image and a voxel of background."""
    prediction, truth, spacing = drawn
    width = [(0, 0) if size == 1 else (2, 3) for size in truth.shape]
    wide = report(np.pad(prediction, width), np.pad(truth, width), spacing, CLASSES, boundary_tolerance_mm=0.7)
    narrow = report(prediction, truth, spacing, CLASSES, boundary_tolerance_mm=0.7)
    names = ("assd", "mssd", "rmsd", "hd95", "bf_score", "dice")
    assert_close(scores_of(wide, names) | {(0, "dice"): 0}, scores_of(narrow, names) | {(0, "dice"): 0})


@settings(deadline=None, derandomize=True)
@given(pairs(), st.permutations([1, 2, 3]))
def test_scores_follow_their_class_when_ids_are_exchanged(drawn, order) -> None:
    prediction, truth, spacing = drawn
    table = np.array([0, *order], np.uint8)
    renamed = report(table[prediction], table[truth], spacing, CLASSES)
    found = report(prediction, truth, spacing, CLASSES)
    for organ in CLASSES:
        ours, theirs = found.per_class[organ], renamed.per_class[int(table[organ])]
        assert {name: ours.value(name) for name in CLASS_SCORES} == {name: theirs.value(name) for name in CLASS_SCORES}


@settings(deadline=None, derandomize=True)
@given(pairs())
def test_a_map_scores_itself_perfectly(drawn) -> None:
    _, truth, spacing = drawn
    found = report(truth, truth, spacing, CLASSES)
    assert found.overall.accuracy == 1
    for organ in set(np.unique(truth).tolist()) - {0}:
        scores = found.per_class[organ]
        assert (scores.dice, scores.voe, scores.rvd, scores.assd, scores.mssd, scores.hd95, scores.bf_score) == (1, 0, 0, 0, 0, 0, 1)


@settings(deadline=None, derandomize=True)
@given(pairs(), st.data())
def test_ignored_voxels_never_change_a_score(drawn, data) -> None:
    prediction, truth, spacing = drawn
    hidden = data.draw(hnp.arrays(np.bool_, truth.shape))
    other = data.draw(hnp.arrays(np.uint8, truth.shape, elements=st.integers(0, 3)))
    truth = np.where(hidden, 9, truth).astype(np.uint8)
    found = [report(each, truth, spacing, CLASSES, ignore=9) for each in (prediction, np.where(hidden, other, prediction))]
    assert found[0] == found[1]
    assert found[0].voxels == int((~hidden).sum())
