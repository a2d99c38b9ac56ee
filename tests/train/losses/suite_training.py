"""Losses in Model.fit, trained coefficients, and saving."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from augtrain.losses import CrossEntropy, Dice, IoU, MultiResolution, SegmentationLoss, Sum, SupervisedModel
from keras import layers, ops
from numpy.typing import NDArray


@pytest.fixture(autouse=True)
def _seeded() -> Iterator[None]:
    keras.utils.set_random_seed(0)
    yield
    keras.config.set_dtype_policy("float32")


def scans(grid: tuple[int, ...]) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Eight scans of three channels, which tell the classes apart but for some noise."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, (8, *grid)).astype(np.uint8)
    return (np.eye(3)[labels] + rng.normal(0, 0.2, (*labels.shape, 3))).astype(np.float32), labels


def many(array: NDArray[Any], times: int) -> NDArray[Any]:
    """The same scans over and over: steps in an epoch cost less than epochs."""
    return np.tile(array, (times,) + (1,) * (array.ndim - 1))


def network(grid: tuple[int, ...], heads: int = 1) -> keras.Model:
    """Per voxel, and per cell of 2**level voxels."""
    conv = layers.Conv3D if len(grid) == 3 else layers.Conv2D
    pool = layers.AveragePooling3D if len(grid) == 3 else layers.AveragePooling2D
    inputs = keras.Input((*grid, 3))
    outputs = []
    for level in range(heads):
        features = conv(8, 1, activation="relu")(pool(2**level)(inputs) if level else inputs)
        outputs.append(layers.Softmax(dtype="float32")(conv(3, 1)(features)))
    return keras.Model(inputs, outputs if heads > 1 else outputs[0])


@pytest.mark.parametrize(
    ("loss", "grid", "policy"),
    [
        (IoU(power=2), (4, 4, 6), "float32"),
        (CrossEntropy("balanced"), (4, 6), "mixed_bfloat16"),
        (Sum([Dice(reduce="batch"), CrossEntropy()]), (4, 4, 6), "mixed_float16"),
    ],
    ids=["iou-3d", "cross-entropy-2d-bfloat16", "sum-3d-float16"],
)
def test_compile_and_fit_train_on_uint8_labels(loss: SegmentationLoss, grid: tuple[int, ...], policy: str) -> None:
    keras.config.set_dtype_policy(policy)
    images, labels = scans(grid)
    model = network(grid)
    model.compile(keras.optimizers.Adam(0.05), loss=loss)
    before = model.evaluate(images, labels, batch_size=4, verbose=0)
    model.fit(many(images, 40), many(labels, 40), batch_size=4, verbose=0)
    assert model.evaluate(images, labels, batch_size=4, verbose=0) < 0.3 * before
    by_hand = np.mean([float(loss(labels[k : k + 4], ops.stop_gradient(model(images[k : k + 4])))) for k in (0, 4)])
    rounding = 1e-4 if policy == "float32" else 0.02  # compiled layers round elsewhere than eager ones
    assert model.evaluate(images, labels, batch_size=4, verbose=0) == pytest.approx(by_hand, rel=rounding)


def test_sample_weights_weigh_images() -> None:
    _, labels = scans((4, 6))
    p = np.random.default_rng(1).dirichlet(np.ones(3), labels.shape).astype(np.float32)
    alone = [float(IoU()(labels[k : k + 1], p[k : k + 1])) for k in range(8)]
    weights = np.arange(8, dtype=np.float32)
    assert float(IoU()(labels, p, weights)) == pytest.approx(np.mean(weights * alone), rel=1e-5)
    np.testing.assert_allclose(ops.convert_to_numpy(IoU(reduction="none")(labels, p)), alone, rtol=1e-5)


def test_fit_trains_heads_and_coefficients_together(tmp_path: Path) -> None:
    images, labels = scans((4, 4, 8))
    loss = MultiResolution(Dice(), (1, 0.1, 0.01), trainable=True)
    model = SupervisedModel(network((4, 4, 8), heads=3), loss)
    model.compile(keras.optimizers.Adam(0.02), metrics=[keras.metrics.SparseCategoricalAccuracy()])
    before = [variable.numpy().copy() for variable in model.network.trainable_variables]
    start = model.evaluate(images, labels, batch_size=8, verbose=0)[0]
    model.fit(many(images, 60), many(labels, 60), batch_size=8, verbose=0)
    end, accuracy = model.evaluate(images, labels, batch_size=8, verbose=0)
    assert end < 0.5 * start
    assert accuracy > 0.9
    assert all((variable.numpy() != old).any() for variable, old in zip(model.network.trainable_variables, before, strict=True))
    assert loss.alphas[0] == 1
    for alpha, first in zip(loss.alphas[1:], (0.1, 0.01), strict=True):
        assert first / np.e < alpha < 0.95 * first

    model.save(tmp_path / "supervised.keras")
    again = keras.saving.load_model(tmp_path / "supervised.keras")
    np.testing.assert_allclose(again.objective.alphas, loss.alphas, rtol=1e-6)
    assert again.evaluate(images, labels, batch_size=8, verbose=0) == pytest.approx(model.evaluate(images, labels, batch_size=8, verbose=0))


def test_trained_coefficients_come_to_rest_at_start_times_e_to_the_minus_loss() -> None:
    """Plain descent on alpha * loss would take them to 0 or below it."""
    images, labels = scans((4, 4))
    frozen = network((4, 4), heads=3)
    frozen.trainable = False
    loss = MultiResolution(IoU(), (1, 0.5, 0.25), trainable=True)
    model = SupervisedModel(frozen, loss)
    model.compile(keras.optimizers.Adam(0.02))
    model.fit(many(images, 250), many(labels, 250), batch_size=8, verbose=0)
    levels = [float(ops.stop_gradient(MultiResolution(IoU(), only)(labels, frozen(images)))) for only in ((0, 1, 0), (0, 0, 1))]
    assert min(levels) > 0.3
    np.testing.assert_allclose(loss.alphas, [1, *(np.array([0.5, 0.25]) * np.exp(-np.array(levels)))], rtol=0.01)


def test_the_coefficients_variable_has_the_gradient_of_its_formula(graded: Any) -> None:
    images, labels = scans((4, 4))
    predictions = [np.asarray(ops.convert_to_numpy(each)) for each in network((4, 4), heads=2).predict(images, verbose=0)]
    loss = MultiResolution(IoU(), (1, 0.5), trainable=True)
    [theta] = loss.trainable_variables
    coarse = graded(MultiResolution(IoU(), (0, 1)), labels, predictions)[0]
    values = []
    for moved in (-0.3 - 1e-2, -0.3, -0.3 + 1e-2):
        theta.assign([moved])
        values.append(graded(lambda y, p: loss(y, p), labels, predictions)[0])
    alpha = 0.5 * np.exp(-0.3)
    assert (values[2] - values[0]) / 2e-2 == pytest.approx(alpha * (coarse - 0.3), abs=1e-4)


def smooth(p: Any) -> Any:
    return p * p * (3 - 2 * p)


keras.saving.register_keras_serializable(package="suite")(smooth)


@pytest.mark.parametrize(
    "loss",
    [
        CrossEntropy({0: 1, 1: 2, 2: 0.5}, ignore=9),
        CrossEntropy("inverse", class_voxels=(5, 3, 2)),
        IoU(power=2, fp_weight=0.5, fn_weight=1.5, background=False, name="mine"),
        IoU(curve=smooth),
        Dice("square", {0: 50, 1: 5, 2: 1, 255: 7}, reduce="batch", ignore=255),
        Sum([IoU(), CrossEntropy("balanced")], [1, 0.25]),
    ],
    ids=lambda loss: loss.name,
)
def test_a_loss_comes_back_from_json(loss: SegmentationLoss) -> None:
    text = json.dumps(keras.saving.serialize_keras_object(loss))
    again = keras.saving.deserialize_keras_object(json.loads(text))
    assert type(again) is type(loss)
    assert again.get_config() == loss.get_config()
    _, labels = scans((4, 4))
    p = np.random.default_rng(1).dirichlet(np.ones(3), labels.shape).astype(np.float32)
    assert float(again(labels, p)) == float(loss(labels, p))


def test_multi_resolution_comes_back_from_json() -> None:
    loss = MultiResolution(Sum([Dice(), CrossEntropy(ignore=9)]), (1, 0.2), trainable=True)
    again = keras.saving.deserialize_keras_object(json.loads(json.dumps(keras.saving.serialize_keras_object(loss))))
    assert again.get_config() == loss.get_config()
    assert again.ignore == 9
    np.testing.assert_allclose(again.alphas, (1, 0.2), rtol=1e-6)
