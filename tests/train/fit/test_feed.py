"""Batches as a network takes them, and whole volumes from the kernel that makes the batches."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from augclient import Recipe, connect
from augclient.errors import StateError, UnavailableError
from augtrain.fit import FitConfig
from augtrain.fit.feed import BatchFeed, patiently, whole_volume
from augtrain.fit.schedule import whole_recipe

from augserver.store import Dataset

IDS = ("torso_0", "torso_4")


@pytest.mark.parametrize("dtype", ["float32", "float16", "uint8"])
@pytest.mark.parametrize("flat", [False, True])
def test_a_batch_is_the_streams_with_channels_last(make_config: Callable[..., FitConfig], address: str, dtype: str, flat: bool) -> None:
    config = make_config({"batches.dtype": dtype})
    with connect(address) as server:
        with server.stream(config.recipe, patch=config.batches.patch, batch_size=2, start=3, steps=2, volumes=IDS) as stream:
            wanted = list(stream)
        feed = BatchFeed(server, config, IDS, flat=flat)
        feed.open(config.recipe, 3)
        got = [feed.take(), feed.take()]
        assert feed.state(5)["step"] == 5
        feed.close()
        with pytest.raises(StateError, match="closed"):
            feed.take()
    for one, batch in zip(got, wanted, strict=True):
        assert one.step == batch.step
        assert one.image.dtype == np.float32
        assert one.image.shape == ((24, 10, 14, 1) if flat else (2, 12, 10, 14, 1))
        tolerance = {"float32": 0.0, "float16": 1e-3, "uint8": 0.5 / 255 + 1e-6}[dtype]
        np.testing.assert_allclose(one.image.reshape(2, 1, 12, 10, 14), batch.image, atol=tolerance, rtol=0)
        np.testing.assert_array_equal(one.label.reshape(2, 12, 10, 14), batch.label)
    assert [one.first for one in got] == [True, False]


def test_a_change_of_recipe_keeps_volumes_and_crops_at_every_step(make_config: Callable[..., FitConfig], address: str) -> None:
    recipe = Recipe(crop={"mode": "uniform"}, noise={"std": [5, 20]}, window={"low": -1000, "high": 400})
    config = make_config({"recipe": recipe})
    with connect(address) as server:
        feed = BatchFeed(server, config, IDS, flat=False)
        feed.open(recipe, 4)
        noisy = feed.take()
        feed.open(recipe.without_augmentation(), 4)
        plain = feed.take()
        feed.close()
    np.testing.assert_array_equal(noisy.label, plain.label)
    assert 0 < np.abs(noisy.image - plain.image).mean() < 0.05


def test_a_whole_volume_at_its_own_spacing_is_the_stored_one_windowed(address: str, torsos: Path) -> None:
    recipe = whole_recipe(Recipe(noise={"std": 20}, affine={"rotate_deg": 9}, window={"low": [-1000, -600], "high": [400, 800]}))
    stored = Dataset.open(torsos).read("torso_2")
    with connect(address) as server:
        image, label, spacing_mm = whole_volume(server, recipe, "torso_2")
    np.testing.assert_allclose(image[..., 0], np.clip((stored.image[0] + 800.0) / 1400.0, 0, 1), atol=1e-6)
    np.testing.assert_array_equal(label, stored.label)
    assert spacing_mm == (14.0, 14.0, 14.0)


def test_a_whole_volume_at_another_spacing_covers_the_same_body(address: str, torsos: Path) -> None:
    recipe = whole_recipe(Recipe(window={"low": -1000, "high": 600}, output={"spacing_mm": [28, 14, 7]}))
    stored = Dataset.open(torsos).read("torso_2")
    with connect(address) as server:
        image, label, spacing_mm = whole_volume(server, recipe, "torso_2")
    assert (image.shape, label.shape, spacing_mm) == ((14, 26, 60, 1), (14, 26, 60), (28.0, 14.0, 7.0))
    assert stored.label is not None
    # of two planes and of half a column each, nearest labels are those of a voxel beside
    for axis, step in ((0, 2), (2, 0.5)):
        wanted = np.average(np.arange(stored.label.shape[axis]), weights=(stored.label == 3).sum(tuple({0, 1, 2} - {axis})))
        got = np.average(np.arange(label.shape[axis]), weights=(label == 3).sum(tuple({0, 1, 2} - {axis})))
        assert (got + 0.5) * step == pytest.approx(wanted + 0.5, abs=0.6)


def test_a_server_that_is_away_is_waited_for_and_other_errors_are_not() -> None:
    answers: list[Any] = [UnavailableError("away"), UnavailableError("away"), 7]

    def call() -> Any:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert patiently(call) == 7
    answers += [StateError("no")]
    with pytest.raises(StateError):
        patiently(call)
    answers += [UnavailableError("away")]
    with pytest.raises(UnavailableError):
        patiently(call, for_s=0.0)
