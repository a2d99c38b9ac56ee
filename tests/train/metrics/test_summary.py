"""Scores over volumes: per case and pooled."""

from __future__ import annotations

import json
import statistics

import numpy as np
import pytest
from augtrain.metrics import OVERALL_SCORES, report, summarize

CLASSES = {1: "liver", 2: "bladder"}


def volume(right: int, missed: int, bladder: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Prediction and truth of one row: a liver partly found, a bladder found where it is."""
    truth = np.zeros((1, 2, 40), np.uint8)
    truth[0, 0, : right + missed] = 1
    truth[0, 1, :bladder] = 2
    prediction = truth.copy()
    prediction[0, 0, right : right + missed] = 0
    return prediction, truth


@pytest.fixture
def reports() -> dict:
    volumes = {"a": volume(2, 6), "b": volume(20, 10, bladder=5), "c": volume(9, 1)}
    return {name: report(*pair, (1, 1, 2), CLASSES) for name, pair in volumes.items()}


def test_per_case_weighs_volumes_alike_and_global_pools_voxels(reports: dict) -> None:
    liver = summarize(reports).per_class[1]
    dices = [2 * 2 / 10, 2 * 20 / 50, 2 * 9 / 19]
    assert liver.per_case["dice"].mean == pytest.approx(statistics.mean(dices))
    assert liver.per_case["dice"].std == pytest.approx(statistics.stdev(dices))
    assert liver.per_case["dice"].cases == 3
    assert liver.global_dice == pytest.approx(2 * 31 / (31 + 48))


def test_a_class_in_one_volume_has_a_mean_of_one_case_and_no_spread(reports: dict) -> None:
    bladder = summarize(reports).per_class[2].per_case["assd"]
    assert (bladder.mean, bladder.std, bladder.cases) == (0.0, None, 1)
    assert bladder.undefined == {"absent in truth and prediction": 2}


def test_overall_scores_are_those_of_the_volumes_laid_side_by_side(reports: dict) -> None:
    pairs = [volume(2, 6), volume(20, 10, bladder=5), volume(9, 1)]
    joined = report(*(np.concatenate(maps, axis=2) for maps in zip(*pairs, strict=True)), (1, 1, 2), CLASSES).overall
    pooled = summarize(reports).overall
    for score in OVERALL_SCORES:
        if score != "mean_bf_score":
            assert getattr(pooled, score) == pytest.approx(getattr(joined, score))
    means = [each.overall.mean_bf_score for each in reports.values()]
    assert pooled.mean_bf_score == pytest.approx(statistics.mean(means))


def test_a_class_that_one_report_does_not_know_is_absent_there(reports: dict) -> None:
    prediction, truth = volume(4, 4)
    summary = summarize(reports | {"d": report(prediction, truth, (1, 1, 2), {1: "liver"})})
    bladder = summary.per_class[2]
    assert bladder.per_case["dice"].undefined == {"absent in truth and prediction": 3}
    assert bladder.counts.tn == 3 * 80 - 5 + 80


def test_a_summary_is_json_without_nan(reports: dict) -> None:
    found = json.loads(json.dumps(summarize(reports).to_dict(), allow_nan=False))
    assert found["volumes"] == 3
    assert found["classes"]["1"]["per_case"]["dice"]["cases"] == 3
    assert set(found["overall_per_case"]) == set(OVERALL_SCORES)
