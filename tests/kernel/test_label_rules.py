"""Labels by the weights of equal labels, against a sum over classes that is written otherwise, and on every build."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from augclient.contract import BORDERS
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from augserver.augment.sample import SampleParams
from augserver.errors import RecipeError
from augserver.kernel import Backend, open_backend
from augserver.kernel.cpu import instruction_sets

LABELS = (0, 1, 2, 7, 255)


def sample(backend, make_volume, label, patch, **params):
    """The labels (Z, Y, X) of one sample of a label volume whose image is empty."""
    out, ids = backend.allocate((1, 1, *patch), np.float32), backend.allocate((1, *patch), np.uint8)
    volume = make_volume(np.zeros((1, *label.shape), np.int16), label)
    backend.augment([volume], [SampleParams(label_rule="linear", **params)], out, ids)
    return ids[0]


def lumps(rng, shape, labels=LABELS):
    """Labels in lumps a few voxels wide."""
    fields = [ndimage.gaussian_filter(rng.normal(size=shape), 1.5) for _ in labels]
    return np.array(labels, np.uint8)[np.argmax(fields, axis=0)]


def oblique(rng, shape, patch):
    matrix = np.eye(3) + rng.normal(0, 0.3, (3, 3))
    offset = (np.array(shape) - 1) / 2 - matrix @ ((np.array(patch) - 1) / 2) + rng.normal(0, 2, 3)
    return np.hstack([matrix, offset[:, None]]).astype(np.float32)


def scores(label, affine, patch, outside, mode):
    """float64 (labels, Z, Y, X): SciPy's interpolation of each label's own mask; `outside` fills the masks beyond the volume."""
    grid = np.stack(np.meshgrid(*map(np.arange, patch), indexing="ij")).reshape(3, -1)
    at = affine[:, :3].astype(np.float64) @ grid + affine[:, 3:].astype(np.float64)
    found = [
        ndimage.map_coordinates((label == each).astype(np.float64), at, order=1, mode=mode, cval=float(each == outside)) for each in LABELS
    ]
    return np.stack(found).reshape(len(LABELS), *patch)


@pytest.mark.parametrize(("border", "mode"), [("fill", "grid-constant"), ("edge", "nearest")])
@pytest.mark.parametrize("outside", [0, 255])
def test_linear_labels_are_the_arg_max_of_each_masks_interpolation(border, mode, outside, each_backend, make_volume):
    rng = np.random.default_rng(11)
    mixed = wrong = 0
    for _ in range(20):
        shape, patch = tuple(rng.integers(6, 30, 3)), tuple(int(n) for n in rng.integers(4, 40, 3))
        label, affine = lumps(rng, shape), oblique(rng, shape, patch)
        ids = sample(each_backend, make_volume, label, patch, affine=affine, border=border, outside_label=outside)
        expected = scores(label, affine, patch, outside, mode)
        first, second = np.sort(expected, axis=0)[[-1, -2]]
        clear = first - second > 1e-4  # SciPy's coordinates are float64, ours are within 2e-5 voxel of them
        wrong += int((ids != np.array(LABELS)[expected.argmax(axis=0)])[clear].sum())
        mixed += int((clear & (first < 0.999)).sum())
        assert clear.mean() > 0.99
    assert wrong == 0
    assert mixed > 20_000


def test_a_small_majority_of_three_wins_against_the_nearest_voxel(each_backend, make_volume):
    label = np.array([[[1, 2], [2, 3]]], np.uint8)
    at = np.array([[1, 0, 0, 0], [0, 1, 0, 0.45], [0, 0, 1, 0.45]], np.float32)  # weights 0.3025, 2 x 0.2475, 0.2025
    assert sample(each_backend, make_volume, label, (1, 1, 1), affine=at).item() == 2


@pytest.mark.parametrize(
    ("row", "at", "expected"),
    [
        ((5, 1), 0.5, 1),  # of two equally near ones the upper is the nearest: its label
        ((1, 5), 0.5, 5),
        ((5, 5), 0.5, 5),
        ((9, 4), 0.25, 9),
        ((9, 4), 0.75, 4),
    ],
)
def test_a_tie_is_settled_by_the_nearest_voxel(row, at, expected, each_backend, make_volume):
    label = np.array(row, np.uint8).reshape(1, 1, 2)
    affine = np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, at]], np.float32)
    assert sample(each_backend, make_volume, label, (1, 1, 1), affine=affine).item() == expected


def test_a_tie_in_which_the_nearest_voxel_has_no_part_goes_to_the_lowest_label(each_backend, make_volume):
    label = np.array([[[8, 6], [6, 8]], [[8, 6], [8, 3]]], np.uint8)  # at the middle: 8 has 4, 6 has 3, and 3, the nearest, has 1
    middle = np.hstack([np.eye(3), np.full((3, 1), 0.5)]).astype(np.float32)
    assert sample(each_backend, make_volume, label, (1, 1, 1), affine=middle).item() == 8
    label[0, 0, 0] = 6
    label[0, 0, 1] = 8
    label[1, 1, 0] = 5  # now 8 has 3 and 6 has 3
    assert sample(each_backend, make_volume, label, (1, 1, 1), affine=middle).item() == 6


def test_labels_that_do_not_survive_weigh_as_background(each_backend, make_volume):
    label = np.array([[[1, 2], [3, 3]]], np.uint8)
    at = np.array([[1, 0, 0, 0], [0, 1, 0, 0.4], [0, 0, 1, 0.4]], np.float32)  # weights 0.36, 0.24, 0.4
    assert sample(each_backend, make_volume, label, (1, 1, 1), affine=at).item() == 3
    assert sample(each_backend, make_volume, label, (1, 1, 1), affine=at, keep_labels=frozenset({3})).item() == 0


@pytest.mark.parametrize("rule", ["nearest", "linear"])
def test_the_label_outside_begins_half_a_voxel_beyond_the_outermost_centres_and_is_kept(rule, each_backend, make_volume):
    label = np.full((1, 1, 4), 6, np.uint8)
    affine = np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0.25, -1.125]], np.float32)
    out, ids = each_backend.allocate((1, 1, 1, 1, 22), np.float32), each_backend.allocate((1, 1, 1, 22), np.uint8)
    params = SampleParams(affine=affine, label_rule=rule, outside_label=255, keep_labels=frozenset({6}))
    each_backend.augment([make_volume(np.zeros((1, 1, 1, 4), np.int16), label)], [params], out, ids)
    x = -1.125 + 0.25 * np.arange(22)
    assert (ids.ravel() == np.where((x > -0.5) & (x < 3.5), 6, 255)).all()


def test_an_ignored_label_stays_itself_in_the_slab(each_backend, make_volume):
    rng = np.random.default_rng(4)
    label = rng.integers(1, 5, (8, 6, 70)).astype(np.uint8)
    out, ids = each_backend.allocate((1, 1, 8, 6, 80), np.float32), each_backend.allocate((1, 8, 6, 80), np.uint8)
    volume = make_volume(np.zeros((1, *label.shape), np.int16), label)
    params = SampleParams(affine=np.eye(3, 4, dtype=np.float32), occlusion=(2, 6), occlusion_label=9, ignore_label=3, outside_label=3)
    each_backend.augment([volume], [params], out, ids)
    whole = np.pad(label, ((0, 0), (0, 0), (0, 10)), constant_values=3)
    expected = whole.copy()
    expected[2:6] = np.where(whole[2:6] == 3, 3, 9)
    assert (ids[0] == expected).all()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"label_rule": "linaer"}, "label_rule is 'linaer'; allowed: 'nearest', 'linear'"),
        ({"border": "reflect"}, "border is 'reflect'; allowed: 'fill', 'edge'"),
        ({"outside_label": 256}, "label 256; allowed: 0 to 255"),
        ({"ignore_label": -1}, "label -1; allowed: 0 to 255"),
        ({"border": "edge", "sampler": "texture"}, 'a texture sampler does not have the border "edge"; use output.sampler = "exact"'),
        ({"fills": (1.0, 2.0)}, "fills is given for 2 channels; allowed: 1"),
        ({"fills": (np.inf,)}, "a fill is inf; allowed: finite"),
        ({"tap_limits": ((1.0, 0.0),)}, r"tap_limits \(1.0, 0.0\); allowed: finite numbers with low <= high"),
        ({"tap_limits": ((0.0, 1.0),), "sampler": "texture"}, "a texture sampler does not have limits on voxels"),
    ],
)
def test_what_has_no_meaning_is_refused(wrong, message, make_volume, backend):
    volume = make_volume(np.zeros((1, 2, 3, 4), np.int16), np.zeros((2, 3, 4), np.uint8))
    with pytest.raises(RecipeError, match=message):
        backend.augment([volume], [SampleParams(affine=np.eye(3, 4, dtype=np.float32), **wrong)], np.zeros((1, 1, 2, 3, 4), np.float32))


@pytest.fixture(scope="module")
def builds() -> Iterator[list[Backend]]:
    """The reference, then the vector builds."""
    opened = [open_backend("cpu", threads=1, isa=isa) for isa in reversed(instruction_sets())]
    yield opened
    for each in opened:
        each.close()


QUARTERS = st.integers(-6, 6).map(lambda n: n / 4)


@settings(deadline=None, max_examples=300)
@given(
    st.tuples(*[st.integers(1, 9)] * 3),
    st.lists(QUARTERS, min_size=12, max_size=12),
    st.sampled_from(BORDERS),
    st.sampled_from([None, frozenset({1, 2}), frozenset({0, 3})]),
    st.integers(0, 3),
    st.integers(0, 2**32 - 1),
)
def test_ties_fall_the_same_way_on_every_build(builds, make_volume, shape, entries, border, keep, outside, seed):
    """On a grid of quarters of a voxel every weight is exact, so that sums are often equal."""
    label = np.random.default_rng(seed).integers(0, 4, shape).astype(np.uint8)
    affine = np.array(entries, np.float32).reshape(3, 4)
    found = [
        sample(each, make_volume, label, (3, 5, 70), affine=affine, border=border, keep_labels=keep, outside_label=outside).tobytes()
        for each in builds
    ]
    assert len(builds) > 1
    assert len(set(found)) == 1
