"""Addresses, ranks and refusals of the plan; no service, no voxels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from augclient.recipe import Recipe
from hypothesis import given
from hypothesis import strategies as st

from augserver.augment import compile_recipe
from augserver.errors import PatchError, RecipeError, RequestError, StoreError
from augserver.kernel.checks import check_params
from augserver.pipeline.plan import Plan, batch_indices
from augserver.volume import Volume, VolumeInfo

CLASSES = {0: "background", 1: "liver", 2: "lungs"}
U64 = 2**64


def facts(count: int, has_label: bool = True) -> dict[str, VolumeInfo]:
    return {
        f"case_{k:03}": VolumeInfo(
            id=f"case_{k:03}",
            shape=(1, 12, 14, 16 + k),
            dtype="int16",
            spacing_mm=(3.0, 1.0, 0.5),
            affine=np.eye(4),
            has_label=has_label,
            class_voxels={0: 10, 1: 5} if has_label else {},
        )
        for k in range(count)
    }


def plan(count: int = 3, patch: Any = (4, 5, 6), seed: int = 0, **sections: Any) -> Plan:
    return Plan(facts(count), compile_recipe(Recipe(**sections).proto, modality="ct", classes=CLASSES), patch, seed)


@given(st.integers(1, 40), st.integers(1, 5), st.integers(0, U64 - 1), st.integers(0, 2**50))
def test_an_epoch_visits_every_volume_equally_often(volumes: int, patches: int, seed: int, epoch: int) -> None:
    it = plan(volumes, seed=seed, crop={"patches_per_volume": patches})
    assert it.samples_per_epoch == volumes * patches
    first = epoch * it.samples_per_epoch
    addresses = [it.address(first + k) for k in range(it.samples_per_epoch)]
    assert [(e, p) for e, p, _ in addresses] == [(epoch, k) for k in range(it.samples_per_epoch)]
    runs = [volume for _, _, volume in addresses]
    assert sorted(runs) == sorted(list(facts(volumes)) * patches)
    assert all(len(set(runs[k : k + patches])) == 1 for k in range(0, len(runs), patches))


@given(st.integers(0, 2**50), st.integers(1, 16), st.integers(1, 16), st.integers(1, 8))
def test_ranks_cover_each_global_batch_exactly_once(step: int, part: int, world: int, other_world: int) -> None:
    batch = part * world * other_world
    for ranks in (world, other_world, 1):
        parts = [batch_indices(step, batch, rank, ranks) for rank in range(ranks)]
        assert [index for one in parts for index in one] == list(range(step * batch, (step + 1) * batch))
        assert {len(one) for one in parts} == {batch // ranks}


def test_epochs_and_seeds_shuffle_differently() -> None:
    orders = {
        (seed, epoch): tuple(plan(30, seed=seed).address(epoch * 30 + k)[2] for k in range(30)) for seed in range(4) for epoch in range(4)
    }
    assert len(set(orders.values())) == 16


def test_samples_far_out_are_as_good_as_any() -> None:
    it = plan(3, affine={"rotate_deg": 10}, crop={"mode": "uniform"})
    params = it.params(2**40 + 1)
    assert (params.index, params.epoch) == (2**40 + 1, (2**40 + 1) // 3)
    assert params.volume == it.address(2**40 + 1)[2]
    assert it.params(U64 - 1).index == U64 - 1


def test_params_do_not_depend_on_the_order_of_asking() -> None:
    sections = {"crop": {"mode": "uniform"}, "affine": {"rotate_deg": 10}}
    one, other = plan(5, **sections), plan(5, **sections)
    forwards = [one.params(k) for k in range(60)]
    backwards = [other.params(k) for k in reversed(range(60))][::-1]
    assert [(p.volume, p.affine.tobytes(), p.noise_key) for p in forwards] == [
        (p.volume, p.affine.tobytes(), p.noise_key) for p in backwards
    ]


def test_the_order_of_the_facts_does_not_matter() -> None:
    recipe = compile_recipe(Recipe().proto, modality="ct", classes=CLASSES)
    backwards = dict(reversed(facts(9).items()))
    one, other = Plan(facts(9), recipe, (4, 5, 6), 1), Plan(backwards, recipe, (4, 5, 6), 1)
    assert [one.address(k) for k in range(18)] == [other.address(k) for k in range(18)]


@pytest.mark.parametrize("patch", [(4, 5), (4, 5, 6, 7), (0, 5, 6), (4, -5, 6), (4.0, 5, 6), ("a", 5, 6), ()])
def test_a_patch_that_is_not_three_sizes_is_refused(patch: Any) -> None:
    with pytest.raises(PatchError, match=r"allowed: three whole numbers \(Z, Y, X\), each at least 1"):
        plan(patch=patch)


def test_an_absurd_patch_is_refused_by_its_size() -> None:
    with pytest.raises(PatchError, match=r"patch \(2000, 2000, 2000\) has 8000000000 voxels; allowed: 134217728; lower the patch"):
        plan(patch=(2000, 2000, 2000), crop={"pad": True})


def test_a_patch_beyond_any_one_volume_is_refused_unless_padded() -> None:
    with pytest.raises(PatchError, match=r"patch \(4, 5, 17\) exceeds volume 'case_000' \(12, 14, 16\)"):
        plan(patch=(4, 5, 17))
    assert plan(patch=(4, 5, 17), crop={"pad": True}).patch == (4, 5, 17)


def test_a_dataset_without_volumes_is_refused() -> None:
    with pytest.raises(StoreError, match="the dataset has no volumes"):
        plan(0)


@pytest.mark.parametrize("seed", [-1, U64])
def test_a_seed_beyond_64_bits_is_refused(seed: int) -> None:
    with pytest.raises(RequestError, match="seed: got"):
        plan(seed=seed)


@pytest.mark.parametrize("index", [-1, U64])
def test_an_index_beyond_64_bits_is_refused(index: int) -> None:
    with pytest.raises(RequestError, match="index: got"):
        plan().address(index)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 0, 0, 1), "batch_size: got 0; allowed: at least 1"),
        ((0, 4, 0, 0), "world: got 0; allowed: a divisor of batch_size 4"),
        ((0, 4, 0, 3), "world: got 3; allowed: a divisor of batch_size 4"),
        ((0, 4, 2, 2), "rank: got 2; allowed: 0 to 1, as world is 2"),
        ((0, 4, -1, 2), "rank: got -1"),
        ((-1, 4, 0, 1), "step: got -1; allowed: 0 to 4611686018427387903"),
        ((2**62, 4, 0, 1), "step: got 4611686018427387904"),
    ],
)
def test_a_batch_that_cannot_be_is_refused(arguments: tuple[int, int, int, int], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        batch_indices(*arguments)


def axes(low: float, high: float) -> st.SearchStrategy[Any]:
    """One range or three within [low, high], often at its ends."""
    ends = st.sampled_from([low, high]) | st.floats(low, high)
    one = st.tuples(ends, ends).map(sorted)
    return one | st.lists(one, min_size=3, max_size=3)


@given(
    affine=st.fixed_dictionaries(
        {},
        optional={
            "rotate_deg": axes(-36_000, 36_000),
            "scale": axes(0.01, 100),
            "shear": axes(-0.49, 0.49),
            "warp": axes(-0.33, 0.33),
            "reflect": st.floats(0, 1),
            "translate_mm": axes(-1e5, 1e5),
        },
    ),
    mode=st.sampled_from(["center", "uniform", "valid"]),
    window=st.tuples(st.floats(-1e9, -1e3), st.floats(-999, 1e9)),
    spacing=st.none() | st.floats(0.01, 100),
    extremes=st.fixed_dictionaries({"noise": st.floats(0, 1e9), "exponent": st.floats(1e-3, 1e3), "fill": st.floats(-1e9, 1e9)}),
    patch=st.tuples(*[st.integers(1, 400)] * 3),
    index=st.integers(0, 2**63),
)
def test_what_is_accepted_never_draws_what_the_kernel_refuses(
    affine: dict[str, Any],
    mode: str,
    window: tuple[float, float],
    spacing: float | None,
    extremes: dict[str, float],
    patch: tuple[int, int, int],
    index: int,
) -> None:
    output = {"fill": extremes["fill"]} | ({} if spacing is None else {"spacing_mm": spacing})
    try:
        it = plan(
            3,
            patch,
            crop={"mode": mode, "pad": True},
            affine=affine,
            occlude={"max_voxels": 2**32 - 1},
            noise={"std": extremes["noise"]},
            gamma={"exponent": extremes["exponent"]},
            window={"low": window[0], "high": window[1]},
            output=output,
        )
    except RequestError:
        return
    params = it.params(index)
    check_params(params, patch, "uint8", "sample")
    assert np.linalg.det(params.affine[:, :3].astype(np.float64)) != 0


def test_a_recipe_that_could_leave_the_kernels_coordinates_is_refused() -> None:
    with pytest.raises(PatchError, match=r"patch \(4, 5, 6\) under this recipe could reach \d+ voxels .* lower the patch, affine.scale"):
        plan(affine={"scale": [1, 100], "shear": 0.49}, output={"spacing_mm": 100}, crop={"pad": True})
    with pytest.raises(PatchError, match=r"could reach 90000016 voxels .* allowed: 4194304 in steps of 65536"):
        plan(patch=(1, 1, 10_000_000), crop={"pad": True})


def volume(info: VolumeInfo) -> Volume:
    label = np.zeros(info.shape[1:], np.uint8)
    label[8, 9, 10] = 1
    return Volume(info=info, image=np.zeros(info.shape, np.int16), label=label)


def test_foreground_needs_the_label_and_finds_it() -> None:
    it = plan(2, crop={"mode": "foreground"})
    assert it.needs_voxels
    assert not plan(2).needs_voxels
    name = it.address(0)[2]
    params = it.params(0, volume(facts(2)[name]))
    assert params.affine[:, 3].tolist() == [6.0, 7.0, 7.0]  # voxel (8, 9, 10) at patch voxel (2, 2, 3)
    with pytest.raises(ValueError, match=f"sample 0 needs volume '{name}', got None"):
        it.params(0)
    other = next(one for one in facts(2) if one != name)
    with pytest.raises(ValueError, match=f"got '{other}'"):
        it.params(0, volume(facts(2)[other]))


def test_foreground_of_a_dataset_without_any_is_refused() -> None:
    recipe = compile_recipe(Recipe(crop={"mode": "foreground"}).proto, modality="ct", classes=CLASSES)
    with pytest.raises(RecipeError, match=r"crop.mode 'foreground' needs labelled voxels, but none of the 2 volumes"):
        Plan(facts(2, has_label=False), recipe, (4, 5, 6), 0)
    kept = compile_recipe(Recipe(crop={"mode": "foreground"}, labels={"keep": ["lungs"]}).proto, modality="ct", classes=CLASSES)
    with pytest.raises(RecipeError, match=r"that labels.keep keeps; use crop.mode 'uniform'"):
        Plan(facts(2), kept, (4, 5, 6), 0)
    ignored = compile_recipe(Recipe(crop={"mode": "foreground"}).proto, modality="ct", classes={0: "background", 1: "ignore"})
    with pytest.raises(RecipeError, match=r"needs labelled voxels, but none of the 2 volumes has one of a class above 0;"):
        Plan(facts(2), ignored, (4, 5, 6), 0)


@given(st.integers(2, 40), st.integers(1, 3), st.integers(0, U64 - 1), st.integers(0, 10_000))
def test_replacements_are_all_other_volumes_from_half_an_epoch_on(volumes: int, patches: int, seed: int, index: int) -> None:
    it = plan(volumes, seed=seed, crop={"patches_per_volume": patches})
    epoch, _, planned = it.address(index)
    first = epoch * it.samples_per_epoch
    order = [it.address(first + k * patches)[2] for k in range(volumes)]
    turned = order[order.index(planned) :] + order[: order.index(planned)]
    opposite = turned[volumes // 2 :] + turned[1 : volumes // 2]
    assert list(it.replacements(index)) == opposite
    assert list(plan(volumes, seed=seed, crop={"patches_per_volume": patches}).replacements(index)) == opposite


def test_the_only_volume_has_no_replacement() -> None:
    assert list(plan(1).replacements(7)) == []


def test_a_replacement_is_drawn_with_the_words_of_the_sample_and_placed_in_itself() -> None:
    it = plan(3, crop={"mode": "uniform"}, affine={"rotate_deg": [-30, 30]}, noise={"std": [1, 9]})
    planned = it.params(4)
    for id_ in it.replacements(4):
        stand_in = it.params(4, replacement=id_)
        assert (stand_in.volume, stand_in.replaces, stand_in.index, stand_in.epoch) == (id_, planned.volume, 4, 1)
        assert (stand_in.noise_std, stand_in.noise_key) == (planned.noise_std, planned.noise_key)
        np.testing.assert_array_equal(stand_in.affine[:, :3], planned.affine[:, :3])
        assert stand_in.affine[2, 3] != planned.affine[2, 3]  # the volumes differ in width, and so does the place
    assert planned.replaces == ""
