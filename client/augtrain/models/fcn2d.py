"""Furtado's FCN: VGG-16 with its dense layers as convolutions, interpolated back in three steps (FCN-8s)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import keras

from augtrain.models.convolution import convolve_rectify, pool, scores
from augtrain.models.inputs import features, network_input, probabilities
from augtrain.models.interpolation import LinearInterpolation
from augtrain.models.patch import Zyx
from augtrain.models.vgg16 import vgg16

MULTIPLE: Final[Zyx] = (1, 32, 32)
_DENSE: Final = 4096


def fcn2d(classes: int, *, channels: int = 1, width: float = 1.0, patch: Sequence[int] | None = None) -> keras.Model:
    """Build the fully-convolutional network of Furtado, whose slices were (256, 256).

    Args:
        classes: >= 2, background included; the paper has 5.
        channels: of the image.
        width: factor on the feature counts, 64 in the first convolution and 4096 in the former dense layers.
        patch: (Z, Y, X), Y and X multiples of 32 (Z is not looked at: slices are images of a batch), or None: any such patch.
    Returns:
        float (N, Y, X, channels) -> float32 probabilities (N, Y, X, classes).
    Size:
        134,315,759 trained parameters for 5 classes and one channel; training keeps 4.99 kB per pixel of the input (float32).
    Raises:
        ConfigError: an argument out of range.
        PatchError: Y or X is not a multiple of 32.
    Source: Furtado, 2.3: encoder VGG-16, simple interpolation up, forward connections; Long et al. 2015, FCN-8s. We differ from the latter
    by padding each convolution evenly, not the image by 100 pixels, and by batch normalisation instead of dropout and pre-trained weights.
    """
    image = network_input("fcn2d", classes=classes, channels=channels, width=width, patch=patch, multiple=MULTIPLE)
    *_, stride_4, stride_8, stride_16 = vgg16(image, width)
    x = convolve_rectify(pool(stride_16, "block5_pool"), features(_DENSE, width), 7, "fc6")
    x = convolve_rectify(x, features(_DENSE, width), 1, "fc7")
    x = scores(x, classes, "scores_32")
    for stride, kept in ((16, pool(stride_8, "skip_16_pool")), (8, pool(stride_4, "skip_8_pool"))):
        x = LinearInterpolation(2, name=f"interpolate_{stride}")(x)
        x = keras.layers.Add(name=f"sum_{stride}")([x, scores(kept, classes, f"scores_{stride}")])
    x = LinearInterpolation(8, name="interpolate_1")(x)
    return keras.Model(image, probabilities(x), name="fcn2d")
