"""The same masks scored by MONAI, which defines surface voxels as we do: erosion by face neighbours, the border of the image is an end.

HD95 there is the larger of the two directions' percentiles, and the symmetric average pools both surfaces, as ours. Its distances are
float32. Its surface Dice adds the shares of both surfaces before it divides; the boundary F-score (Furtado) is their harmonic mean, so the
two are compared where the surfaces are equally large.
"""

from __future__ import annotations

import numpy as np
import pytest
from augtrain.metrics import report

pytestmark = [
    pytest.mark.slow,  # importing MONAI takes seconds
    pytest.mark.filterwarnings("ignore:.*always_return_as_numpy:FutureWarning"),  # MONAI 1.6's word to itself
]
FLOAT32 = 1e-5
ORGANS = (1, 2, 3)


@pytest.fixture(scope="module")
def monai_metrics():
    import monai.metrics

    return monai.metrics


def one_hot(labels: np.ndarray, organs=ORGANS):
    import torch

    return torch.from_numpy(np.stack([labels == organ for organ in organs])[None].astype(np.float32))


def test_surface_distances_equal(pair, monai_metrics) -> None:
    masks = one_hot(pair.prediction), one_hot(pair.truth)
    options = {"include_background": True, "spacing": pair.spacing_mm}
    assd = monai_metrics.compute_average_surface_distance(*masks, symmetric=True, **options)[0].tolist()
    mssd = monai_metrics.compute_hausdorff_distance(*masks, **options)[0].tolist()
    hd95 = monai_metrics.compute_hausdorff_distance(*masks, percentile=95, **options)[0].tolist()
    ours = report(pair.prediction, pair.truth, pair.spacing_mm, pair.classes).per_class
    for place, organ in enumerate(ORGANS):
        assert ours[organ].assd == pytest.approx(assd[place], rel=FLOAT32)
        assert ours[organ].mssd == pytest.approx(mssd[place], rel=FLOAT32)
        assert ours[organ].hd95 == pytest.approx(hd95[place], rel=FLOAT32)


def test_overlap_scores_equal(pair, monai_metrics) -> None:
    masks = one_hot(pair.prediction), one_hot(pair.truth)
    ours = report(pair.prediction, pair.truth, pair.spacing_mm, pair.classes).per_class
    dice = monai_metrics.compute_dice(*masks, include_background=True)[0].tolist()
    iou = monai_metrics.compute_iou(*masks, include_background=True)[0].tolist()
    confusion = monai_metrics.get_confusion_matrix(*masks)
    for place, organ in enumerate(ORGANS):
        assert (ours[organ].dice, ours[organ].jaccard) == pytest.approx((dice[place], iou[place]), rel=1e-6)
        for name in ("sensitivity", "specificity", "precision"):
            theirs = float(monai_metrics.compute_confusion_matrix_metric(name, confusion)[0, place])
            assert getattr(ours[organ], name) == pytest.approx(theirs, rel=1e-6)


def test_mean_iou_and_mean_dice_equal_with_background(pair, monai_metrics) -> None:
    every = (0, *ORGANS)
    masks = one_hot(pair.prediction, every), one_hot(pair.truth, every)
    ours = report(pair.prediction, pair.truth, pair.spacing_mm, pair.classes).overall
    assert ours.mean_iou == pytest.approx(float(monai_metrics.compute_iou(*masks).mean()), rel=1e-6)
    assert ours.mean_dice == pytest.approx(float(monai_metrics.compute_dice(*masks)[0, 1:].mean()), rel=1e-6)


def test_boundary_f_score_equals_surface_dice_where_the_surfaces_are_equally_large(pair, monai_metrics) -> None:
    moved = np.zeros_like(pair.truth)
    moved[1:, 2:, 3:] = np.where(pair.truth == 2, 2, 0)[:-1, :-2, :-3]
    truth = np.where(pair.truth == 2, 2, 0)
    for tolerance_mm in (0.5, 1.5, 2.5):
        theirs = monai_metrics.compute_surface_dice(
            one_hot(moved, (2,)), one_hot(truth, (2,)), [tolerance_mm], include_background=True, spacing=pair.spacing_mm
        )
        ours = report(moved, truth, pair.spacing_mm, pair.classes, boundary_tolerance_mm=tolerance_mm).per_class[2]
        assert 0 < float(theirs) < 1
        assert ours.bf_score == pytest.approx(float(theirs), abs=5e-3)  # shares of the two directions differ a little
