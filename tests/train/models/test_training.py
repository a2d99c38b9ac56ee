"""Each network learns one volume by heart, survives saving, and stays finite in 16 bits."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from augtrain.losses import IoU
from augtrain.models import NETWORKS
from numpy.typing import NDArray

CLASSES = 3
# network -> patch (Z, Y, X), width: what it needs to tell the organs apart within a few dozen steps
SMALL = {
    "rister_fcn": ((32, 32, 48), 0.125),
    "unet3d": ((16, 24, 32), 0.125),
    "residual_unet3d": ((16, 32, 48), 0.25),
    "unet2d": ((1, 64, 96), 0.125),
    "fcn2d": ((1, 96, 128), 0.125),
    "deeplabv3": ((1, 64, 96), 0.125),
}


def volume(shape: tuple[int, ...]) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Two ellipsoids (ellipses) of unlike size in noise: image (1, ..., 1), label (1, ...)."""
    place = np.stack(np.meshgrid(*((np.arange(side) + 0.5) / side for side in shape), indexing="ij"), axis=-1)
    label = np.zeros(shape, np.uint8)
    for organ, centre, radius in ((1, (0.45, 0.4, 0.3), (0.35, 0.3, 0.2)), (2, (0.55, 0.6, 0.75), (0.3, 0.33, 0.18))):
        near = (place - np.array(centre[-len(shape) :])) / np.array(radius[-len(shape) :])
        label[(near**2).sum(-1) < 1] = organ
    image = np.array([0.2, 0.5, 0.8])[label] + np.random.default_rng(3).normal(0, 0.1, shape)
    return image[None, ..., None].astype(np.float32), label[None]


def dice(prediction: NDArray[Any], label: NDArray[Any]) -> list[float]:
    """2 |P and T| / (|P| + |T|) of each organ."""
    return [
        float(2 * np.sum((prediction == organ) & (label == organ)) / (np.sum(prediction == organ) + np.sum(label == organ)))
        for organ in range(1, CLASSES)
    ]


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_a_network_learns_one_volume_by_heart(name: str) -> None:
    patch, width = SMALL[name]
    network = NETWORKS[name]
    keras.utils.set_random_seed(0)
    image, label = volume(patch[3 - network.dimensions :])
    options = {"heads": 1} if network.heads > 1 else {}
    model = network.build(CLASSES, width=width, patch=patch, **options)
    model.compile(keras.optimizers.Adam(3e-3), loss=IoU())
    scores = [0.0]
    for step in range(1, 161):
        model.train_on_batch(image, label)
        if step % 10 == 0:
            scores = dice(keras.ops.convert_to_numpy(model(image, training=False)).argmax(-1), label)
            if min(scores) > 0.95:
                break
    assert min(scores) > 0.95, f"{name}: Dice of the organs {scores} after {step} steps"


@pytest.mark.parametrize("name", SMALL)
def test_saved_weights_come_back_in_a_network_built_anew(name: str, tmp_path: Path) -> None:
    network = NETWORKS[name]
    image = volume(tuple(2 * step for step in network.multiple[3 - network.dimensions :]))[0]
    first, second = (network.build(CLASSES, width=0.07) for _ in range(2))
    first.save_weights(tmp_path / "model.weights.h5")
    before = np.asarray(keras.tree.flatten(second(image))[0])
    second.load_weights(tmp_path / "model.weights.h5")
    expected, got = (np.asarray(keras.tree.flatten(model(image))[0]) for model in (first, second))
    assert np.abs(before - expected).max() > 1e-3
    np.testing.assert_array_equal(got, expected)


@pytest.fixture(params=["mixed_float16", "mixed_bfloat16"])
def mixed_precision(request: pytest.FixtureRequest) -> Iterator[str]:
    before = keras.mixed_precision.dtype_policy()
    keras.mixed_precision.set_dtype_policy(request.param)
    yield str(request.param)
    keras.mixed_precision.set_dtype_policy(before)


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_16_bits_give_finite_float32_probabilities_near_those_of_32(name: str, mixed_precision: str) -> None:
    network = NETWORKS[name]
    image = 50 * volume(tuple(2 * step for step in network.multiple[3 - network.dimensions :]))[0]  # an image that no window has tamed
    keras.utils.set_random_seed(1)
    short = network.build(CLASSES, width=0.125)
    assert {layer.compute_dtype for layer in short.layers if hasattr(layer, "kernel")} == {mixed_precision.removeprefix("mixed_")}
    keras.mixed_precision.set_dtype_policy("float32")
    exact = network.build(CLASSES, width=0.125)
    exact.set_weights(short.get_weights())
    for got, expected in zip(keras.tree.flatten(short(image)), keras.tree.flatten(exact(image)), strict=True):
        assert got.dtype == "float32"
        assert np.isfinite(np.asarray(got)).all()
        assert np.abs(np.asarray(got) - np.asarray(expected)).mean() < 0.1
