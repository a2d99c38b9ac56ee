"""Which volume and which parameters every sample has: pure arithmetic on the facts of a dataset.

    index i  ->  epoch e = i // samples_per_epoch, place p = i % samples_per_epoch
    volume   =   permutation(seed, e)[p // patches_per_volume]
    params   =   draw_sample(recipe, ..., seed, e, p)

Where that volume is damaged another one is taken, with the same draws: the first undamaged one of the same permutation, from half an epoch
on. It depends on (seed, e, p) and on what is damaged alone, so no other sample changes and all servers take the same one.

A plan of the same facts, recipe, patch and seed gives the same answers on any server. It reads no image; only crop.mode "foreground"
looks at a label, which the caller hands in.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from operator import index as as_integer

import numpy as np
from numpy.typing import NDArray

from augserver.augment.crop import check_patch_fits, check_reach
from augserver.augment.draws import Foreground, draw_sample
from augserver.augment.foreground import PlaneCounts, count_planes
from augserver.augment.random import MAX_PLACES, permutation
from augserver.augment.rules import CompiledRecipe
from augserver.augment.sample import SampleParams
from augserver.errors import PatchError, RecipeError, RequestError, StoreError
from augserver.kernel.checks import MAX_COORDINATE, MAX_ENTRY
from augserver.volume import Volume, VolumeInfo

MAX_PATCH_VOXELS = 512**3
"""Default limit on one patch: 512 MiB in float32, four times the patch of any network that trains on one GPU today."""

_MAX_U64 = 2**64 - 1
_KEPT_EPOCHS = 4  # a batch spans two epochs, or more where it exceeds the dataset; a prefetching stream runs one ahead


class Plan:
    """The samples of one stream, by index. Thread-safe: what it caches is the same whoever computes it.

    Args:
        dataset_facts: id -> VolumeInfo of every volume to draw from; their order says nothing. No other one ever stands in for them.
        recipe: compiled for this dataset.
        patch: (Z, Y, X) in output voxels.
        seed: 0 to 2**64 - 1.
        max_patch_voxels: the most voxels that a patch may have.
    Raises:
        StoreError: the dataset has no volumes.
        PatchError: the patch is not three whole numbers >= 1, is too large, exceeds a volume while crop.pad is off, or could reach beyond
            the kernel's coordinates.
        RecipeError: crop.mode "foreground" without any voxel of foreground in the dataset, or too many samples per epoch.
        RequestError: the seed is out of range.
    """

    def __init__(
        self,
        dataset_facts: Mapping[str, VolumeInfo],
        recipe: CompiledRecipe,
        patch: Sequence[int],
        seed: int,
        *,
        max_patch_voxels: int = MAX_PATCH_VOXELS,
    ) -> None:
        if not dataset_facts:
            raise StoreError("the dataset has no volumes, so there is nothing to sample; ingest at least one")
        if not 0 <= seed <= _MAX_U64:
            raise RequestError(f"seed: got {seed}; allowed: 0 to 2**64 - 1")
        self._facts = dict(dataset_facts)
        self._ids = sorted(self._facts)
        self._recipe = recipe
        self._seed = seed
        self._patch = _check_patch(patch, max_patch_voxels)
        for volume_id in self._ids:
            if not recipe.crop.pad:
                check_patch_fits(self._facts[volume_id], self._patch, recipe.spacing_mm)
            check_reach(self._facts[volume_id], self._patch, recipe, MAX_COORDINATE, MAX_ENTRY)
        if recipe.crop.mode == "foreground":
            self._check_foreground()
        if self.samples_per_epoch > MAX_PLACES:
            raise RecipeError(
                f"crop.patches_per_volume: got {recipe.crop.patches_per_volume} for {len(self._ids)} volumes; "
                f"allowed: {MAX_PLACES} samples per epoch in all"
            )
        self._permutations: dict[int, NDArray[np.intp]] = {}
        self._planes: dict[str, PlaneCounts] = {}  # 8 bytes per plane and class of each volume

    @property
    def patch(self) -> tuple[int, int, int]:
        """(Z, Y, X) in output voxels."""
        return self._patch

    @property
    def samples_per_epoch(self) -> int:
        """Volumes times patches_per_volume."""
        return len(self._ids) * self._recipe.crop.patches_per_volume

    @property
    def needs_voxels(self) -> bool:
        """Whether `params` needs the volume itself: its label decides where the patch lies."""
        return self._recipe.crop.mode == "foreground"

    def address(self, index: int) -> tuple[int, int, str]:
        """(epoch, place, volume id) of a sample.

        Raises:
            RequestError: the index is not 0 to 2**64 - 1.
        """
        if not 0 <= index <= _MAX_U64:
            raise RequestError(f"index: got {index}; allowed: 0 to 2**64 - 1")
        epoch, place = divmod(index, self.samples_per_epoch)
        return epoch, place, self._ids[self._order(epoch)[place // self._recipe.crop.patches_per_volume]]

    def replacements(self, index: int) -> Iterator[str]:
        """The other volumes, in the order in which they take the place of the sample's own where that is damaged.

        They begin half an epoch away, so that a batch keeps distinct volumes where it can, and every epoch has another order, so that no
        volume is the stand-in of another for good.

        Raises:
            RequestError: as `address`.
        """
        epoch, place, _ = self.address(index)
        order, planned = self._order(epoch), place // self._recipe.crop.patches_per_volume
        for distance in range(len(order)):
            at = (planned + len(order) // 2 + distance) % len(order)
            if at != planned:
                yield self._ids[order[at]]

    def params(self, index: int, volume: Volume | None = None, *, replacement: str | None = None) -> SampleParams:
        """Every parameter of a sample.

        Args:
            index: of the sample.
            volume: the one that `address` names, or the replacement; read only where `needs_voxels`.
            replacement: id of the volume to take instead, one of `replacements`; None: the one that `address` names.
        Raises:
            RequestError: the index is out of range.
            ValueError: the volume is missing where it is needed, or is another one.
        """
        epoch, place, planned = self.address(index)
        volume_id = replacement or planned
        if self.needs_voxels and (volume is None or volume.info.id != volume_id):
            raise ValueError(f"sample {index} needs volume {volume_id!r}, got {volume.info.id if volume else None!r}")
        params = draw_sample(
            self._recipe,
            self._facts[volume_id],
            self._patch,
            seed=self._seed,
            epoch=epoch,
            place=place,
            index=index,
            foreground=self._foreground(volume) if self.needs_voxels and volume else None,
        )
        return params if replacement is None else dataclasses.replace(params, replaces=planned)

    def _order(self, epoch: int) -> NDArray[np.intp]:
        order = self._permutations.get(epoch)
        if order is None:
            order = permutation(self._seed, epoch, len(self._ids))
            if len(self._permutations) >= _KEPT_EPOCHS:
                self._permutations = {}  # rebound, not cleared: another thread may be reading the old one
            self._permutations[epoch] = order
        return order

    def _foreground(self, volume: Volume) -> Foreground | None:
        if volume.label is None:
            return None
        counts = self._planes.get(volume.info.id)
        if counts is None:
            counts = self._planes[volume.info.id] = count_planes(volume.label)
        return Foreground(volume.label, counts)

    def _check_foreground(self) -> None:
        foreground = self._recipe.foreground
        for info in self._facts.values():
            if any(count and label and (foreground is None or label in foreground) for label, count in info.class_voxels.items()):
                return
        raise RecipeError(
            f"crop.mode 'foreground' needs labelled voxels, but none of the {len(self._ids)} volumes has one of a class above 0"
            f"{'' if self._recipe.keep_labels is None else ' that labels.keep keeps'}; use crop.mode 'uniform', or ingest labels"
        )


def batch_indices(step: int, batch_size: int, rank: int = 0, world: int = 1) -> range:
    """Sample indices of a rank's part of a global batch: the rank-th of `world` equal parts of [step * B, (step + 1) * B).

    Args:
        step: number of the batch, from 0.
        batch_size: B, of all ranks together.
        rank, world: 0 <= rank < world; world divides B.
    Raises:
        RequestError: names the field, what was got and what is allowed.
    """
    if batch_size < 1:
        raise RequestError(f"batch_size: got {batch_size}; allowed: at least 1")
    if world < 1 or batch_size % world:
        raise RequestError(f"world: got {world}; allowed: a divisor of batch_size {batch_size}, as each rank takes an equal part")
    if not 0 <= rank < world:
        raise RequestError(f"rank: got {rank}; allowed: 0 to {world - 1}, as world is {world}")
    if step < 0 or (step + 1) * batch_size - 1 > _MAX_U64:
        raise RequestError(f"step: got {step}; allowed: 0 to {(_MAX_U64 + 1) // batch_size - 1}, as an index has 64 bits")
    part = batch_size // world
    first = step * batch_size + rank * part
    return range(first, first + part)


def _check_patch(patch: Sequence[int], max_patch_voxels: int) -> tuple[int, int, int]:
    try:
        sizes = tuple(map(as_integer, patch))
    except TypeError:
        sizes = ()
    if len(sizes) != 3 or min(sizes) < 1:
        raise PatchError(f"patch: got {tuple(patch)}; allowed: three whole numbers (Z, Y, X), each at least 1")
    if math.prod(sizes) > max_patch_voxels:
        raise PatchError(
            f"patch {sizes} has {math.prod(sizes)} voxels; allowed: {max_patch_voxels}; lower the patch or raise the server's limit"
        )
    z, y, x = sizes
    return z, y, x
