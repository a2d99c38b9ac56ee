"""Where patches land, for each crop mode."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from augclient.recipe import Recipe
from scipy import stats

from augserver.augment import CompiledRecipe, Foreground, SampleParams, compile_recipe, count_planes, draw_sample
from augserver.augment.crop import check_patch_fits
from augserver.augment.foreground import draw_voxel
from augserver.errors import PatchError
from augserver.volume import VolumeInfo

PATCH = (20, 31, 40)
Compile = Callable[..., CompiledRecipe]


def draws(
    recipe: CompiledRecipe, info: VolumeInfo, count: int, patch: tuple[int, int, int] = PATCH, **more: Foreground
) -> list[SampleParams]:
    return [draw_sample(recipe, info, patch, seed=1, epoch=0, place=place, **more) for place in range(count)]


def centre_of(params: SampleParams, patch: tuple[int, int, int] = PATCH) -> np.ndarray:
    return params.affine[:, :3].astype(np.float64) @ [(n - 1) / 2 for n in patch] + params.affine[:, 3]


def corners_of(params: SampleParams, patch: tuple[int, int, int] = PATCH) -> np.ndarray:
    ends = itertools.product(*((0, n - 1) for n in patch))
    return np.array([params.affine[:, :3].astype(np.float64) @ corner + params.affine[:, 3] for corner in ends])


def test_the_identity_copies_the_middle_of_the_volume(compiled: Compile, info: VolumeInfo) -> None:
    params = draw_sample(compiled(), info, PATCH, seed=0, epoch=0, place=0)
    assert params.affine.tolist() == [[1, 0, 0, 15], [0, 1, 0, 19], [0, 0, 1, 35]]  # (50 - 20) / 2, (70 - 31) // 2, (110 - 40) / 2


def test_uniform_places_are_whole_voxels_each_as_likely(compiled: Compile, info: VolumeInfo) -> None:
    patch = (46, 67, 108)
    starts = np.array([p.affine[:, 3] for p in draws(compiled(crop={"mode": "uniform"}), info, 3000, patch)])
    for axis, places in enumerate((5, 4, 3)):
        values, counts = np.unique(starts[:, axis], return_counts=True)
        assert values.tolist() == list(range(places))
        assert stats.chisquare(counts).pvalue > 0.01
    assert np.abs(np.corrcoef(starts.T) - np.eye(3)).max() < 0.06


def test_uniform_at_another_spacing_covers_all_that_lies_inside(compiled: Compile, info: VolumeInfo) -> None:
    recipe = compiled(crop={"mode": "uniform"}, output={"spacing_mm": 1.5})
    first = np.array([p.affine[:, 3] for p in draws(recipe, info, 2000)])
    for axis, (n, p, ratio) in enumerate(zip((50, 70, 110), PATCH, (0.5, 1.5, 3.0), strict=True)):
        slack = n - 1 - (p - 1) * ratio
        if slack >= 0:
            assert stats.kstest(first[:, axis], "uniform", args=(0, slack)).pvalue > 0.01
        else:
            np.testing.assert_allclose(first[:, axis], slack / 2, atol=1e-5)


def test_a_displacement_moves_the_patch_centre_off_the_crop_centre(compiled: Compile, info: VolumeInfo) -> None:
    recipe = compiled(affine={"rotate_deg": 30, "shear": 0.1, "translate_mm": [[6, 6], [2, 2], [-1, -1]]})
    centres = np.array([centre_of(params) for params in draws(recipe, info, 20)])
    np.testing.assert_allclose(centres, [[24.5 + 2, 34.5 + 2, 54.5 - 2]] * 20, rtol=0, atol=1e-4)


def test_valid_keeps_every_corner_inside_and_fills_the_room(compiled: Compile, info: VolumeInfo) -> None:
    patch = (12, 21, 30)
    recipe = compiled(crop={"mode": "valid"}, affine={"rotate_deg": 10, "scale": [0.8, 1.2], "translate_mm": 50, "reflect": 0.5})
    corners = np.array([corners_of(p, patch) for p in draws(recipe, info, 1500, patch)])
    fits = corners.max(axis=1) - corners.min(axis=1) <= np.array(info.shape[1:]) - 1
    assert fits.all(axis=1).mean() > 0.95  # the recipe is one that mostly fits, or this would show nothing
    low, high = corners.min(axis=1), np.array(info.shape[1:]) - 1 - corners.max(axis=1)
    assert low[fits].min() > -1e-4
    assert high[fits].min() > -1e-4
    share = (low / (low + high))[fits.all(axis=1)]
    for axis in range(3):
        assert stats.kstest(share[:, axis], "uniform").pvalue > 0.01
    centred = ~fits
    np.testing.assert_allclose(low[centred], high[centred], atol=1e-3)


def test_valid_without_a_transform_copies_whole_voxels(compiled: Compile, info: VolumeInfo) -> None:
    recipe = compiled(crop={"mode": "valid"}, affine={"reflect": [0.0, 1.0, 0.0]})
    offsets = np.array([p.affine[:, 3] for p in draws(recipe, info, 200)])
    assert (offsets == np.round(offsets)).all()
    assert set(offsets[:, 0]) == set(range(31))


def labelled(info: VolumeInfo) -> np.ndarray:
    label = np.zeros(info.shape[1:], np.uint8)
    label[2, 3, 5:9] = 1  # four voxels of class 1 in a corner
    label[30, 40, 50] = 1
    label[25:28, 33:35, 60] = 3  # six of class 3
    return label


def test_foreground_draws_the_class_first_then_its_voxels(info: VolumeInfo) -> None:
    label = labelled(info)
    counts = count_planes(label)
    rng = np.random.default_rng(0)
    drawn = [draw_voxel(label, counts, None, *map(int, rng.integers(0, 2**64, 2, np.uint64))) for _ in range(4000)]
    of_class = {c: [v for v in drawn if label[v] == c] for c in (1, 3)}
    assert stats.chisquare([len(of_class[1]), len(of_class[3])]).pvalue > 0.01
    for c, voxels in of_class.items():
        values, hits = np.unique(voxels, axis=0, return_counts=True)
        assert values.tolist() == np.argwhere(label == c).tolist()
        assert stats.chisquare(hits).pvalue > 0.01


def test_foreground_puts_a_kept_voxel_at_the_patch_middle_and_stays_inside(compiled: Compile, info: VolumeInfo) -> None:
    label = labelled(info)
    foreground = Foreground(label, count_planes(label))
    recipe = compiled(crop={"mode": "foreground"}, labels={"keep": ["lungs"]})
    for params in draws(recipe, info, 50, foreground=foreground):
        start = params.affine[:, 3].astype(int)
        assert label[tuple(start + np.array(PATCH) // 2)] == 3
    recipe = compiled(crop={"mode": "foreground"}, labels={"keep": ["liver"]})
    starts = {tuple(p.affine[:, 3].tolist()) for p in draws(recipe, info, 200, foreground=foreground)}
    assert starts == {(0.0, 0.0, 0.0), (20.0, 25.0, 30.0)}
    padded = replace(recipe, crop=replace(recipe.crop, pad=True))
    starts = {tuple(p.affine[:, 3].tolist()) for p in draws(padded, info, 200, foreground=foreground)}
    assert starts == {(-8.0, -12.0, x - 20.0) for x in range(5, 9)} | {(20.0, 25.0, 30.0)}


def test_an_ignored_class_is_never_the_foreground(info: VolumeInfo) -> None:
    label = labelled(info)
    recipe = compile_recipe(Recipe(crop={"mode": "foreground"}).proto, modality="ct", classes={0: "background", 1: "ignore", 3: "lungs"})
    drawn = draws(recipe, info, 50, foreground=Foreground(label, count_planes(label)))
    assert len(drawn) == 50
    assert {int(label[tuple(params.affine[:, 3].astype(int) + np.array(PATCH) // 2)]) for params in drawn} == {3}


def test_foreground_without_such_voxels_is_uniform(compiled: Compile, info: VolumeInfo) -> None:
    label = np.zeros(info.shape[1:], np.uint8)
    fallen = draws(compiled(crop={"mode": "foreground"}), info, 30, foreground=Foreground(label, count_planes(label)))
    uniform = draws(compiled(crop={"mode": "uniform"}), info, 30)
    assert [p.affine.tolist() for p in fallen] == [p.affine.tolist() for p in uniform]


def test_a_patch_beyond_the_volume_is_refused_by_name(info: VolumeInfo) -> None:
    check_patch_fits(info, (50, 70, 110), None)
    with pytest.raises(
        PatchError, match=r"patch \(50, 71, 110\) exceeds volume 'torso' \(50, 70, 110\) \(Z,Y,X\); lower the patch or set crop"
    ):
        check_patch_fits(info, (50, 71, 110), None)
    check_patch_fits(info, (148, 70, 55), (1.0, 1.0, 1.0))  # 147 mm between the outermost centres along z, 54.5 along x
    with pytest.raises(PatchError, match=r"at \(1.0, 1.0, 1.0\) mm reaches over \(50.3, 70.0, 109.0\) voxels"):
        check_patch_fits(info, (149, 70, 55), (1.0, 1.0, 1.0))


def test_a_padded_patch_is_centred_on_axes_it_exceeds(compiled: Compile, info: VolumeInfo) -> None:
    patch = (60, 70, 100)
    starts = np.array([p.affine[:, 3] for p in draws(compiled(crop={"mode": "uniform", "pad": True}), info, 300, patch)])
    assert set(starts[:, 0]) == {-5.0}
    assert set(starts[:, 1]) == {0.0}
    assert set(starts[:, 2]) == set(range(11))
