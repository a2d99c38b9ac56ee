"""Rates and the beginning of augmentation, against what a reader of the papers would write down by hand."""

from __future__ import annotations

import json

import pytest
from augclient import Recipe
from augtrain.fit import AugmentationConfig, RateConfig
from augtrain.fit.schedule import Augmentation, LearningRate, whole_recipe, window_of


def test_a_plateau_halves_the_rate_after_patience_failures_in_a_row() -> None:
    """Nguyen: halved when the validation loss no longer decreases."""
    rate = LearningRate(0.8, RateConfig(rule="plateau", patience=2, min_delta=0.0, factor=0.5))
    seen = []
    for loss in (5, 4, 4, 3, 3, 3, 3, 3, 2.9, 2.9):
        rate.observe("validation", loss)
        rate.observe("training", 99.0)  # not what is monitored
        seen.append(rate.at(123))
    assert seen == pytest.approx([0.8, 0.8, 0.8, 0.8, 0.8, 0.4, 0.4, 0.2, 0.2, 0.2])


def test_a_period_multiplies_the_rate_by_the_factor_every_so_many_steps() -> None:
    """Furtado: 0.005, times 0.9 every 20 epochs."""
    rate = LearningRate(0.005, RateConfig(rule="period", period=20, factor=0.9))
    assert [rate.at(step) for step in (0, 19, 20, 39, 40, 500)] == pytest.approx([0.005 * 0.9**k for k in (0, 0, 1, 1, 2, 25)])
    floor = LearningRate(0.005, RateConfig(rule="period", period=1, factor=0.1, minimum=1e-6))
    assert floor.at(10**9) == 1e-6


def test_a_fall_smaller_than_min_delta_counts_as_none() -> None:
    rate = LearningRate(1.0, RateConfig(rule="plateau", patience=1, min_delta=0.1, monitor="training"))
    for loss, due in ((10.0, 1.0), (9.05, 0.5), (8.9, 0.5), (8.5, 0.25)):
        rate.observe("training", loss)
        assert rate.at(0) == due


def test_augmentation_begins_where_the_mean_loss_stops_falling_and_at_no_other_step() -> None:
    augmentation = Augmentation(AugmentationConfig(start="plateau", patience=2, min_delta=0.0))
    assert [augmentation.observe(100 * k, loss) for k, loss in enumerate((3, 2, 2, 1, 1, 1, 0, 0, 0), 1)] == [False] * 5 + [True] + [
        False
    ] * 3
    assert augmentation.start == 600
    assert Augmentation(AugmentationConfig(start=7)).start == 7


def test_schedules_go_on_from_their_state_as_json() -> None:
    values = [5, 4, 4, 4, 3, 3, 3, 3, 3]
    whole, first = (LearningRate(1.0, RateConfig(rule="plateau", patience=2)) for _ in range(2))
    rates = []
    for value in values:
        whole.observe("validation", value)
        rates.append(whole.at(0))
    for value in values[:4]:
        first.observe("validation", value)
    second = LearningRate(1.0, RateConfig(rule="plateau", patience=2))
    second.restore(json.loads(json.dumps(first.state())))
    got = []
    for value in values[4:]:
        second.observe("validation", value)
        got.append(second.at(0))
    assert got == rates[4:]
    assert len(set(rates)) > 2


RECIPE = Recipe(
    crop={"mode": "foreground", "patches_per_volume": 3},
    affine={"rotate_deg": 10},
    occlude={"max_voxels": 4},
    contrast={"factor": [0.9, 1.1]},
    brightness={"offset": 3},
    gamma={"exponent": [0.9, 1.1]},
    noise={"std": [0, 20]},
    window={"low": [-1000, -600], "high": [400, 800]},
    labels={"keep": ["liver"]},
    output={"spacing_mm": [6, 5, 4], "fill": -1024},
)


def test_without_augmentation_crop_labels_output_and_the_middle_of_the_window_are_left() -> None:
    assert RECIPE.without_augmentation().to_dict() == {
        "crop": {"mode": "foreground", "patches_per_volume": 3},
        "window": {"low": [-800.0, -800.0], "high": [600.0, 600.0]},
        "labels": {"keep": ["liver"]},
        "output": {"fill": -1024.0, "spacing_mm": [6.0, 5.0, 4.0]},
    }
    assert window_of(RECIPE) == (-800.0, 600.0)
    assert RECIPE.without_augmentation().without_augmentation() == RECIPE.without_augmentation()


def test_a_whole_volume_is_taken_from_its_centre_and_padded() -> None:
    assert whole_recipe(RECIPE).to_dict()["crop"] == {"mode": "center", "pad": True}
    assert whole_recipe(RECIPE).to_dict()["output"] == RECIPE.to_dict()["output"]
