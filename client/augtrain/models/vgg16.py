"""The 13 convolutions of VGG-16, the encoder of Furtado's U-Net and FCN."""

from __future__ import annotations

from typing import Final

from augtrain.models.convolution import convolve_rectify, pool
from augtrain.models.inputs import Tensor, features

BLOCKS: Final = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))
"""(features, convolutions) of each block; a pooling by 2 stands between blocks."""


def vgg16(x: Tensor, width: float) -> list[Tensor]:
    """Lay the blocks over (N, Y, X, C).

    Layers are named as keras.applications.VGG16 names its own (block1_conv1, ...), whose convolutions they equal at width 1. That one has
    neither a width nor batch normalisation, without which 13 convolutions hardly train from random weights; the paper's were pre-trained.

    Returns:
        the output of each block before its pooling, at strides 1, 2, 4, 8, 16.
    Source: Simonyan and Zisserman 2014, configuration D.
    """
    outputs: list[Tensor] = []
    for block, (count, convolutions) in enumerate(BLOCKS, 1):
        if outputs:
            x = pool(x, f"block{block - 1}_pool")
        for number in range(1, convolutions + 1):
            x = convolve_rectify(x, features(count, width), 3, f"block{block}_conv{number}")
        outputs.append(x)
    return outputs
