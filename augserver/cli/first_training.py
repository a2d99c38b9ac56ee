"""A small network in training on streamed batches: the demo's proof that the loop closes. Needs TensorFlow."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from augclient import Recipe

from augserver.errors import ConfigError

SPACING_MM = 6.0
PATCH = (56, 48, 64)  # 336 x 288 x 384 mm: most of a torso; divisible by 4, as the network halves twice
BATCH_SIZE = 2
RECIPE = Recipe(
    crop={"mode": "uniform"},
    affine={"rotate_deg": [10, 5, 5], "scale": [0.9, 1.1], "translate_mm": 10},
    contrast={"factor": [0.9, 1.1]},
    noise={"std": [0, 20]},
    window={"low": [-1000, -600], "high": [400, 800]},
    output={"spacing_mm": SPACING_MM},
)


def check_tensorflow() -> None:
    """Refuse before any work where TensorFlow is missing.

    Raises:
        ConfigError: names the package to install and the option to go without.
    """
    from importlib.util import find_spec

    if find_spec("tensorflow") is None:
        raise ConfigError(
            "the demo trains a small network, but TensorFlow is not installed; "
            'pip install "augserver-client[tensorflow-cpu]", or run augserver demo --no-train'
        )


def train(address: str, classes: int, steps: int, report: Callable[[int, float], None]) -> list[float]:
    """Train from scratch on batches 0 .. steps - 1 of RECIPE.

    Args:
        address: of a server.
        classes: number of classes, background included.
        steps: batches to take.
        report: called after each step with its number (from 1) and loss.
    Returns:
        the loss of each step.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # before the import, which prints its build flags otherwise
    import keras
    from augclient import connect
    from augclient.tensorflow import dataset

    keras.utils.set_random_seed(0)
    model = small_unet(classes)
    model.compile(optimizer=keras.optimizers.Adam(3e-3), loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    losses: list[float] = []
    with connect(address) as server:
        for image, label in dataset(server, RECIPE, patch=PATCH, batch_size=BATCH_SIZE, steps=steps):
            losses.append(float(model.train_on_batch(image, label)))
            model.reset_metrics()  # or train_on_batch would return the mean of all steps so far
            report(len(losses), losses[-1])
    return losses


def small_unet(classes: int) -> Any:
    """A 3-D U-Net of two levels, about 60 thousand weights: (N, Z, Y, X, 1) -> logits (N, Z, Y, X, classes)."""
    import keras
    from keras import layers

    def block(x: Any, filters: int) -> Any:
        for _ in range(2):
            x = layers.Conv3D(filters, 3, padding="same", use_bias=False)(x)
            x = layers.BatchNormalization()(x)
            x = layers.ReLU()(x)
        return x

    inputs = keras.Input((*PATCH, 1))
    fine = block(layers.Conv3D(8, 2, strides=2)(inputs), 12)
    coarse = block(layers.MaxPooling3D()(fine), 24)
    merged = layers.Concatenate()([fine, layers.UpSampling3D()(coarse)])
    x = block(merged, 16)
    logits = layers.UpSampling3D()(layers.Conv3D(classes, 1)(x))
    return keras.Model(inputs, logits)
