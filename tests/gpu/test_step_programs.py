"""Programs of recipe steps on the card, byte for byte against the CPU backend."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest


def compute(backend, cases):
    first = cases[0]
    image = backend.allocate((len(cases), len(first.volume.image), *first.patch), first.dtype)
    backend.augment([case.volume for case in cases], [case.params for case in cases], image, nearest=first.nearest)
    return image


@pytest.mark.parametrize("block", range(4))
def test_random_programs_have_the_cpus_bytes(gpu, cpu, make_case, step_programs, block):
    for seed in range(1000 + 50 * block, 1050 + 50 * block):
        case = make_case(seed)
        programs = {seed * 10 + k: step_programs.random_program(3 * seed + k, len(case.volume.image)) for k in range(3)}
        samples = [replace(case.params, occlusion=None, noise_key=key) for key in programs]
        programmed = map(step_programs.with_program, samples, programs.values(), [case.dtype] * 3)
        batch = [replace(case, params=params) for params in programmed]
        got, expected = (compute(backend, batch) for backend in (gpu, cpu))
        different = int((got.view(np.uint8) != expected.view(np.uint8)).sum())
        assert different == 0, f"seed {seed}: {different} of {got.nbytes} bytes differ; {programs}"


def test_a_patch_of_many_strips_has_the_cpus_bytes(gpu, cpu, make_case, step_programs):
    case = make_case(1)
    channels = len(case.volume.image)
    program = [
        [
            {"op": "noise", "std": 20.0},
            {"op": "gamma", "exponent": 1.4, "invert": True, "keep_statistics": True},
            {"op": "contrast", "factor": 1.5},
            {"op": "gamma", "exponent": 0.7, "keep_statistics": True},
        ]
    ] * channels
    large = replace(case, patch=(70, 96, 110), params=step_programs.with_program(case.params, program, case.dtype))
    got, expected = (compute(backend, [large]) for backend in (gpu, cpu))
    assert got.tobytes() == expected.tobytes()
