"""Test-time augmentation: the network sees a volume several times, turned a little, and its answers are turned back and averaged.

The transforms are drawn by the server from a recipe, and the server's kernel warps the image there and the probabilities back, by the
inverse. What a turned volume does not cover has no say: each voxel is averaged over the answers that reach it, and the volume as it is,
which is always among them, reaches all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from augclient import Recipe, Server, Transform, Volume
from augclient.contract import MAX_CHANNELS
from numpy.typing import NDArray

from augtrain.sliding_window import Probabilities

_ITEM_BYTES = 256 << 20  # of one, there and back; a server takes four times that

# Small enough for organs to look like themselves. No reflections: they would make a left kidney of the right one.
DEFAULT_RECIPE = Recipe.from_dict({"affine": {"rotate_deg": [-8, 8], "scale": [0.95, 1.05]}})


def average_over_transforms(
    server: Server, volume: Volume, draws: int, recipe: Recipe, fill: float, segment: Callable[[NDArray[np.float32]], Probabilities]
) -> Probabilities:
    """The mean of the probabilities for the volume itself and for `draws` transforms of it.

    Args:
        server: that has the volume.
        volume: as the server gave it.
        draws: how many transforms, those of indices 0, 1, ... of the recipe with seed 0 on this volume alone: the same in every run.
        recipe: of its sections only [affine], which it must have, counts.
        fill: what lies outside a volume, in its unit.
        segment: image (C, Z, Y, X) in the volume's unit -> probabilities (Z, Y, X, K). Called draws + 1 times.
    Returns:
        float32 (Z, Y, X, K), that sum to 1 in each voxel. Memory beside it: one such array of the answer in hand, and some of its channels
        (256 MB at most) twice, on their way to the server and back.
    Raises:
        RecipeError: the server does not allow the recipe. AugError: what else it answers.
    """
    affines = list(_draw_affines(server, volume, draws, recipe))  # what the server has against the recipe comes before the work
    total = segment(np.asarray(volume.image, np.float32))
    for affine in affines:
        with server.warp([volume.image], Transform(affine=affine, fill=fill)) as warped:
            answer = segment(np.asarray(next(warped)))
        back = np.linalg.inv(np.vstack([affine, [0, 0, 0, 1]]))[:3]  # the server draws none that is near singular
        together = min(MAX_CHANNELS, max(1, _ITEM_BYTES // (8 * answer[..., 0].size)))
        groups = [slice(first, first + together) for first in range(0, answer.shape[3], together)]
        channels = (np.ascontiguousarray(np.moveaxis(answer[..., group], -1, 0)) for group in groups)
        with server.warp(channels, Transform(affine=back), prefetch=1) as returned:
            for group, part in zip(groups, returned, strict=True):
                total[..., group] += np.moveaxis(np.asarray(part), 0, -1)
    total /= total.sum(axis=3, keepdims=True)
    return total


def _draw_affines(server: Server, volume: Volume, draws: int, recipe: Recipe) -> Iterator[NDArray[np.float64]]:
    """(3, 4) matrices, output voxel -> input voxel of the whole volume, about its middle."""
    only = Recipe.from_dict({"affine": recipe.to_dict()["affine"]})
    shape = np.asarray(volume.image.shape[1:])
    small = 2 - shape % 2  # as even as the volume: a patch of whole voxels then has its middle exactly in the volume's, too
    for index in range(draws):
        sample = server.sample(only, index=index, patch=small.tolist(), volumes=[volume.info.id]).sample
        affine = sample.affine.astype(np.float64)
        affine[:, 3] += affine[:, :3] @ (small - shape) / 2
        yield affine
