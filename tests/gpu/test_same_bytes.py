"""What the card writes, byte for byte against the CPU backend; and the texture sampler within its stated tolerance."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest


def compute(backend, cases, *, nearest=False):
    """Several cases of one type, shape and patch as a batch."""
    first = cases[0]
    channels = first.volume.image.shape[0]
    image = backend.allocate((len(cases), channels, *first.patch), first.dtype)
    label = backend.allocate((len(cases), *first.patch), np.uint8)
    backend.augment([case.volume for case in cases], [case.params for case in cases], image, label, nearest=nearest)
    return image, label


@pytest.mark.parametrize("block", range(8))
def test_random_configurations_have_the_cpus_bytes(gpu, cpu, make_case, block):
    for seed in range(50 * block, 50 * (block + 1)):
        case = make_case(seed)
        got, expected = (compute(backend, [case], nearest=case.nearest) for backend in (gpu, cpu))
        assert len(got) == 2
        for array, wanted in zip(got, expected, strict=True):
            different = int((array.view(np.uint8) != wanted.view(np.uint8)).sum())
            assert different == 0, f"seed {seed}: {different} of {array.nbytes} bytes differ; {case.params}"


def test_batches_in_flight_together_have_the_cpus_bytes(gpu, cpu, make_case):
    cases = [make_case(seed) for seed in range(400, 440)]
    with ThreadPoolExecutor(6) as threads:
        got = list(threads.map(lambda case: compute(gpu, [case, case, case], nearest=case.nearest), cases))
    for case, (image, label) in zip(cases, got, strict=True):
        wanted, wanted_label = compute(cpu, [case, case, case], nearest=case.nearest)
        assert image.tobytes() == wanted.tobytes()
        assert label.tobytes() == wanted_label.tobytes()


def test_volumes_of_both_types_in_one_batch_have_the_cpus_bytes(gpu, cpu, make_case):
    cases = [make_case(seed) for seed in range(500, 560)]
    narrow = [case for case in cases if case.volume.image.shape[0] == 1 and case.dtype is np.float32]
    assert {case.volume.image.dtype.name for case in narrow} == {"int16", "float32"}
    together = [replace(case, patch=narrow[0].patch, params=replace(case.params, occlusion=None)) for case in narrow]
    got, expected = (compute(backend, together) for backend in (gpu, cpu))
    assert got[0].tobytes() == expected[0].tobytes()
    assert got[1].tobytes() == expected[1].tobytes()


def test_texture_values_are_within_three_512ths_of_the_range_of_the_taps(gpu, cpu, make_case):
    """cuda/texture.h states the bound; here of the whole range that a volume and its fill have."""
    worst = 0.0
    for seed in range(600, 700):
        case = make_case(seed)
        params = replace(case.params, window=None, gamma=1.0, noise_std=0.0, contrast=1.0, brightness=0.0)
        params = replace(params, fills=None, border="fill", tap_limits=None)  # a texture has one fill, no edge and no limits
        if np.abs(params.affine[:, 3]).max() > 1e4:
            continue  # so far out a float32 coordinate has no fraction left
        exact_case = replace(case, params=params, dtype=np.float32)
        exact, exact_label = compute(cpu, [exact_case])
        image, label = compute(gpu, [replace(exact_case, params=replace(params, sampler="texture"))])
        assert label.tobytes() == exact_label.tobytes()
        voxels = case.volume.image
        span = float(max(voxels.max(), params.fill)) - float(min(voxels.min(), params.fill))
        bound = 3 / 512 * span + 2**-15 * 32767
        error = float(np.abs(image - exact).max())
        assert error <= bound, f"seed {seed}: {error} > {bound}"
        worst = max(worst, error)
    assert worst > 0, "no difference at all: were these textures?"
