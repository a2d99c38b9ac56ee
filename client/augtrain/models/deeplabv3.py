"""Furtado's DeepLabV3: ResNet-18, context at several scales by dilated convolutions (ASPP), and a small decoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import keras

from augtrain.models.convolution import batch_norm, convolve, convolve_rectify, scores
from augtrain.models.inputs import Tensor, features, network_input, probabilities
from augtrain.models.patch import Zyx
from augtrain.models.resnet18 import resnet18

MULTIPLE: Final[Zyx] = (1, 16, 16)
_RATES: Final = (6, 12, 18)


def deeplabv3(classes: int, *, channels: int = 1, width: float = 1.0, patch: Sequence[int] | None = None) -> keras.Model:
    """Build the DeepLabV3 of Furtado, whose slices were (256, 256).

    Args:
        classes: >= 2, background included; the paper has 5.
        channels: of the image.
        width: factor on the feature counts, 64 in the first convolution.
        patch: (Z, Y, X), Y and X multiples of 16 (Z is not looked at: slices are images of a batch), or None: any such patch.
    Returns:
        float (N, Y, X, channels) -> float32 probabilities (N, Y, X, classes).
    Size:
        16,597,797 trained parameters for 5 classes and one channel; training keeps 1.77 kB per pixel of the input (float32).
    Raises:
        ConfigError: an argument out of range.
        PatchError: Y or X is not a multiple of 16.
    Source: Furtado, 2.3: encoder ResNet-18, ASPP; Chen et al. 2017 for rates and widths. The paper sharpens borders by a CRF after the
    network; here a decoder with the features of stride 4 does (the v3+ form), which is trained with the rest. From random weights, where
    the paper's are pre-trained.
    """
    image = network_input("deeplabv3", classes=classes, channels=channels, width=width, patch=patch, multiple=MULTIPLE)
    fine, coarse = resnet18(image, width)
    x = _pyramid(coarse, features(256, width))
    x = keras.layers.UpSampling2D(4, interpolation="bilinear", name="enlarge_4")(x)
    fine = convolve_rectify(fine, features(48, width), 1, "decode_fine", bias=False)
    x = keras.layers.Concatenate(name="decode_join")([x, fine])
    for number in (1, 2):
        x = convolve_rectify(x, features(256, width), 3, f"decode_{number}", bias=False)
    x = keras.layers.UpSampling2D(4, interpolation="bilinear", name="enlarge_1")(scores(x, classes, "scores"))
    return keras.Model(image, probabilities(x), name="deeplabv3")


def _pyramid(x: Tensor, count: int) -> Tensor:
    """Views of one size and of three dilations, and of the whole image, brought together to `count` features."""
    views = [convolve_rectify(x, count, 1, "aspp_1", bias=False)]
    views += [convolve_rectify(x, count, 3, f"aspp_{rate}", dilation=rate, bias=False) for rate in _RATES]
    # The mean has one value per feature and image: batch normalisation of a batch of one would erase it.
    whole = keras.layers.GlobalAveragePooling2D(keepdims=True, name="aspp_mean")(x)
    whole = keras.layers.ReLU(name="aspp_whole_relu")(convolve(whole, count, 1, "aspp_whole"))
    # A convolution of size 1 over a concatenation is a sum of convolutions: so the mean is added, and never spread over the image.
    near = convolve(keras.layers.Concatenate(name="aspp_join")(views), count, 1, "aspp_merge", bias=False)
    far = convolve(whole, count, 1, "aspp_merge_whole")
    x = keras.layers.Add(name="aspp_sum")([near, far])
    return keras.layers.ReLU(name="aspp_relu")(batch_norm(x, "aspp_norm"))
