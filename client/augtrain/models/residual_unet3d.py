"""Nguyen's residual 3-D U-Net, with class probabilities at up to three resolutions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import keras
from augclient.errors import ConfigError

from augtrain.models.convolution import convolve, enlarge, scores
from augtrain.models.inputs import Tensor, features, network_input, probabilities
from augtrain.models.interpolation import LinearInterpolation
from augtrain.models.patch import Zyx

MULTIPLE: Final[Zyx] = (16, 16, 16)
HEADS: Final = 3
_LEVELS: Final = (16, 32, 64, 128)
"""Features of the four levels that shrink and grow again; the floor under them has 256."""
_SLOPE: Final = 0.01


def residual_unet3d(
    classes: int, *, channels: int = 1, width: float = 1.0, patch: Sequence[int] | None = None, heads: int = HEADS
) -> keras.Model:
    """Build the network of Nguyen et al., whose input was (128, 128, 128).

    Args:
        classes: >= 2, background included.
        channels: of the image.
        width: factor on the feature counts, 16 in the first level.
        patch: (Z, Y, X), multiples of 16, or None: any such patch.
        heads: 1 to 3 resolutions that give probabilities: full, half, quarter.
    Returns:
        float (N, Z, Y, X, channels) -> a list of float32 probabilities, finest first: (N, Z, Y, X, classes), (N, Z/2, Y/2, X/2, classes),
        (N, Z/4, Y/4, X/4, classes); with heads=1 the first alone, no list.
    Size:
        8,043,142 trained parameters for 2 classes and one channel; training keeps 1.47 kB per voxel of the input (float32).
    Raises:
        ConfigError: an argument out of range.
        PatchError: a side is not a multiple of 16.
    Source: Nguyen et al. III-A and IV-A; four levels that each shrink once, as III-A defines a level. The paper leaves open, and we chose:
    the scores of a coarser head, trilinearly enlarged, are added to the next finer one (Kayalibay et al. and Isensee et al., on whom they
    build); halving by convolutions of stride 2; the leaky slope 0.01 (Isensee et al.).
    """
    image = network_input("residual_unet3d", classes=classes, channels=channels, width=width, patch=patch, multiple=MULTIPLE)
    if heads not in range(1, HEADS + 1):
        raise ConfigError(f"residual_unet3d: heads must be 1, 2 or 3 (resolutions that give probabilities), got {heads!r}")
    counts = [features(count, width) for count in _LEVELS]
    x, kept = image, []
    for level, count in enumerate(counts, 1):
        x = _residual_block(x, count, f"encode_{level}")
        kept.append(x)
        x = _normalise_rectify(convolve(x, 2 * count, 3, f"down_{level}", stride=2), f"down_{level}")
    x = _residual_block(x, 2 * counts[-1], "floor")
    outputs: list[Tensor] = []
    coarser = None
    for level in range(len(counts), 0, -1):
        count = counts[level - 1]
        x = keras.layers.Concatenate(name=f"join_{level}")([kept[level - 1], enlarge(x, count, f"up_{level}")])
        x = _residual_block(x, count, f"decode_{level}")
        if level <= heads:
            logits = scores(x, classes, f"scores_{level}")
            if coarser is not None:
                enlarged = LinearInterpolation(2, trainable=False, name=f"enlarge_{level}")(coarser)
                logits = keras.layers.Add(name=f"sum_{level}")([logits, enlarged])
            outputs.insert(0, probabilities(logits, f"probabilities_{level}"))
            coarser = logits
    return keras.Model(image, outputs if heads > 1 else outputs[0], name="residual_unet3d")


def _residual_block(x: Tensor, count: int, name: str) -> Tensor:
    """Two convolutions, to which the input is added; a convolution of size 1 brings it to `count` features where it has others."""
    shortcut = x if x.shape[-1] == count else convolve(x, count, 1, f"{name}_shortcut")
    x = _normalise_rectify(convolve(x, count, 3, f"{name}_1"), f"{name}_1")
    x = _instance_norm(convolve(x, count, 3, f"{name}_2"), f"{name}_2_norm")
    x = keras.layers.Add(name=f"{name}_sum")([x, shortcut])
    return keras.layers.LeakyReLU(_SLOPE, name=f"{name}_2_relu")(x)


def _normalise_rectify(x: Tensor, name: str) -> Tensor:
    return keras.layers.LeakyReLU(_SLOPE, name=f"{name}_relu")(_instance_norm(x, f"{name}_norm"))


def _instance_norm(x: Tensor, name: str) -> Tensor:
    """Each feature of each image by its own mean and variance: groups of one feature."""
    return keras.layers.GroupNormalization(groups=-1, epsilon=1e-5, name=name)(x)
