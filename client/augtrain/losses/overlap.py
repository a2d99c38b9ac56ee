"""The voxel sums behind IoU and Dice, and the mean over classes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from augclient.errors import ConfigError
from keras import ops
from numpy.typing import NDArray

from augtrain.losses.truth import Tensor, Truth, sum_dtype, sum_voxels


@dataclass(frozen=True, slots=True, kw_only=True)
class Overlap:
    """Sums over the voxels of an image, float (N, K) each: of p y, of p, and of y."""

    hit: Tensor
    predicted: Tensor
    true: Tensor


def measure_overlap(truth: Truth, prediction: Tensor) -> Overlap:
    """The sums of `prediction` (N, [Z,] Y, X, K) over the voxels that have a say."""
    p = prediction if truth.say is None else prediction * truth.say
    return Overlap(hit=sum_voxels(p * truth.shares), predicted=sum_voxels(p), true=sum_voxels(truth.shares))


def divide(above: Tensor, below: Tensor) -> Tensor:
    """above / below; 0 with a gradient of 0 where `below` is 0. NaN stays NaN: a network that diverged must show."""
    some = ops.not_equal(below, 0)
    return ops.where(some, above / ops.where(some, below, 1.0), 0.0)


def as_float(prediction: Tensor) -> Tensor:
    """The prediction in the type that sums are computed in."""
    return ops.cast(prediction, sum_dtype(prediction))


def at_least(values: Tensor, floor: float) -> Tensor:
    """The larger of the two, in the type of the values; NaN stays NaN. On PyTorch ops.maximum makes float32 of float64."""
    return ops.where(values < floor, floor, values)


def counted_classes(classes: int, background: bool, ignored_class: int | None) -> NDArray[np.bool_]:
    """Which of the K classes a mean is over: (K,).

    Raises:
        ConfigError: none.
    """
    counted = np.ones(classes, bool)
    counted[0] = background
    if ignored_class is not None:
        counted[ignored_class] = False
    if not counted.any():
        raise ConfigError(
            f"loss: nothing is left of {classes} classes with background={background} and class {ignored_class} ignored; the network"
            " needs another class"
        )
    return counted


def mean_of(losses: Tensor, counted: NDArray[np.bool_], weights: NDArray[np.float64] | None = None) -> Tensor:
    """(N, K) -> (N,), (1/L) sum over the L counted classes of weight times loss; weights (K,), or 1."""
    share = counted * (1.0 if weights is None else weights) / counted.sum()
    return ops.sum(losses * ops.convert_to_tensor(share, dtype=losses.dtype), axis=-1)
