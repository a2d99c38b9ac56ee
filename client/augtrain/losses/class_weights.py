"""Weights of classes from how often they occur in a dataset, and the check of lists with one number per class."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np
from augclient.errors import ConfigError
from numpy.typing import NDArray

PerClass: TypeAlias = Sequence[float] | Mapping[int, float]
"""One number per class: in the order of ids, or by id as `Dataset.class_voxels` has it (ids as text too, as in TOML)."""

_EPSILON = 1.0  # Shen et al. 2018: keeps a class without a voxel from a division by zero


def per_class(name: str, values: PerClass, ignore: int | None = None) -> tuple[float, ...]:
    """Numbers in the order of ids; an id that a mapping leaves out has 0, one that is `ignore` and the highest is dropped.

    Raises:
        ConfigError: not numbers, negative, not finite, or all zero.
    """
    try:
        if isinstance(values, Mapping):
            by_id = {int(key): float(value) for key, value in values.items()}
            if by_id and max(by_id) == ignore:
                del by_id[ignore]
            if min(by_id, default=0) < 0:
                raise ValueError
            numbers = tuple(by_id.get(each, 0.0) for each in range(max(by_id, default=-1) + 1))
        else:
            numbers = tuple(float(value) for value in values)
    except (TypeError, ValueError):
        raise ConfigError(f"{name}: got {values!r}; allowed: one number per class, as a list or by id") from None
    if not all(math.isfinite(number) and number >= 0 for number in numbers) or not any(numbers):
        raise ConfigError(f"{name}: got {list(numbers)}; allowed: finite numbers >= 0, not all of them 0")
    return numbers


def check_classes(name: str, numbers: Sequence[float], classes: int) -> None:
    """Raise ConfigError unless there is one number for each of the network's classes."""
    if len(numbers) != classes:
        raise ConfigError(f"{name}: got numbers for {len(numbers)} classes; allowed: {classes}, as many as the network predicts")


def frequency_weights(class_voxels: Sequence[float], counted: NDArray[np.bool_], power: int) -> NDArray[np.float64]:
    """N / (L R**power + 1) of each class: R its voxels in the dataset, N those of all classes, L the number of counted classes.

    A class without a voxel has the weight N. With power 2 weights are of the order of 1 / R, so that the loss is as small: the paper
    trains with a larger learning rate then.

    Source: Shen et al. 2018, eq. 4 (power 1, "simple") and eq. 5 (power 2, "square").
    """
    voxels = np.asarray(class_voxels, np.float64)
    weights: NDArray[np.float64] = voxels.sum() / (counted.sum() * voxels**power + _EPSILON)
    return weights
