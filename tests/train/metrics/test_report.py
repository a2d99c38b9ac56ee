"""Scores of small masks, worked out by hand."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from augclient.errors import GeometryError, RequestError
from augtrain.metrics import OVERALL_SCORES, Undefined, report

CLASSES = {1: "liver", 2: "bladder"}


def mask(shape: tuple[int, ...], *boxes: tuple[int, tuple[slice, ...]]) -> np.ndarray:
    labels = np.zeros(shape, np.uint8)
    for class_id, box in boxes:
        labels[box] = class_id
    return labels


def test_overlap_scores_of_two_boxes() -> None:
    truth = mask((5, 7, 11), (1, np.s_[1:3, 2:4, 3:8]))  # 20 voxels
    prediction = mask((5, 7, 11), (1, np.s_[1:3, 2:5, 4:8]))  # 24 voxels, 16 of them right
    scores = report(prediction, truth, (3, 1, 0.5), CLASSES).per_class[1]
    assert (scores.counts.tp, scores.counts.fp, scores.counts.fn, scores.counts.tn) == (16, 8, 4, 385 - 28)
    assert scores.dice == pytest.approx(32 / 44)
    assert scores.jaccard == pytest.approx(16 / 28)
    assert scores.voe == pytest.approx(12 / 28)
    assert scores.rvd == pytest.approx(4 / 20)
    assert scores.sensitivity == pytest.approx(16 / 20)
    assert scores.precision == pytest.approx(16 / 24)
    assert scores.specificity == pytest.approx(357 / 365)
    assert scores.undefined == {}


@pytest.mark.parametrize(("axis", "millimetres"), [(0, 3.0), (1, 1.0), (2, 0.5)])
def test_a_voxel_moved_along_an_axis_is_its_spacing_away(axis: int, millimetres: float) -> None:
    truth = mask((5, 7, 11), (1, np.s_[2:3, 3:4, 5:6]))
    scores = report(np.roll(truth, 2, axis), truth, (3, 1, 0.5), CLASSES).per_class[1]
    assert (scores.assd, scores.mssd, scores.rmsd, scores.hd95) == pytest.approx((2 * millimetres,) * 4)
    assert scores.dice == 0.0


def test_distances_pool_both_surfaces_and_hd95_takes_the_worse_direction() -> None:
    truth = mask((1, 1, 60), (1, np.s_[:, :, 10:11]))
    prediction = mask((1, 1, 60), (1, np.s_[:, :, 10:11]), (1, np.s_[:, :, 20:21]), (1, np.s_[:, :, 40:41]))
    scores = report(prediction, truth, (3, 1, 0.5), CLASSES).per_class[1]
    to_truth, to_prediction = [0.0, 5.0, 15.0], [0.0]
    assert scores.assd == pytest.approx(20 / 4)
    assert scores.rmsd == pytest.approx(math.sqrt(250 / 4))
    assert scores.mssd == pytest.approx(15.0)
    assert scores.hd95 == pytest.approx(max(np.percentile(to_truth, 95), np.percentile(to_prediction, 95)))
    assert scores.hd95 == pytest.approx(14.0)


def test_boundary_f_score_counts_distances_up_to_the_tolerance() -> None:
    truth = mask((1, 1, 60), (1, np.s_[:, :, 10:11]))
    prediction = mask((1, 1, 60), (1, np.s_[:, :, 10:11]), (1, np.s_[:, :, 13:14]), (1, np.s_[:, :, 40:41]))
    spacing = (3, 1, 0.1)  # 3 * 0.1 is not 0.3 in floating point
    for tolerance_mm, precision in ((0.29, 1 / 3), (0.3, 2 / 3), (3.0, 1.0)):
        scores = report(prediction, truth, spacing, CLASSES, boundary_tolerance_mm=tolerance_mm).per_class[1]
        assert scores.bf_score == pytest.approx(2 * precision / (precision + 1))


def test_boundary_tolerance_defaults_to_a_share_of_the_diagonal() -> None:
    truth = mask((5, 7, 11), (1, np.s_[2:3, 3:4, 5:6]))
    found = report(truth, truth, (3, 1, 0.5), CLASSES)
    assert found.boundary_tolerance_mm == pytest.approx(0.0075 * math.sqrt(15**2 + 7**2 + 5.5**2))


def test_only_face_neighbours_make_a_surface() -> None:
    """A 3 x 3 x 3 cube has one voxel inside; without one corner that voxel still has all its faces."""
    truth = mask((7, 7, 9), (1, np.s_[2:5, 2:5, 2:5]))
    truth[2, 2, 2] = 0
    centre = mask((7, 7, 9), (1, np.s_[3:4, 3:4, 3:4]))
    scores = report(centre, truth, (1, 1, 1), CLASSES).per_class[1]
    # the centre is a voxel away from the nearest of 25 surface voxels: 6 at 1, 12 at sqrt 2, 7 at sqrt 3
    total = 1 + 6 + 12 * math.sqrt(2) + 7 * math.sqrt(3)
    assert scores.assd == pytest.approx(total / 26)


def test_the_border_of_the_image_is_a_surface() -> None:
    truth = mask((4, 5, 6), (1, np.s_[:, :, :]))
    inner = mask((4, 5, 6), (1, np.s_[:, :, 1:]))
    scores = report(inner, truth, (1, 1, 2), CLASSES).per_class[1]
    assert scores.mssd == pytest.approx(2.0)  # of the plane x = 0, all of it surface


def test_another_organ_at_the_border_of_one_does_not_hide_its_surface() -> None:
    truth = mask((6, 6, 9), (1, np.s_[1:5, 1:5, 1:4]), (2, np.s_[1:5, 1:5, 4:8]))
    prediction = mask((6, 6, 9), (1, np.s_[1:5, 1:5, 1:5]), (2, np.s_[1:5, 1:5, 5:8]))
    alone = report(prediction == 1, truth == 1, (1, 1, 2), {1: "liver"}).per_class[1]
    together = report(prediction, truth, (1, 1, 2), CLASSES).per_class[1]
    assert together == alone
    assert together.mssd == pytest.approx(2.0)


def test_a_slice_is_scored_alike_as_a_plane_and_as_a_volume_of_one_plane() -> None:
    truth, prediction = mask((9, 13), (1, np.s_[2:7, 3:9])), mask((9, 13), (1, np.s_[3:7, 2:9]), (2, np.s_[0:2, 0:2]))
    flat = report(prediction, truth, (1.0, 0.5), CLASSES, boundary_tolerance_mm=0.5)
    thick = report(prediction[None], truth[None], (7.0, 1.0, 0.5), CLASSES, boundary_tolerance_mm=0.5)
    assert flat == thick
    assert flat.per_class[1].mssd == pytest.approx(1.0)


def test_distances_on_a_sheared_grid_follow_its_directions() -> None:
    """Slices 5 mm apart along an axis that leans by 4 mm: straight above a voxel is another one 4 rows on, 3 mm away."""
    truth = mask((4, 9, 3), (1, np.s_[1:2, 6:7, 1:2]))
    prediction = mask((4, 9, 3), (1, np.s_[2:3, 2:3, 1:2]))
    leaning = [[0, 0.8, 0.6], [0, 1, 0], [1, 0, 0]]
    assert report(prediction, truth, (5, 1, 0.5), CLASSES, directions=leaning).per_class[1].mssd == pytest.approx(3.0)
    assert report(prediction, truth, (5, 1, 0.5), CLASSES).per_class[1].mssd == pytest.approx(math.hypot(5, 4))


@pytest.mark.parametrize(
    ("in_prediction", "in_truth", "reason"),
    [(True, False, Undefined.ABSENT_IN_TRUTH), (False, True, Undefined.ABSENT_IN_PREDICTION), (False, False, Undefined.ABSENT_IN_BOTH)],
)
def test_a_class_that_is_absent_has_reasons_instead_of_numbers(in_prediction: bool, in_truth: bool, reason: Undefined) -> None:
    full, empty = mask((5, 7, 11), (1, np.s_[2:4, 3:4, 5:8])), mask((5, 7, 11))
    scores = report(full if in_prediction else empty, full if in_truth else empty, (3, 1, 0.5), CLASSES).per_class[1]
    missed = in_prediction or in_truth
    assert (scores.dice, scores.jaccard, scores.bf_score) == ((0.0, 0.0, 0.0) if missed else (None, None, None))
    assert scores.voe == (1.0 if missed else None)
    assert scores.rvd == (-1.0 if in_truth else None)
    assert scores.sensitivity == (0.0 if in_truth else None)
    assert scores.precision == (0.0 if in_prediction else None)
    for name in ("assd", "mssd", "rmsd", "hd95"):
        assert getattr(scores, name) is None
        assert scores.undefined[name] is reason
    assert set(scores.undefined.values()) == {reason}


def test_a_class_that_fills_the_truth_has_no_specificity() -> None:
    truth = mask((2, 3, 4), (1, np.s_[:]))
    assert report(truth, truth, (1, 1, 1), CLASSES).per_class[1].undefined == {"specificity": Undefined.FILLS_TRUTH}


def test_background_has_overlap_scores_only_and_every_class_its_name() -> None:
    truth = mask((5, 7, 11), (1, np.s_[2:4, 3:4, 5:8]))
    found = report(truth, truth, (3, 1, 0.5), {0: "rest", 1: "liver"})
    assert {key: scores.name for key, scores in found.per_class.items()} == {0: "rest", 1: "liver"}
    assert found.per_class[0].dice == 1.0
    assert found.per_class[0].undefined == dict.fromkeys(("assd", "mssd", "rmsd", "hd95", "bf_score"), Undefined.NOT_MEASURED)


def test_overall_scores_of_three_classes() -> None:
    truth = mask((1, 4, 10), (1, np.s_[:, 0, :8]), (2, np.s_[:, 1, :2]))  # 30 background, 8, 2
    prediction = mask((1, 4, 10), (1, np.s_[:, 0, :6]), (2, np.s_[:, 1, :4]))  # 30, 6, 4
    overall = report(prediction, truth, (1, 1, 1), CLASSES).overall
    ious = 28 / 32, 6 / 8, 2 / 4
    assert overall.dice == pytest.approx(2 * 8 / (10 + 10))
    assert overall.mean_dice == pytest.approx((12 / 14 + 4 / 6) / 2)
    assert overall.accuracy == pytest.approx(36 / 40)
    assert overall.mean_iou == pytest.approx(sum(ious) / 3)
    assert overall.weighted_iou == pytest.approx((30 * ious[0] + 8 * ious[1] + 2 * ious[2]) / 40)
    assert overall.mean_sensitivity == pytest.approx((28 / 30 + 6 / 8 + 1) / 3)


def test_means_leave_out_a_class_that_neither_map_has() -> None:
    truth = mask((4, 5, 6), (1, np.s_[1:3, 1:3, 1:3]))
    overall = report(truth, truth, (1, 1, 1), CLASSES).overall
    assert [getattr(overall, score) for score in OVERALL_SCORES] == [1.0] * len(OVERALL_SCORES)


def test_ignored_voxels_count_nowhere_whatever_is_predicted_there() -> None:
    truth = mask((5, 7, 11), (1, np.s_[1:4, 2:5, 3:8]), (255, np.s_[:, :, 6:]))
    rng = np.random.default_rng(3)
    found = []
    for _ in range(2):
        prediction = mask((5, 7, 11), (1, np.s_[1:4, 2:5, 4:8]))
        prediction[truth == 255] = rng.choice([0, 1, 2, 255], int((truth == 255).sum()))
        found.append(report(prediction, truth, (3, 1, 0.5), CLASSES, ignore=255))
    assert found[0] == found[1]
    assert found[0].voxels == 5 * 7 * 6
    scores = found[0].per_class[1]
    assert (scores.counts.tp, scores.counts.fp, scores.counts.fn) == (18, 0, 9)
    assert scores.mssd == pytest.approx(0.5)


def test_the_cut_towards_ignored_voxels_is_no_surface() -> None:
    """Without that rule the cut face at x = 5 would be surface of both, and pull the average down."""
    truth = mask((3, 3, 12), (1, np.s_[:, :, 3:]))
    prediction = mask((3, 3, 12), (1, np.s_[:, :, 1:]))
    truth[:, :, 6:] = 9
    scores = report(prediction, truth, (1, 1, 1), {1: "a"}, ignore=9).per_class[1]
    # surface: the rim of the cross section in each plane (8 of 9 voxels), and the whole of the first plane
    to_truth = [2.0] * 9 + [1.0] * 8 + [0.0] * 8 * 3
    to_prediction = [0.0] * 8 * 3 + [1.0]  # the middle of truth's first plane lies inside the prediction, a voxel from its rim
    assert scores.assd == pytest.approx((sum(to_truth) + sum(to_prediction)) / (len(to_truth) + len(to_prediction)))


def test_a_class_walled_in_by_ignored_voxels_has_no_surface() -> None:
    truth = np.full((5, 5, 5), 9, np.uint8)
    truth[2, 2, 2] = 1
    scores = report(np.ones_like(truth), truth, (1, 1, 1), {1: "a"}, ignore=9).per_class[1]
    assert scores.dice == 1.0
    assert scores.undefined["assd"] is Undefined.NO_SURFACE


def test_when_all_is_ignored_every_score_says_so() -> None:
    truth = np.full((2, 3, 4), 9, np.uint8)
    found = report(np.zeros_like(truth), truth, (1, 1, 1), CLASSES, ignore=9)
    assert found.overall.undefined["accuracy"] is Undefined.ALL_IGNORED
    assert all(value is None for score in OVERALL_SCORES for value in [getattr(found.overall, score)])


def test_background_can_be_ignored_and_still_be_predicted() -> None:
    truth = mask((1, 1, 8), (1, np.s_[:, :, 2:6]))
    prediction = mask((1, 1, 8), (1, np.s_[:, :, 0:4]))
    found = report(prediction, truth, (1, 1, 1), {0: "background", 1: "liver"}, ignore=0)
    assert list(found.per_class) == [1]
    assert (found.per_class[1].counts.tp, found.per_class[1].counts.fp, found.per_class[1].counts.fn) == (2, 0, 2)
    assert found.overall.accuracy == 0.5


def test_without_surfaces_overlap_stays_and_distances_are_not_measured() -> None:
    truth = mask((5, 7, 11), (1, np.s_[2:4, 3:4, 5:8]))
    quick, full = (report(truth, truth, (3, 1, 0.5), CLASSES, surfaces=surfaces) for surfaces in (False, True))
    assert quick.per_class[1].dice == full.per_class[1].dice == 1.0
    assert quick.per_class[1].undefined["bf_score"] is Undefined.NOT_MEASURED
    assert quick.overall.undefined == {"mean_bf_score": Undefined.NOT_MEASURED}


def test_a_report_is_json_without_nan() -> None:
    truth = mask((5, 7, 11), (1, np.s_[2:4, 3:4, 5:8]))
    found = json.loads(json.dumps(report(truth * 0, truth, (3, 1, 0.5), CLASSES).to_dict(), allow_nan=False))
    liver = found["classes"]["1"]
    assert (liver["name"], liver["dice"], liver["precision"]) == ("liver", 0.0, None)
    assert liver["undefined"]["precision"] == "absent in prediction"
    assert liver["voxels"]["truth"] == 6


@pytest.mark.parametrize("kind", [np.bool_, np.uint8, np.int16, np.int64, np.uint16])
def test_any_integer_type_gives_the_same_scores(kind: type) -> None:
    truth = mask((5, 7, 11), (1, np.s_[2:4, 3:4, 5:8]))
    prediction = np.roll(truth, 1, 2)
    assert report(prediction.astype(kind), truth.astype(kind), (3, 1, 0.5), CLASSES) == report(prediction, truth, (3, 1, 0.5), CLASSES)


def test_ids_need_not_be_small_or_dense() -> None:
    truth = mask((5, 7, 11), (1, np.s_[2:4, 3:4, 5:8])).astype(np.uint16)
    prediction = np.roll(truth, 1, 2)
    names = {14175: "a", 300: "b"}
    large = report(prediction * 14175, truth * 14175, (3, 1, 0.5), names)
    assert large.per_class[14175].assd == report(prediction, truth, (3, 1, 0.5), CLASSES).per_class[1].assd
    many = dict.fromkeys(range(1, 600), "a")
    assert report(prediction * 599, truth * 599, (3, 1, 0.5), many).per_class[599].dice == large.per_class[14175].dice


@pytest.mark.parametrize(
    ("prediction", "truth", "spacing", "options", "error", "words"),
    [
        (np.zeros((2, 3, 4), int), np.zeros((2, 4, 3), int), (1, 1, 1), {}, GeometryError, r"\(2, 3, 4\), truth \(2, 4, 3\)"),
        (np.zeros((0, 3, 4), int), np.zeros((0, 3, 4), int), (1, 1, 1), {}, GeometryError, "hold voxels"),
        (np.zeros((2, 3)), np.zeros((2, 3), int), (1, 1), {}, RequestError, "argmax"),
        (
            np.full((2, 3), 5),
            np.zeros((2, 3), int),
            (1, 1),
            {},
            RequestError,
            "prediction has ids outside .*: 5; allowed: 0, 1, 2",
        ),
        (np.zeros((2, 3), int), np.full((2, 3), 7), (1, 1), {}, RequestError, "truth has ids outside the classes: 7.*ignore"),
        (np.full((2, 3), 9), np.zeros((2, 3), int), (1, 1), {"ignore": 9}, RequestError, "prediction has ids outside"),
        (np.full((2, 3), -1), np.zeros((2, 3), int), (1, 1), {}, RequestError, "got -1"),
        (np.zeros((2, 3), int), np.zeros((2, 3), int), (1, 1, 1), {}, GeometryError, "2 finite numbers"),
        (np.zeros((2, 3), int), np.zeros((2, 3), int), (1, 0), {}, GeometryError, "> 0"),
        (np.zeros((2, 3), int), np.zeros((2, 3), int), (1, 1), {"directions": [[1, 0], [0, 2]]}, GeometryError, "2 unit vectors"),
        (np.zeros((2, 3), int), np.zeros((2, 3), int), (1, math.nan), {}, GeometryError, "finite"),
        (np.zeros((2, 3), int), np.zeros((2, 3), int), (1, 1), {"boundary_tolerance_mm": -1.0}, RequestError, "boundary_tolerance_mm"),
        (np.zeros((2, 3), int), np.zeros((2, 3), int), (1, 1), {"boundary_tolerance_mm": math.inf}, RequestError, "finite"),
    ],
)
def test_what_cannot_be_scored_is_named(prediction, truth, spacing, options, error, words) -> None:
    with pytest.raises(error, match=words):
        report(prediction, truth, spacing, CLASSES, **options)
