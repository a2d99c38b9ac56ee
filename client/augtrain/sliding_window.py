"""Segment a volume of any size with a network that sees one patch at a time: overlapping tiles, averaged.

What a tile says of a voxel is weighed, flat as in Rister et al. 2018 or by a Gaussian about the tile's centre, and the sum is divided by
the weights: the result is a mean of probabilities. Every voxel lies in at least one tile. Keras is not imported here: the network is
anything that can be called, and `predictor` makes such a thing of a Keras model.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
from augclient.errors import ConfigError, DivergedError, PatchError
from numpy.typing import NDArray

Probabilities: TypeAlias = NDArray[np.float32]
Predict: TypeAlias = Callable[[NDArray[np.float32]], Any]

WEIGHTINGS = ("flat", "gaussian")
_SIGMA_SHARE = 1 / 8  # of the patch's side: at its faces the weight is e^-8 of the centre's, so that seams vanish


def segment(
    predict: Predict,
    image: NDArray[Any],
    patch: Sequence[int],
    *,
    overlap: float = 0.5,
    weighting: str = "flat",
    batch_size: int = 1,
    pad_value: float = 0.0,
    on_tile: Callable[[int, int], None] | None = None,
) -> Probabilities:
    """Class probabilities of a whole volume.

    Args:
        predict: takes a batch of tiles, float32 (N, Z, Y, X, C), and returns (N, Z, Y, X, K). N is `batch_size`, in the last call it may
            be less. The array that it gets is written again for the next call.
        image: (Z, Y, X, C), as the network was trained on it: windowed, at the network's spacing. Not modified.
        patch: (Z, Y, X) of a tile; (1, Y, X) for a 2-D network, which then sees plane by plane.
        overlap: share of a tile's side that it has in common with the next one, in [0, 1).
        weighting: "flat" or "gaussian" (sigma: an eighth of the tile's side).
        batch_size: tiles per call.
        pad_value: what lies outside an image smaller than the patch, which is put in the middle of it.
        on_tile: called with (tiles done, all tiles) after each call of `predict`.
    Returns:
        float32 (Z, Y, X, K). Beside it the working memory is one batch of tiles and of answers; an image smaller than the patch is
        copied, and the result then is a view of an array of the patch's size.
    Raises:
        PatchError: patch or image have no meaning, or the answer is on another grid. ConfigError: another argument is not allowed.
        DivergedError: the network answers with numbers that are not finite.
    """
    image = np.asarray(image)
    tile = _check(image, patch, overlap, weighting, batch_size)
    before = [max(0, side - size) // 2 for side, size in zip(tile, image.shape[:3], strict=True)]
    if any(side > size for side, size in zip(tile, image.shape[:3], strict=True)):
        margins = [(low, max(0, side - size - low)) for low, side, size in zip(before, tile, image.shape[:3], strict=True)]
        padded = np.pad(image, [*margins, (0, 0)], constant_values=pad_value)
    else:
        padded = image
    starts = [_starts(size, side, overlap) for size, side in zip(padded.shape[:3], tile, strict=True)]
    weights = [_axis_weights(side, weighting) for side in tile]
    total = _accumulate(predict, padded, tile, starts, weights, batch_size, on_tile)
    # The weights are products of one factor per axis and the tiles a product of one start per axis, and so is the sum of the weights.
    for axis, (size, begins, factor) in enumerate(zip(padded.shape[:3], starts, weights, strict=True)):
        summed = np.zeros(size, np.float32)
        for begin in begins:
            summed[begin : begin + len(factor)] += factor
        total /= _along(summed, axis)
    z, y, x = (slice(low, low + size) for low, size in zip(before, image.shape[:3], strict=True))
    return total[z, y, x]


def predictor(model: Any) -> Predict:
    """A Keras model as `segment` calls it.

    Args:
        model: a keras.Model of input (N, Z, Y, X, C), or (N, Y, X, C) of a 2-D network, whose tiles have Z = 1. Of several outputs the
            first, the finest, is taken.
    """
    flat = len(model.input_shape) == 4

    def predict(tiles: NDArray[np.float32]) -> NDArray[Any]:
        answer = model.predict_on_batch(tiles[:, 0] if flat else tiles)
        finest = np.asarray(answer[0] if isinstance(answer, list | tuple) else answer)
        return finest[:, None] if flat else finest

    return predict


def count_tiles(shape: Sequence[int], patch: Sequence[int], *, overlap: float = 0.5) -> int:
    """How many tiles `segment` takes for a volume of `shape` (Z, Y, X)."""
    counts = [len(_starts(max(size, side), side, overlap)) for size, side in zip(shape, patch, strict=True)]
    return counts[0] * counts[1] * counts[2]


def _accumulate(
    predict: Predict,
    image: NDArray[Any],
    tile: tuple[int, int, int],
    starts: list[list[int]],
    weights: list[NDArray[np.float32]],
    batch_size: int,
    on_tile: Callable[[int, int], None] | None,
) -> Probabilities:
    """The weighted sum of all tiles' answers, float32 (Z, Y, X, K)."""
    places = list(itertools.product(*starts))
    batch = np.empty((min(batch_size, len(places)), *tile, image.shape[3]), np.float32)
    total: Probabilities | None = None
    for first in range(0, len(places), batch_size):
        group = places[first : first + batch_size]
        for row, (z, y, x) in zip(batch, group, strict=False):
            row[...] = image[z : z + tile[0], y : y + tile[1], x : x + tile[2]]
        answer = np.asarray(predict(batch[: len(group)]))
        classes = answer.shape[-1] if total is None or answer.ndim == 0 else total.shape[3]
        if answer.shape != (len(group), *tile, classes):
            raise PatchError(
                f"the network answers tiles {(len(group), *tile, image.shape[3])} (N, Z, Y, X, C) with {answer.shape}; due are their grid "
                f"and {classes} classes: take a patch that the network's strides divide"
            )
        if not np.isfinite(answer).all():
            raise DivergedError("the network answers with numbers that are not finite: its training diverged; take an earlier model")
        if total is None:
            total = np.zeros((*image.shape[:3], classes), np.float32)
        for row, (z, y, x) in zip(answer, group, strict=True):
            weighted = row.astype(np.float32)
            for axis, factor in enumerate(weights):
                weighted *= _along(factor, axis)
            total[z : z + tile[0], y : y + tile[1], x : x + tile[2]] += weighted
        if on_tile is not None:
            on_tile(first + len(group), len(places))
    assert total is not None  # a volume has at least one tile
    return total


def _starts(size: int, side: int, overlap: float) -> list[int]:
    """Where tiles begin along an axis of `size` >= `side` voxels; the last one ends with the axis."""
    step = max(1, int(side * (1 - overlap)))
    return [*range(0, size - side, step), size - side]


def _axis_weights(side: int, weighting: str) -> NDArray[np.float32]:
    if weighting == "flat":
        return np.ones(side, np.float32)
    distance = np.arange(side) - (side - 1) / 2
    weights: NDArray[np.float32] = np.exp(-0.5 * (distance / (_SIGMA_SHARE * side)) ** 2).astype(np.float32)
    return weights


def _along(values: NDArray[np.float32], axis: int) -> NDArray[np.float32]:
    """A factor for each place on one axis of (Z, Y, X, K)."""
    shape = [1, 1, 1, 1]
    shape[axis] = len(values)
    return values.reshape(shape)


def _check(image: NDArray[Any], patch: Sequence[int], overlap: float, weighting: str, batch_size: int) -> tuple[int, int, int]:
    """The patch as a tuple, all arguments being sound."""
    if image.ndim != 4 or image.size == 0 or image.dtype.kind not in "biuf":
        raise PatchError(f"image: got {image.dtype} {image.shape}; allowed: numbers (Z, Y, X, C), no axis empty")
    if len(patch) != 3 or not all(isinstance(side, int | np.integer) and side >= 1 for side in patch):
        raise PatchError(f"patch: got {tuple(patch)}; allowed: three whole numbers >= 1 (Z, Y, X)")
    if not 0 <= overlap < 1:
        raise ConfigError(f"overlap: got {overlap}; allowed: [0, 1), the share of a tile's side")
    if weighting not in WEIGHTINGS:
        raise ConfigError(f"weighting: got {weighting!r}; allowed: {', '.join(WEIGHTINGS)}")
    if batch_size < 1:
        raise ConfigError(f"batch_size: got {batch_size}; allowed: at least 1")
    z, y, x = (int(side) for side in patch)
    return z, y, x
