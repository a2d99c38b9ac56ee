"""A recipe of steps through a server: the same bytes however it is asked for, and made again from provenance by Warp."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import augclient
import numpy as np
import pytest
from augclient.errors import RecipeError

from augserver.store import Dataset, DatasetWriter

SHAPE, PATCH = (20, 31, 44), (12, 24, 40)
RECIPE = augclient.Recipe(
    crop={"mode": "uniform"},
    output={"labels": "linear"},
    steps=[
        {"op": "rotate", "degrees": 30, "probability": 0.5},
        {"op": "scale", "factor": [0.8, 1.2], "same_for_all_axes": True, "probability": 0.5},
        {"op": "mirror"},
        {"op": "noise", "std": [0, 30], "probability": 0.5},
        {"op": "blur", "sigma": [0.5, 1], "probability": 0.5, "per_channel": True, "channel_probability": 0.5},
        {"op": "multiply", "factor": {"two_sided": [0.75, 1.25]}, "per_channel": True, "probability": 0.5},
        {"op": "contrast", "factor": {"two_sided": [0.75, 1.25]}, "per_channel": True, "probability": 0.5},
        {"op": "gamma", "exponent": {"two_sided": [0.7, 1.5]}, "invert": True, "keep_statistics": True, "probability": 0.5},
    ],
)

WINDOW = {"op": "window", "low": -500, "high": 500}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory, start_server: Callable[..., Any]) -> Iterator[Any]:
    path: Path = tmp_path_factory.mktemp("store") / "steps.zarr"
    rng = np.random.default_rng(3)
    with DatasetWriter(path, modality="ct", classes={4: "liver"}) as writer:
        for name in ("a", "b"):
            label = rng.choice(np.array([0, 4], np.uint8), SHAPE)
            writer.write(name, rng.integers(-900, 900, (2, *SHAPE)).astype(np.int16), label, (1.0, 1.0, 1.0), np.eye(4), {})
        writer.finish()
    with augclient.connect(str(start_server(Dataset.open(path)).server.address)) as connected:
        yield connected


def test_bytes_depend_on_the_index_alone(client: Any) -> None:
    singles = [client.sample(RECIPE, patch=PATCH, seed=8, index=index) for index in range(12)]
    seen = 0
    for batch_size in (1, 3, 4):
        with client.stream(RECIPE, patch=PATCH, batch_size=batch_size, seed=8, steps=12 // batch_size) as stream:
            for batch in stream:
                for k, sample in enumerate(batch.samples):
                    np.testing.assert_array_equal(batch.image[k], singles[sample.index].image)
                    np.testing.assert_array_equal(batch.label[k], singles[sample.index].label)
                    seen += 1
    assert seen == 36


def test_a_sample_is_made_again_from_its_provenance(client: Any) -> None:
    fired = set()
    with client.stream(RECIPE, patch=PATCH, batch_size=4, seed=8, steps=4) as stream:
        for batch in stream:
            for k, sample in enumerate(batch.samples):
                whole = client.volume(sample.volume)
                transform = augclient.Transform(affine=sample.affine, fill=sample.fill, label_rule=sample.label_rule, steps=sample.steps)
                ((image, label),) = client.warp([(whole.image, whole.label)], transform, shape=PATCH)
                np.testing.assert_array_equal(image, batch.image[k])
                np.testing.assert_array_equal(label, batch.label[k])
                fired |= {step.op for step in sample.steps if step.fired}
    assert fired == {table["op"] for table in RECIPE.to_dict()["steps"]}


def test_explicit_steps_of_warp(client: Any) -> None:
    image = np.random.default_rng(0).normal(0, 1, (2, 8, 9, 10)).astype(np.float32)
    transform = augclient.Transform(
        steps=[{"op": "multiply", "factor": 2, "channels": [1]}, {"op": "shift", "offset": [1, 3], "per_channel": True}]
    )
    (found,) = client.warp([image], transform)
    np.testing.assert_array_equal(found[0], image[0] + np.float32(1))
    np.testing.assert_array_equal(found[1], image[1] * np.float32(2) + np.float32(3))


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ([{"op": "rotate", "degrees": [1, 2, 3]}], "the affine says what spatial steps do"),
        ([{"op": "shift", "offset": 1}, {"offset": 1}], r"item 0: steps\[2\] has no op"),
        ([{"op": "gamma", "exponent": [0.7, 1.5]}], "allowed: a number"),
        ([{"op": "shift", "offset": [1, 2, 3], "per_channel": True}], "one entry for each of 2 channels"),
        ([{"op": "shift", "offset": 1, "channels": [2]}], "allowed: 0 to 1"),
        ([{"op": "window", "low": 5, "high": 5}], "every low must be below every high"),
        ([{"op": "window", "low": [0, 9], "high": [5, 5], "per_channel": True}], "every low must be below every high"),
    ],
)
def test_what_warp_refuses(client: Any, steps: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        list(client.warp([np.zeros((2, 4, 4, 4), np.float32)], augclient.Transform(steps=steps)))


def test_warp_refuses_steps_beside_what_they_take_the_place_of(client: Any) -> None:
    transform = augclient.Transform(steps=[{"op": "shift", "offset": 1}], window=(0, 1), occlusion=(0, 2))
    with pytest.raises(RecipeError, match="occlusion, window beside steps"):
        list(client.warp([np.zeros((2, 4, 4, 4), np.float32)], transform))


@pytest.mark.parametrize(
    ("recipe", "how", "message"),
    [
        (augclient.Recipe(steps=[{"op": "blurr", "sigma": 1}]), {}, "did you mean 'blur'"),
        (augclient.Recipe(steps=[{"op": "mirror"}], noise={"std": 3}), {}, r"either steps or \[noise\]"),
        (augclient.Recipe(steps=[{"op": "mirror"}]), {"image_dtype": "uint8"}, "ends in a window step"),
        (augclient.Recipe(steps=[{**WINDOW, "probability": 0.5}]), {"image_dtype": "uint8"}, "ends in a window step"),
        (augclient.Recipe(steps=[WINDOW, {"op": "multiply", "factor": 9}]), {"image_dtype": "uint8"}, "ends in a window step"),
    ],
)
def test_what_a_stream_refuses_before_any_work(client: Any, recipe: Any, how: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message), client.stream(recipe, patch=PATCH, batch_size=1, **how) as stream:
        next(iter(stream))


def test_bytes_of_an_image_that_ends_in_a_window(client: Any) -> None:
    recipe = augclient.Recipe(steps=[{"op": "blur", "sigma": 0.7}, WINDOW, {"op": "mirror"}])
    whole, quantised = (client.sample(recipe, patch=PATCH, index=3, image_dtype=dtype).image for dtype in ("float32", "uint8"))
    assert whole.min() >= 0.0
    assert whole.max() <= 1.0
    np.testing.assert_array_equal(quantised, np.floor(whole * np.float32(255) + np.float32(0.5)).astype(np.uint8))
