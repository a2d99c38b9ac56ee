"""Rister's fully-convolutional network: a 3-D GoogLeNet that shrinks the volume by 8, and one interpolation back up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import keras

from augtrain.models.convolution import convolve_rectify, pool, scores
from augtrain.models.inception import Inception
from augtrain.models.inputs import features, network_input, probabilities
from augtrain.models.interpolation import LinearInterpolation
from augtrain.models.patch import Zyx

MULTIPLE: Final[Zyx] = (8, 8, 8)

# The paper gives each module's outputs alone. They are those of GoogLeNet's 3a, 3b, 4a, 4b or 4c (alike), 4d, 4e, 5a, 5b: so are our paths.
_BEFORE_POOLING: Final = (
    Inception(64, 96, 128, 16, 32, 32),
    Inception(128, 128, 192, 32, 96, 64),
    Inception(192, 96, 208, 16, 48, 64),
    Inception(160, 112, 224, 24, 64, 64),
    Inception(112, 144, 288, 32, 64, 64),
    Inception(256, 160, 320, 32, 128, 128),
)
_AFTER_POOLING: Final = (
    Inception(256, 160, 320, 32, 128, 128),
    Inception(384, 192, 384, 48, 128, 128),
)


def rister_fcn(classes: int, *, channels: int = 1, width: float = 1.0, patch: Sequence[int] | None = None) -> keras.Model:
    """Build the network of Rister et al. 2018, Table I, whose input was (120, 120, 160) voxels of 3 mm.

    Args:
        classes: >= 2, background included; the paper has 6.
        channels: of the image.
        width: factor on the feature counts of Table I.
        patch: (Z, Y, X), multiples of 8, or None: any such patch.
    Returns:
        float (N, Z, Y, X, channels) -> float32 probabilities (N, Z, Y, X, classes).
    Size:
        13,937,230 trained parameters for 6 classes and one channel; training keeps 2.80 kB per voxel of the input (float32).
    Raises:
        ConfigError: an argument out of range.
        PatchError: a side is not a multiple of 8.
    Source: V-B and Table I. No skip connections, as there. We differ in the interpolation: the table's filter of 8 at stride 1/8 could
    only repeat values, so the tent reaches 8 voxels to each side (16 taps); and a convolution of size 1 brings the 1024 features to the
    classes first.
    """
    image = network_input("rister_fcn", classes=classes, channels=channels, width=width, patch=patch, multiple=MULTIPLE)
    x = convolve_rectify(image, features(64, width), 7, "convolution_1", stride=2)
    x = convolve_rectify(x, features(64, width), 1, "convolution_2")
    x = convolve_rectify(x, features(192, width), 4, "convolution_3")
    x = pool(x, "pooling_1")
    for number, module in enumerate(_BEFORE_POOLING, 1):
        x = module.apply(x, width, f"inception_{number}")
    x = pool(x, "pooling_2")
    for number, module in enumerate(_AFTER_POOLING, 1 + len(_BEFORE_POOLING)):
        x = module.apply(x, width, f"inception_{number}")
    x = LinearInterpolation(8, name="interpolation")(scores(x, classes, "scores"))
    return keras.Model(image, probabilities(x), name="rister_fcn")
