"""Networks of a few hundred weights; "tiny" has all that a checkpoint must keep: dropout's seeds, running means, several outputs."""

from __future__ import annotations

import keras
from augtrain.models import NETWORKS as PAPERS
from augtrain.models import Network
from keras import layers


def tiny(classes: int, *, channels: int = 1, features: int = 6, heads: int = 1) -> keras.Model:
    """Input (N, Z, Y, X, channels) -> probabilities, of one or two resolutions."""
    image = keras.Input((None, None, None, channels))
    x = layers.Conv3D(features, 3, padding="same", activation="relu")(image)
    x = layers.Dropout(0.2)(layers.BatchNormalization(momentum=0.8)(x))
    coarse = layers.Conv3D(features, 2, strides=2, activation="relu")(x)
    fine = layers.Concatenate()([x, layers.UpSampling3D(2)(coarse)])
    outputs = [layers.Conv3D(classes, 1, activation="softmax", dtype="float32")(each) for each in (fine, coarse)][:heads]
    return keras.Model(image, outputs if heads > 1 else outputs[0])


def planes(classes: int, *, channels: int = 1, features: int = 6) -> keras.Model:
    """Input (N, Y, X, channels) -> probabilities."""
    image = keras.Input((None, None, channels))
    x = layers.Conv2D(features, 5, padding="same", activation="relu")(image)
    return keras.Model(image, layers.Conv2D(classes, 1, activation="softmax", dtype="float32")(x))


NETWORKS = {
    **PAPERS,
    "tiny": Network(name="tiny", build=tiny, dimensions=3, multiple=(2, 2, 2)),
    "planes": Network(name="planes", build=planes, dimensions=2, multiple=(1, 1, 1)),
}
