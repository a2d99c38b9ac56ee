"""Labels as the losses take them: one share per class and voxel, and which voxels have a say.

Ids and one-hot labels become the same thing here, and labels are brought to a coarser grid here. What a loss makes of them is its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from augclient.errors import GeometryError, RequestError
from keras import backend, ops
from numpy.typing import NDArray

Tensor: TypeAlias = Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """What is known of each voxel of a batch.

    Attributes:
        shares: float (N, [Z,] Y, X, K), the share of each class; zero throughout a voxel without a say.
        say: float (N, [Z,] Y, X, 1), 1 where the voxel counts and 0 where it is ignored; None: all count.
        ids_fit: boolean scalar, whether every id has a class; None for one-hot labels, which cannot tell.
        ignored_class: the class among the K that is ignored, if it is one of them.
    """

    shares: Tensor
    say: Tensor | None
    ids_fit: Tensor | None
    ignored_class: int | None


def read_truth(labels: Tensor, prediction: Tensor, ignore: int | None) -> Truth:
    """Labels of the prediction's grid as shares of its K classes.

    Args:
        labels: ids (N, [Z,] Y, X) of an integer or float type, or shares (N, [Z,] Y, X, K), one-hot or soft.
        prediction: (N, [Z,] Y, X, K); only its shape and type are looked at.
        ignore: id without a say, among the classes or not. In one-hot labels these are the voxels that lie (mostly) in that class, and
            those whose row is all zero, which is what an id outside the classes becomes.
    Raises:
        GeometryError: prediction is not (N, [Z,] Y, X, K), or the labels have another grid.
    """
    shape = tuple(prediction.shape)
    if len(shape) not in (4, 5):
        raise GeometryError(f"y_pred: got shape {shape}; allowed: (N, Y, X, K) or (N, Z, Y, X, K)")
    grid, classes = shape[:-1], shape[-1]
    ignored_class = ignore if ignore is not None and 0 <= ignore < classes else None
    dtype = sum_dtype(prediction)
    if _agree(labels.shape, grid):
        ids = ops.cast(labels, dtype if backend.is_float_dtype(backend.standardize_dtype(labels.dtype)) else "int32")
        # not ops.one_hot: it raises on PyTorch where an id is too large, truncates 1.9 to 1, and takes 8 bytes a class there
        matches = ops.equal(ops.expand_dims(ids, -1), ops.arange(classes, dtype=ids.dtype))
        found, shares, say = ops.any(matches, axis=-1), ops.cast(matches, dtype), None
        if ignore is not None:
            ignored = ops.equal(ids, ignore)
            found, say = ops.logical_or(found, ignored), ops.expand_dims(ops.cast(ops.logical_not(ignored), dtype), -1)
        return Truth(shares=_hide(shares, say), say=say, ids_fit=ops.all(found), ignored_class=ignored_class)
    if _agree(labels.shape, shape):
        shares, say = ops.cast(labels, dtype), None
        if ignore is not None:
            counts = ops.sum(shares, axis=-1, keepdims=True) > 0
            if ignored_class is not None:
                counts = ops.logical_and(counts, shares[..., ignored_class : ignored_class + 1] < 0.5)
            say = ops.cast(counts, dtype)
        return Truth(shares=_hide(shares, say), say=say, ids_fit=None, ignored_class=ignored_class)
    raise GeometryError(f"y_true: got shape {tuple(labels.shape)}; allowed beside predictions {shape}: ids {grid} or one-hot {shape}")


def downsample_truth(truth: Truth, grid: Sequence[int | None]) -> Truth:
    """The truth on a coarser grid: each cell takes the class that most of its voxels have.

    Voxels without a say have no vote, and a cell of them has no say. A tie goes to the cell's first voxel if its class is among the
    tied, so that a border through the middle of cells moves neither way on average; otherwise to the lowest id.

    Args:
        truth: at ([Z,] Y, X).
        grid: the coarser ([Z,] Y, X); each side divides the finer one, each by its own factor.
    Raises:
        GeometryError: a side does not divide, or is unknown while the step is being compiled.
    """
    fine = tuple(truth.shares.shape[1:-1])
    coarse = tuple(grid)
    if len(fine) != len(coarse) or any(not f or not c or f % c for f, c in zip(fine, coarse, strict=False)):
        raise GeometryError(
            f"multi-resolution: a prediction's grid is {coarse}; allowed: the finest one {fine}, each side divided by a whole number,"
            " and no side left open"
        )
    factors = [f // c for f, c in zip(fine, coarse, strict=True)]
    if all(factor == 1 for factor in factors):
        return truth
    first = truth.shares[(slice(None), *(slice(None, None, factor) for factor in factors))]
    votes = _sum_cells(truth.shares, factors)
    winner = ops.argmax(votes + 0.5 * first, axis=-1)
    shares = ops.cast(ops.equal(ops.expand_dims(winner, -1), ops.arange(votes.shape[-1], dtype=winner.dtype)), votes.dtype)
    say = None if truth.say is None else ops.cast(_sum_cells(truth.say, factors) > 0, votes.dtype)
    return Truth(shares=_hide(shares, say), say=say, ids_fit=truth.ids_fit, ignored_class=truth.ignored_class)


def check_label_ids(labels: NDArray[Any] | Sequence[int], classes: int, ignore: int | None = None) -> None:
    """Refuse ids that no class has.

    Args:
        labels: ids of any shape, or a list of those that occur.
        classes: K; the ids are 0 to K - 1.
        ignore: an id that may occur besides.
    Raises:
        RequestError: names the ids that do not fit.
    """
    ids = np.unique(np.asarray(labels))
    strange = [each.item() for each in ids if not (0 <= each < classes and each == int(each)) and each != ignore]
    if strange:
        besides = "" if ignore is None else f" and {ignore} (ignored)"
        raise RequestError(
            f"labels: got the ids {strange[:8]}; allowed: 0 to {classes - 1}{besides}; give the network more classes, set ignore, or"
            " relabel the dataset"
        )


def sum_dtype(prediction: Tensor) -> str:
    """The type to compute in: float64 for float64, float32 for all others (float16 cannot count past 2048)."""
    return "float64" if backend.standardize_dtype(prediction.dtype) == "float64" else "float32"


def sum_voxels(values: Tensor) -> Tensor:
    """(N, [Z,] Y, X, K) -> (N, K), axis by axis.

    In one go TensorFlow adds voxel after voxel on a CPU: in float32 a count ends at 2**24, and sums of 19 million values were off by 5e-5.
    """
    while len(values.shape) > 2:
        values = ops.sum(values, axis=-2)
    return values


def _hide(shares: Tensor, say: Tensor | None) -> Tensor:
    return shares if say is None else shares * say


def _agree(got: Sequence[int | None], wanted: Sequence[int | None]) -> bool:
    """Whether two shapes may be the same; None, a side unknown while compiling, agrees with any."""
    return len(got) == len(wanted) and all(a is None or b is None or a == b for a, b in zip(got, wanted, strict=True))


def _sum_cells(values: Tensor, factors: Sequence[int]) -> Tensor:
    for axis, factor in enumerate(factors, start=1):
        shape = list(values.shape)
        shape[0] = -1  # unknown while compiling
        values = ops.sum(ops.reshape(values, (*shape[:axis], shape[axis] // factor, factor, *shape[axis + 1 :])), axis=axis + 1)
    return values
