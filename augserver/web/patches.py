"""Patches of one volume as a stream would deliver them, computed for a person to look at.

The bits are those of the stream: the same plan, draws and kernel, on a CPU thread and in memory of its own, so that whoever looks never
takes a thread, a slot or a cached volume from those who train.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType

import numpy as np
from augclient import Recipe
from numpy.typing import NDArray

from augserver.augment import compile_recipe
from augserver.augment.sample import SampleParams
from augserver.config import MIB
from augserver.errors import RecipeError
from augserver.kernel.cpu import CpuBackend
from augserver.pipeline.plan import MAX_PATCH_VOXELS, Plan
from augserver.pipeline.volume_cache import VolumeCache
from augserver.store import Dataset
from augserver.volume import Volume

CACHE_BYTES = 512 * MIB
_USUAL_PATCH = 96  # voxels along each axis, where all volumes are as large


@dataclass(frozen=True, slots=True, kw_only=True)
class Patch:
    """One computed sample.

    Attributes:
        image: float32 (C, Z, Y, X).
        label: uint8 (Z, Y, X), or None where the volume has none.
        params: everything that was drawn.
        spacing_mm: zyx, of the patch.
    """

    image: NDArray[np.float32]
    label: NDArray[np.uint8] | None
    params: SampleParams
    spacing_mm: tuple[float, float, float]


class PatchMaker:
    """Computes patches of a dataset; thread-safe. `close` it, or use it as a context manager.

    Args:
        dataset: opened.
        cache_bytes: of decoded volumes; of one volume, where one is larger.
        max_patch_voxels: of one patch.
    """

    def __init__(self, dataset: Dataset, *, cache_bytes: int = CACHE_BYTES, max_patch_voxels: int = MAX_PATCH_VOXELS) -> None:
        self.dataset = dataset
        self.max_patch_voxels = max_patch_voxels
        self._infos = {id_: dataset.info(id_) for id_ in dataset.volumes}
        self._backend = CpuBackend(threads=1)
        read = functools.partial(dataset.read, allocate=self._backend.allocate)
        self.volumes = VolumeCache(dataset.info, read, max(cache_bytes, *(info.size_bytes for info in self._infos.values())))

    @property
    def usual_patch(self) -> tuple[int, int, int]:
        """A patch (Z, Y, X) that every volume can give."""
        shapes = np.array([info.shape[1:] for info in self._infos.values()])
        z, y, x = np.minimum(shapes.min(axis=0), _USUAL_PATCH).tolist()
        return z, y, x

    def plan(self, recipe: Recipe, patch: Sequence[int], seed: int) -> Plan:
        """The plan of a stream.

        Raises:
            RecipeError, PatchError, RequestError: as a server would refuse it.
        """
        compiled = compile_recipe(recipe.proto, modality=self.dataset.modality, classes=self.dataset.classes)
        if compiled.sampler not in self._backend.samplers:
            raise RecipeError(
                f'output.sampler: got {compiled.sampler!r}; pictures are drawn on the CPU, which has "exact" only; choose it to look, '
                f"and {compiled.sampler!r} to stream from a GPU"
            )
        return Plan(self._infos, compiled, patch, seed, max_patch_voxels=self.max_patch_voxels)

    def make(self, recipe: Recipe, plan: Plan, index: int) -> Patch:
        """Compute the sample `index` of `plan`, which is one of `recipe`.

        Raises:
            VolumeError, UnavailableError: its volume cannot be read. BudgetError: there is no memory for it.
        """
        _, _, volume_id = plan.address(index)
        with self.volumes.lease(volume_id) as volume:
            params = plan.params(index, volume)
            image, label = self._compute(volume, params, plan.patch)
        given = tuple(recipe.proto.output.spacing_mm) or volume.info.spacing_mm
        z, y, x = given if len(given) == 3 else given * 3
        return Patch(image=image, label=label, params=params, spacing_mm=(z, y, x))

    def close(self) -> None:
        """End the kernel. No call may be running."""
        self._backend.close()

    def __enter__(self) -> PatchMaker:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _compute(
        self, volume: Volume, params: SampleParams, patch: tuple[int, int, int]
    ) -> tuple[NDArray[np.float32], NDArray[np.uint8] | None]:
        image = np.empty((1, volume.image.shape[0], *patch), np.float32)
        label = None if volume.label is None else np.empty((1, *patch), np.uint8)
        self._backend.augment([volume], [params], image, label)
        return image[0], None if label is None else label[0]


def first_index(plan: Plan, volume_id: str) -> int:
    """The first sample of a plan that is of this volume; every volume comes in the first epoch."""
    return next(index for index in range(plan.samples_per_epoch) if plan.address(index)[2] == volume_id)
