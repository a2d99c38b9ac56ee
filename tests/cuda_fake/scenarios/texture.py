"""The texture sampler's plumbing: arrays, pitches, axes, scales, fill. What a card's filtering really gives is tested on a card."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from world import PATCH, Batch, assert_nothing_left, counter, cpu, make_params, make_volume, open_cuda, run

from augserver.errors import AugError, BackendError, BudgetError, RecipeError

# cuda/texture.h: 3/512 of the range of the taps (volumes of -1000..1000, fill -1000), and 2^-15 of int16's range.
TOLERANCE = 3 / 512 * 2000 + 2


def plain(number: int) -> Batch:
    """No window, noise or gamma: the sampler alone, on volumes of both types with and without labels."""
    volumes = [make_volume(number), make_volume(number + 1, dtype="float32"), make_volume(number + 2, label=False)]
    batch = Batch(volumes, number)
    batch.params = [
        replace(params, window=None, gamma=1.0, noise_std=0.0, contrast=1.0, brightness=0.0, keep_labels=None) for params in batch.params
    ]
    return batch


def filtering_is_within_the_stated_tolerance_of_the_exact_sampler() -> None:
    gpu = open_cuda()
    worst = 0.0
    for number in range(8):
        for nearest in (False, True):
            batch = plain(number)
            batch.nearest = nearest
            exact_image, exact_label = batch.compute(cpu)
            batch.use_sampler("texture")
            image, label = batch.compute(gpu)
            assert (label == exact_label).all()
            worst = max(worst, float(np.abs(image - exact_image).max()))
    assert 0 < worst < TOLERANCE, worst
    gpu.close()
    assert_nothing_left()


def whole_steps_give_the_voxels_themselves() -> None:
    """A shift by whole voxels, out of the volume on three sides: no fraction, so no error but int16's scale."""
    gpu = open_cuda()
    affine = np.array([[1, 0, 0, -2], [0, 1, 0, 3], [0, 0, 1, -1]], np.float32)
    for dtype in ("int16", "float32"):
        batch = Batch([make_volume(4, dtype=dtype, channels=2)], 0)
        batch.params = [replace(make_params(2), affine=affine, window=None, noise_std=0.0, gamma=1.0, occlusion=None)]
        exact, _ = batch.compute(cpu)
        batch.use_sampler("texture")
        image, _ = batch.compute(gpu)
        assert np.abs(image - exact).max() < 0.07
        assert (exact == -1000).any()
        assert len(np.unique(exact)) > 50
    gpu.close()
    assert_nothing_left()


def large_planes_go_up_row_by_row() -> None:
    """A plane larger than a chunk of the staging ring."""
    from augserver.volume import Volume, VolumeInfo

    gpu = open_cuda(staging_bytes=1 << 20, texture_bytes=4 << 20)
    image = np.random.default_rng(1).integers(-1000, 1000, (1, 2, 500, 700)).astype(np.int16)  # 700 kB a plane, 256 kB a chunk
    image.flags.writeable = False
    info = VolumeInfo(id="v", shape=image.shape, dtype="int16", spacing_mm=(1.0, 1.0, 1.0), affine=np.eye(4), has_label=False)
    batch = Batch([Volume(info=info, image=image, label=None)], 0, label=False)
    for offset in ((0, 0, 0), (0, 370, 690), (1, 490, 5)):
        affine = np.hstack([np.eye(3), np.array(offset)[:, None]]).astype(np.float32)
        batch.params = [replace(make_params(2), affine=affine, window=None, noise_std=0.0, gamma=1.0, occlusion=None)]
        exact, _ = batch.compute(cpu)
        batch.use_sampler("texture")
        assert np.abs(batch.compute(gpu)[0] - exact).max() < 0.07
        batch.use_sampler("exact")
    gpu.close()
    assert_nothing_left()


def textures_have_a_budget_of_their_own() -> None:
    volumes = [make_volume(k) for k in range(3)]
    gpu = open_cuda(texture_bytes=5 << 10)
    for _ in range(2):
        for volume in volumes:
            batch = Batch([volume], 0)
            batch.use_sampler("texture")
            batch.compute(gpu)
    now = gpu.statistics()[0]
    assert now.textures.evictions >= 3, now
    assert now.volumes.misses == 0, now
    assert counter("textures") == now.textures.volumes
    together = Batch(volumes, 0)
    together.use_sampler("texture")
    with pytest.raises(BudgetError) as caught:
        together.compute(gpu)
    assert "cuda.texture_bytes" in str(caught.value)
    gpu.close()
    assert_nothing_left()


def a_batch_has_one_sampler_and_the_cpu_has_only_the_exact_one() -> None:
    gpu = open_cuda()
    volume = make_volume(1)
    mixed = Batch([volume, volume], 0)
    mixed.params = [mixed.params[0], replace(mixed.params[1], sampler="texture")]
    image = gpu.allocate((2, 1, *PATCH), np.float32)

    def refused(kind: type[AugError], batch: Batch, backend: object) -> None:
        with pytest.raises(AugError) as caught:
            backend.augment(batch.volumes, batch.params, image)  # type: ignore[attr-defined]
        assert caught.type is kind

    refused(RecipeError, mixed, gpu)
    mixed.use_sampler("cubic")
    refused(RecipeError, mixed, gpu)
    mixed.use_sampler("texture")
    refused(BackendError, mixed, cpu)
    gpu.close()
    assert_nothing_left()


if __name__ == "__main__":
    run(globals())
