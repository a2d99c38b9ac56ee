"""Shen's 3-D U-Net, after Çiçek et al. 2016."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import keras

from augtrain.models.convolution import convolve_rectify, enlarge, pool, scores
from augtrain.models.inputs import features, network_input, probabilities
from augtrain.models.patch import Zyx

MULTIPLE: Final[Zyx] = (8, 8, 8)
_LEVELS: Final = (32, 64, 128, 256)
"""Features of the first convolution of each level, finest first; the second doubles them, before the pooling and not after."""


def unet3d(classes: int, *, channels: int = 1, width: float = 1.0, patch: Sequence[int] | None = None) -> keras.Model:
    """Build the network of Shen et al. 2018, whose input was (64, 64, 64).

    Args:
        classes: >= 2, background included; the paper has 8.
        channels: of the image.
        width: factor on the feature counts, 32 in the first convolution.
        patch: (Z, Y, X), multiples of 8, or None: any such patch.
    Returns:
        float (N, Z, Y, X, channels) -> float32 probabilities (N, Z, Y, X, classes).
    Size:
        19,073,224 trained parameters for 8 classes and one channel; training keeps 5.77 kB per voxel of the input (float32).
    Raises:
        ConfigError: an argument out of range.
        PatchError: a side is not a multiple of 8.
    Source: Shen et al. 2.2 and Çiçek et al. 2016, whose network it is. We differ from the latter by padding each convolution, so that
    input and output have one shape, as Shen's have.
    """
    image = network_input("unet3d", classes=classes, channels=channels, width=width, patch=patch, multiple=MULTIPLE)
    x, kept = image, []
    for level, count in enumerate(_LEVELS, 1):
        if level > 1:
            x = pool(x, f"down_{level}")
        x = convolve_rectify(x, features(count, width), 3, f"encode_{level}_1")
        x = convolve_rectify(x, features(2 * count, width), 3, f"encode_{level}_2")
        kept.append(x)
    for level in (3, 2, 1):
        count = features(2 * _LEVELS[level - 1], width)
        x = enlarge(x, x.shape[-1], f"up_{level}")
        x = keras.layers.Concatenate(name=f"join_{level}")([kept[level - 1], x])
        x = convolve_rectify(x, count, 3, f"decode_{level}_1")
        x = convolve_rectify(x, count, 3, f"decode_{level}_2")
    return keras.Model(image, probabilities(scores(x, classes, "scores")), name="unet3d")
