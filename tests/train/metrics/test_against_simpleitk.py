"""The same masks scored by SimpleITK: its overlap measures, its contours, its distance maps and its Hausdorff filter.

Its LabelContour takes the voxels that we take, except at the border of the image, which it does not see as an end of the class: the
masks are padded with one voxel of background for it. Its distances are float32.
"""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
from augtrain.metrics import report

FLOAT32 = 1e-5
ORGANS = (1, 2, 3)


def image_of(mask: np.ndarray, spacing_mm: tuple[float, ...]) -> sitk.Image:
    image = sitk.GetImageFromArray(np.pad(mask, 1).astype(np.uint8))
    image.SetSpacing(spacing_mm[::-1])
    return image


def distances_of(pair, organ: int) -> tuple[np.ndarray, np.ndarray]:
    """Distances prediction -> truth and truth -> prediction over SimpleITK's contours."""
    contours = [sitk.LabelContour(image_of(mask == organ, pair.spacing_mm)) for mask in (pair.prediction, pair.truth)]
    maps = [sitk.GetArrayFromImage(sitk.Abs(sitk.SignedMaurerDistanceMap(each, False, False, True))) for each in contours]
    masks = [sitk.GetArrayFromImage(each) > 0 for each in contours]
    return maps[1][masks[0]].astype(np.float64), maps[0][masks[1]].astype(np.float64)


@pytest.mark.parametrize("organ", ORGANS)
def test_overlap_scores_equal_its_overlap_measures(pair, organ: int) -> None:
    ours = report(pair.prediction, pair.truth, pair.spacing_mm, pair.classes).per_class[organ]
    measures = sitk.LabelOverlapMeasuresImageFilter()
    measures.Execute(*(image_of(mask == organ, pair.spacing_mm) for mask in (pair.prediction, pair.truth)))  # source, target
    assert ours.dice == pytest.approx(measures.GetDiceCoefficient(1), rel=1e-12)
    assert ours.jaccard == pytest.approx(measures.GetJaccardCoefficient(1), rel=1e-12)
    assert 1 - ours.sensitivity == pytest.approx(measures.GetFalseNegativeError(1), rel=1e-9)
    assert 1 - ours.precision == pytest.approx(measures.GetFalseDiscoveryRate(1), rel=1e-9)


@pytest.mark.parametrize("organ", ORGANS)
def test_surface_scores_equal_those_of_its_contours_and_distance_maps(pair, organ: int) -> None:
    to_truth, to_prediction = distances_of(pair, organ)
    both = np.concatenate([to_truth, to_prediction])
    ours = report(pair.prediction, pair.truth, pair.spacing_mm, pair.classes, boundary_tolerance_mm=0.6).per_class[organ]
    assert ours.assd == pytest.approx(both.mean(), rel=FLOAT32)
    assert ours.rmsd == pytest.approx(np.sqrt(np.square(both).mean()), rel=FLOAT32)
    assert ours.mssd == pytest.approx(both.max(), rel=FLOAT32)
    assert ours.hd95 == pytest.approx(max(np.percentile(to_truth, 95), np.percentile(to_prediction, 95)), rel=FLOAT32)
    precision, recall = np.mean(to_truth <= 0.6), np.mean(to_prediction <= 0.6)
    assert 0.3 < ours.bf_score < 0.98
    assert ours.bf_score == pytest.approx(2 * precision * recall / (precision + recall), rel=1e-12)


@pytest.mark.parametrize("organ", ORGANS)
def test_mssd_equals_its_hausdorff_distance_of_the_contours(pair, organ: int) -> None:
    contours = [sitk.LabelContour(image_of(mask == organ, pair.spacing_mm)) for mask in (pair.prediction, pair.truth)]
    hausdorff = sitk.HausdorffDistanceImageFilter()
    hausdorff.Execute(*contours)
    ours = report(pair.prediction, pair.truth, pair.spacing_mm, pair.classes).per_class[organ]
    assert ours.mssd == pytest.approx(hausdorff.GetHausdorffDistance(), rel=FLOAT32)


def test_its_hausdorff_distance_of_the_masks_is_no_larger_than_mssd(pair) -> None:
    """Its filter measures to the nearest voxel of the class, inside or on the surface; ours goes to the surface, which is never nearer."""
    for organ in ORGANS:
        hausdorff = sitk.HausdorffDistanceImageFilter()
        hausdorff.Execute(*(image_of(mask == organ, pair.spacing_mm) for mask in (pair.prediction, pair.truth)))
        ours = report(pair.prediction, pair.truth, pair.spacing_mm, pair.classes).per_class[organ]
        assert 0 < hausdorff.GetHausdorffDistance() <= ours.mssd * (1 + FLOAT32)
