"""ResNet-18 with its last stage dilated instead of strided, the encoder of Furtado's DeepLabV3."""

from __future__ import annotations

from typing import Final

import keras

from augtrain.models.convolution import batch_norm, convolve, convolve_rectify, pool
from augtrain.models.inputs import Tensor, features

_STAGES: Final = ((64, 1, 1), (128, 2, 1), (256, 2, 1), (512, 1, 2))
"""(features, stride, dilation) of each stage of two blocks."""


def resnet18(x: Tensor, width: float) -> tuple[Tensor, Tensor]:
    """Lay the network without its classifier over (N, Y, X, C). keras.applications begins at ResNet-50.

    Returns:
        the outputs of the first stage, at stride 4, and of the last, at stride 16.
    Source: He et al. 2016, Table 1; the dilated last stage is that of Chen et al. 2017 (output stride 16).
    """
    x = convolve_rectify(x, features(64, width), 7, "conv1", stride=2, bias=False)
    x = pool(x, "pool1", size=3, stride=2)
    outputs: list[Tensor] = []
    for stage, (count, stride, dilation) in enumerate(_STAGES, 2):
        x = _basic_block(x, features(count, width), f"conv{stage}_1", stride, dilation)
        x = _basic_block(x, features(count, width), f"conv{stage}_2", 1, dilation)
        outputs.append(x)
    return outputs[0], outputs[-1]


def _basic_block(x: Tensor, count: int, name: str, stride: int, dilation: int) -> Tensor:
    shortcut = x
    if stride > 1:
        # A convolution of size 1 sees each second pixel alone. TensorFlow 2.20's own stride (oneDNN, on a CPU) writes past its memory in
        # the backward pass of such a one: "free(): invalid size" with 8 features in and 16 out.
        shortcut = pool(shortcut, f"{name}_shortcut_pick", size=1, stride=stride)
    if x.shape[-1] != count:
        shortcut = batch_norm(convolve(shortcut, count, 1, f"{name}_shortcut", bias=False), f"{name}_shortcut_norm")
    # Keras has no convolution with both a stride and a dilation; here the one that strides is never dilated.
    x = convolve_rectify(x, count, 3, f"{name}_a", stride=stride, dilation=dilation, bias=False)
    x = batch_norm(convolve(x, count, 3, f"{name}_b", dilation=dilation, bias=False), f"{name}_b_norm")
    return keras.layers.ReLU(name=f"{name}_relu")(keras.layers.Add(name=f"{name}_sum")([x, shortcut]))
