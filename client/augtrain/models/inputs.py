"""Where every network begins and ends: checked arguments and the input, and class probabilities in float32."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
from augclient.errors import ConfigError

from augtrain.models.patch import Zyx, check_patch

Tensor = Any
"""A symbolic keras.KerasTensor; Keras ships no types."""


def network_input(network: str, *, classes: int, channels: int, width: float, patch: Sequence[int] | None, multiple: Zyx) -> Tensor:
    """The input of a network, (N, Z, Y, X, C), or (N, Y, X, C) where multiple[0] is 1.

    Args:
        network: its name, for messages.
        classes: >= 2, background included.
        channels: >= 1.
        width: finite and > 0; the builder multiplies the paper's feature counts by it.
        patch: (Z, Y, X), or None: sides are unknown until a batch comes.
        multiple: (Z, Y, X) that the patch must be a multiple of.
    Raises:
        ConfigError: classes, channels or width out of range.
        PatchError: a patch that the strides forbid; names the nearest allowed one.
    """
    if not isinstance(classes, int) or classes < 2:
        raise ConfigError(f"{network}: classes must be a whole number >= 2 (background counts), got {classes!r}")
    if not isinstance(channels, int) or channels < 1:
        raise ConfigError(f"{network}: channels must be a whole number >= 1, got {channels!r}")
    if not isinstance(width, int | float) or not (math.isfinite(width) and width > 0):
        raise ConfigError(f"{network}: width must be a finite number > 0 (1 is the paper's network), got {width!r}")
    sides: tuple[int | None, ...] = (None, None, None) if patch is None else check_patch(network, patch, multiple)
    return keras.Input((*(sides[1:] if multiple[0] == 1 else sides), channels), name="image")


def features(count: int, width: float) -> int:
    """The paper's feature count times width, rounded, at least 1."""
    return max(1, round(count * width))


def probabilities(logits: Tensor, name: str = "probabilities") -> Tensor:
    """Softmax over the last axis in float32, also where the rest computes in float16 or bfloat16."""
    return keras.layers.Activation("softmax", dtype="float32", name=name)(logits)
