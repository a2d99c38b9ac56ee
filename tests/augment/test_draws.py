"""The laws of Rister et al. 2018, IV, and that a parameter depends on its own words alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from augserver.augment import CompiledRecipe, SampleParams, draw_sample
from augserver.volume import VolumeInfo

PATCH = (20, 31, 40)
Compile = Callable[..., CompiledRecipe]

FULL: dict[str, dict[str, Any]] = {
    "crop": {"mode": "uniform"},
    "affine": {"rotate_deg": 15, "scale": [0.8, 1.25], "shear": 0.1, "warp": 0.05, "reflect": [0.1, 0.0, 0.5], "translate_mm": 10},
    "occlude": {"max_voxels": 15, "probability": 0.8},
    "contrast": {"factor": [0.8, 1.2]},
    "brightness": {"offset": 20},
    "gamma": {"exponent": [0.7, 1.5]},
    "noise": {"std": [0, 30]},
    "window": {"low": [-1000, -100], "high": [200, 1500]},
}


def draw(recipe: CompiledRecipe, info: VolumeInfo, place: int, seed: int = 3, epoch: int = 0) -> SampleParams:
    return draw_sample(recipe, info, PATCH, seed=seed, epoch=epoch, place=place)


def in_mm(params: SampleParams, info: VolumeInfo) -> np.ndarray:
    """M, undone from voxels."""
    spacing = np.array(info.spacing_mm)
    return params.affine[:, :3].astype(np.float64) * spacing[:, None] / spacing


def test_occlusion_gives_every_plane_the_same_chance(compiled: Compile, info: VolumeInfo) -> None:
    recipe = compiled(occlude={"max_voxels": 15})
    count, planes = 20_000, PATCH[0]
    hits = np.zeros(planes)
    heights = np.arange(16)
    for place in range(count):
        slab = draw(recipe, info, place).occlusion
        if slab is not None:
            assert 0 <= slab[0] < slab[1] <= planes
            hits[slab[0] : slab[1]] += 1
    chance = np.mean(heights / (planes + heights))  # start uniform on [-h, Z), h uniform on 0 .. 15
    sigma = np.sqrt(chance * (1 - chance) / count)
    assert np.abs(hits / count - chance).max() < 3.5 * sigma


def test_occlusion_starts_uniformly_and_has_uniform_height(compiled: Compile, info: VolumeInfo) -> None:
    recipe = compiled(occlude={"max_voxels": 4})
    slabs = [draw(recipe, info, place).occlusion for place in range(12_000)]
    # slabs that end inside and start inside are whole: there P(height h, start z0) = 1/5 * 1/(20 + h)
    whole = [(s[1] - s[0], s[0]) for s in slabs if s is not None and s[0] > 0 and s[1] < PATCH[0]]
    for h in range(1, 5):
        starts = np.bincount([z0 for height, z0 in whole if height == h], minlength=PATCH[0] - h)[1 : PATCH[0] - h]
        assert stats.chisquare(starts).pvalue > 0.005
        expected = 12_000 / 5 / (PATCH[0] + h) * len(starts)
        assert abs(starts.sum() - expected) < 4 * np.sqrt(expected)


def test_sections_apply_with_their_probability(compiled: Compile, info: VolumeInfo) -> None:
    recipe = compiled(
        affine={"rotate_deg": [10, 20], "reflect": 1.0, "translate_mm": [5, 6], "probability": 0.3},
        occlude={"max_voxels": 0, "probability": 1.0},
    )
    drawn = [draw(recipe, info, place) for place in range(4000)]
    still = [p.affine.tolist() for p in drawn if (p.affine[:, :3] == np.eye(3)).all()]
    assert abs(len(still) / 4000 - 0.7) < 0.03
    assert still.count(still[0]) == len(still)  # no displacement either
    assert {p.occlusion for p in drawn} == {None}


def test_reflection_has_each_axis_own_probability(compiled: Compile, info: VolumeInfo) -> None:
    recipe = compiled(affine={"reflect": [0.1, 0.0, 0.5]})
    signs = np.array([np.diag(draw(recipe, info, place).affine[:, :3]) for place in range(5000)])
    share = (signs < 0).mean(axis=0)
    assert abs(share[0] - 0.1) < 0.015
    assert share[1] == 0.0
    assert abs(share[2] - 0.5) < 0.025
    assert abs(np.corrcoef(signs[:, 0], signs[:, 2])[0, 1]) < 0.04


def test_intensity_parameters_are_uniform_and_independent(compiled: Compile, info: VolumeInfo) -> None:
    recipe = compiled(**FULL)
    drawn = [draw(recipe, info, place) for place in range(3000)]
    values = {
        (0.8, 0.4): [p.contrast for p in drawn],
        (-20.0, 40.0): [p.brightness for p in drawn],
        (0.7, 0.8): [p.gamma for p in drawn],
        (0.0, 30.0): [p.noise_std for p in drawn],
        (-1000.0, 900.0): [p.window[0] for p in drawn if p.window],
        (200.0, 1300.0): [p.window[1] for p in drawn if p.window],
        (0.0, 2.0**64): [float(p.noise_key) for p in drawn],
    }
    for location_and_width, sample in values.items():
        assert stats.kstest(sample, "uniform", args=location_and_width).pvalue > 0.005
    assert np.abs(np.corrcoef(list(values.values())) - np.eye(7)).max() < 0.07
    assert all(p.window is not None and abs(p.pivot - sum(p.window) / 2) < 1e-4 for p in drawn)


def test_scales_are_uniform_per_axis(compiled: Compile, info: VolumeInfo) -> None:
    recipe = compiled(affine={"scale": [[0.5, 0.9], [1.0, 1.0], [1.1, 2.0]]})
    scales = np.array([np.diag(in_mm(draw(recipe, info, place), info)) for place in range(2000)])
    assert stats.kstest(scales[:, 0], "uniform", args=(0.5, 0.4)).pvalue > 0.01
    assert (scales[:, 1] == 1.0).all()
    assert stats.kstest(scales[:, 2], "uniform", args=(1.1, 0.9)).pvalue > 0.01


def test_rotations_are_in_degrees_and_mm_at_any_spacing(compiled: Compile, info: VolumeInfo) -> None:
    angles = []
    for place in range(2000):
        m = in_mm(draw(compiled(affine={"rotate_deg": [[-40, 10], 0, 0]}), info, place), info)
        np.testing.assert_allclose(m @ m.T, np.eye(3), atol=1e-6)
        angles.append(np.degrees(np.arctan2(m[1, 2], m[2, 2])))  # y' = sin x + cos y: x turns towards y
    assert stats.kstest(angles, "uniform", args=(-40, 50)).pvalue > 0.01


def test_shear_and_warp_fill_their_rows(compiled: Compile, info: VolumeInfo) -> None:
    shears = np.array([in_mm(draw(compiled(affine={"shear": [0.2, [0, 0], [-0.1, 0.3]]}), info, place), info) for place in range(1500)])
    np.testing.assert_allclose(shears[:, [0, 1, 2], [0, 1, 2]], 1.0)
    for entry in ((0, 1), (0, 2)):
        assert stats.kstest(shears[(slice(None), *entry)], "uniform", args=(-0.2, 0.4)).pvalue > 0.01
    assert (shears[:, 1, [0, 2]] == 0).all()
    for entry in ((2, 0), (2, 1)):
        assert stats.kstest(shears[(slice(None), *entry)], "uniform", args=(-0.1, 0.4)).pvalue > 0.01
    warps = np.array([in_mm(draw(compiled(affine={"warp": 0.3}), info, place), info) - np.eye(3) for place in range(1500)])
    for entry in np.ndindex(3, 3):
        assert stats.kstest(warps[(slice(None), *entry)], "uniform", args=(-0.3, 0.6)).pvalue > 0.005
    assert np.linalg.det(warps + np.eye(3)).min() > 0


def values_of(params: SampleParams) -> dict[str, Any]:
    """Every drawn value, under the section that decides it."""
    return {
        "affine": params.affine.tolist(),
        "occlude": params.occlusion,
        "contrast": params.contrast,
        "brightness": params.brightness,
        "gamma": params.gamma,
        "noise": params.noise_std,
        "window": (params.window, params.pivot),
        "key": params.noise_key,
    }


@pytest.mark.parametrize("section", ["affine", "occlude", "contrast", "brightness", "gamma", "noise"])
def test_switching_a_section_off_leaves_all_others_as_they_were(section: str, compiled: Compile, info: VolumeInfo) -> None:
    full, rest = compiled(**FULL), compiled(**{name: keys for name, keys in FULL.items() if name != section})
    changed = set()
    for place in range(10):
        before, after = values_of(draw(full, info, place)), values_of(draw(rest, info, place))
        changed |= {name for name in before if before[name] != after[name]}
    assert changed == {section}


def test_seeds_epochs_and_places_have_nothing_in_common(compiled: Compile, info: VolumeInfo) -> None:
    recipe = compiled(**FULL)
    addresses = [(s, e, p) for s in range(4) for e in range(4) for p in range(25)]
    drawn = [draw(recipe, info, p, seed=s, epoch=e) for s, e, p in addresses]
    assert len({p.noise_key for p in drawn}) == len(addresses)
    assert len({p.noise_std for p in drawn}) == len(addresses)
    assert len({p.affine.tobytes() for p in drawn}) == len(addresses)


def test_a_draw_is_the_same_whatever_was_drawn_before(compiled: Compile, info: VolumeInfo) -> None:
    recipe = compiled(**FULL)
    forwards = [draw(recipe, info, place) for place in range(10)]
    backwards = [draw(recipe, info, place) for place in reversed(range(10))][::-1]
    for a, b in zip(forwards, backwards, strict=True):
        assert a.affine.tobytes() == b.affine.tobytes()
        assert (a.noise_key, a.window, a.occlusion, a.gamma) == (b.noise_key, b.window, b.occlusion, b.gamma)


def test_a_full_draw_equals_the_recorded_one(compiled: Compile, info: VolumeInfo) -> None:
    """Any change of the word layout, of the composition or of rounding shows here: it would change every stored run."""
    vectors = [line for line in Path(__file__).with_name("draw_vectors.txt").read_text().splitlines() if not line.startswith("#")]
    assert len(vectors) == 3
    for line in vectors:
        seed, epoch, place, affine, scalars, key, slab = line.split()
        params = draw_sample(compiled(**FULL), info, PATCH, seed=int(seed), epoch=int(epoch), place=int(place))
        assert params.affine.astype("<f4").tobytes().hex() == affine
        drawn = [params.contrast, params.pivot, params.brightness, params.gamma, params.noise_std, *(params.window or ())]
        assert np.array(drawn, "<f4").tobytes().hex() == scalars
        assert f"{params.noise_key:016x}" == key
        assert str(params.occlusion).replace(" ", "") == slab


def test_every_float_is_exact_in_float32(compiled: Compile, info: VolumeInfo) -> None:
    params = draw(compiled(output={"fill": -0.1}, **FULL), info, 8)
    for value in (params.fill, params.contrast, params.pivot, params.brightness, params.gamma, params.noise_std, *(params.window or ())):
        assert float(np.float32(value)) == value


def test_fill_defaults_to_the_modalitys_air(compiled: Compile, info: VolumeInfo) -> None:
    assert draw(compiled("ct"), info, 0).fill == -1000.0
    assert draw(compiled("mr"), info, 0).fill == 0.0
    assert draw(compiled("mr", output={"fill": 7}), info, 0).fill == 7.0


def test_the_sampler_of_the_recipe_is_that_of_every_sample_and_changes_nothing_else(compiled: Compile, info: VolumeInfo) -> None:
    exact, texture = (draw(compiled(**FULL, output=output), info, 5) for output in ({}, {"sampler": "texture"}))
    assert (exact.sampler, texture.sampler) == ("exact", "texture")
    assert (exact.noise_key, exact.window, exact.affine.tobytes()) == (texture.noise_key, texture.window, texture.affine.tobytes())
