"""Furtado's 2-D U-Net: VGG-16 down, its mirror image up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import keras

from augtrain.models.convolution import convolve_rectify, enlarge, scores
from augtrain.models.inputs import features, network_input, probabilities
from augtrain.models.patch import Zyx
from augtrain.models.vgg16 import BLOCKS, vgg16

MULTIPLE: Final[Zyx] = (1, 16, 16)


def unet2d(classes: int, *, channels: int = 1, width: float = 1.0, patch: Sequence[int] | None = None) -> keras.Model:
    """Build the U-Net of Furtado, whose slices were (256, 256).

    Args:
        classes: >= 2, background included; the paper has 5.
        channels: of the image.
        width: factor on the feature counts, 64 in the first convolution.
        patch: (Z, Y, X), Y and X multiples of 16 (Z is not looked at: slices are images of a batch), or None: any such patch.
    Returns:
        float (N, Y, X, channels) -> float32 probabilities (N, Y, X, classes).
    Size:
        28,816,517 trained parameters for 5 classes and one channel; training keeps 9.88 kB per pixel of the input (float32).
    Raises:
        ConfigError: an argument out of range.
        PatchError: Y or X is not a multiple of 16.
    Source: Furtado, 2.3: encoder VGG-16, decoder symmetric to it, forward connections; Ronneberger et al. 2015. From random weights, with
    batch normalisation, where the paper starts from pre-trained ones.
    """
    image = network_input("unet2d", classes=classes, channels=channels, width=width, patch=patch, multiple=MULTIPLE)
    *kept, x = vgg16(image, width)
    for block in range(len(kept), 0, -1):
        count, convolutions = BLOCKS[block - 1]
        x = keras.layers.Concatenate(name=f"join{block}")([kept[block - 1], enlarge(x, features(count, width), f"up{block}")])
        for number in range(1, convolutions + 1):
            x = convolve_rectify(x, features(count, width), 3, f"decode{block}_conv{number}")
    return keras.Model(image, probabilities(scores(x, classes, "scores")), name="unet2d")
