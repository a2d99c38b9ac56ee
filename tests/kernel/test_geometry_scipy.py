"""Sampling against SciPy: random affines with shear and reflection, faces, labels, intensity, on asymmetric volumes."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from augserver.augment.sample import SampleParams

RANGE = 2500.0  # of the toys' values: errors are quoted as a share of it


def coordinates(affine, patch):
    grid = np.stack(np.meshgrid(*map(np.arange, patch), indexing="ij")).reshape(3, -1)
    return affine[:, :3].astype(np.float64) @ grid + affine[:, 3:].astype(np.float64)


def scipy_warp(image, affine, patch, fill):
    return ndimage.map_coordinates(image.astype(np.float64), coordinates(affine, patch), order=1, mode="grid-constant", cval=fill).reshape(
        patch
    )


def nearest_label(label, affine, patch):
    index = np.floor(coordinates(affine, patch) + 0.5).astype(int)
    inside = ((index >= 0) & (index < np.array(label.shape)[:, None])).all(axis=0)
    return np.where(inside, label[tuple(np.where(inside, index, 0))], 0).reshape(patch)


def random_affine(rng, shape, patch):
    matrix = np.eye(3) + rng.normal(0, 0.3, (3, 3))
    matrix[:, int(rng.integers(3))] *= rng.choice([-1, 1])
    offset = (np.array(shape) - 1) / 2 - matrix @ ((np.array(patch) - 1) / 2) + rng.normal(0, 2, 3)
    return np.hstack([matrix, offset[:, None]]).astype(np.float32)


@pytest.mark.slow
def test_images_and_labels_equal_scipy_on_random_affines(warp, each_backend):
    rng = np.random.default_rng(1)
    wrong_labels = voxels = 0
    for trial in range(60):
        shape, patch = tuple(rng.integers(2, 40, 3)), tuple(int(n) for n in rng.integers(1, 70, 3))
        image = rng.integers(-1000, 1500, shape).astype((np.int16, np.float32)[trial % 2])
        label = rng.integers(0, 200, shape).astype(np.uint8)
        affine = random_affine(rng, shape, patch)
        out, ids = warp(image, affine, patch, label=label, fill=-500, backend=each_backend)
        assert np.abs(out - scipy_warp(image, affine, patch, -500)).max() / RANGE < 2e-5
        wrong_labels += int((ids != nearest_label(label, affine, patch)).sum())
        voxels += ids.size
    assert wrong_labels / voxels < 2e-5


def test_coordinates_of_a_wide_row_are_within_5e_5_voxel(warp):
    ramp = np.broadcast_to(np.arange(700, dtype=np.float32), (1, 1, 700)).copy()
    affine = np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1.2345678, 3.3]], np.float32)
    out = warp(ramp, affine, (1, 1, 512))
    exact = np.float64(affine[2, 2]) * np.arange(512) + np.float64(affine[2, 3])
    assert np.abs(out[0, 0] - exact).max() < 5e-5


def test_coordinates_do_not_drift_far_from_the_first_plane(warp):
    shape = (900, 2, 3)
    ramp = np.broadcast_to(np.arange(900, dtype=np.float32)[:, None, None], shape).copy()
    affine = np.array([[1.0012345, 0, 0, 0.1], [0, 1, 0, 0], [0, 0, 1, 0]], np.float32)
    out = warp(ramp, affine, (890, 2, 3))
    exact = np.float64(affine[0, 0]) * np.arange(890) + np.float64(affine[0, 3])
    assert np.abs(out[:, 1, 1] - exact).max() < 5e-5


def test_one_lit_voxel_moves_where_the_matrix_says(warp):
    image = np.zeros((5, 7, 11), np.int16)
    image[1, 2, 3] = 100
    affine = np.array([[0, 1, 0, 0], [0, 0, 1, 0], [1, 0, 0, 0]], np.float32)  # output (z, y, x) reads input (y, x, z)
    out = warp(image, affine, (11, 5, 7))
    assert np.argwhere(out).tolist() == [[3, 1, 2]]
    assert out[3, 1, 2] == 100


def test_far_faces_are_not_blended_with_the_outside(warp):
    """The paper's library let voxels on the far faces fade to 0."""
    image = np.full((4, 5, 6), 77, np.int16)
    assert (warp(image, np.eye(3, 4), (4, 5, 6), fill=-1000) == 77).all()
    shifted = warp(image, np.hstack([np.eye(3), [[0], [0], [0.25]]]), (4, 5, 6), fill=-1000)
    assert (shifted[..., :-1] == 77).all()
    np.testing.assert_allclose(shifted[..., -1], 0.75 * 77 - 0.25 * 1000)


@pytest.mark.parametrize("interpolation", ["linear", "nearest"])
def test_all_outside_is_fill_through_the_window(warp, interpolation):
    image, label = np.full((4, 5, 6), 77, np.float32), np.ones((4, 5, 6), np.uint8)
    affine = np.hstack([np.eye(3), [[0], [50], [0]]])
    out, ids = warp(image, affine, (4, 5, 6), label=label, fill=30, window=(20, 40), interpolation=interpolation)
    np.testing.assert_allclose(out, 0.5, atol=1e-6)
    assert (ids == 0).all()


def test_nearest_images_take_the_upper_voxel_at_a_tie(warp):
    image = np.arange(8, dtype=np.float32).reshape(1, 1, 8)
    out = warp(image, [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0.5]], (1, 1, 8), interpolation="nearest", fill=-1)
    assert out.ravel().tolist() == [1, 2, 3, 4, 5, 6, 7, -1]


def test_intensity_order_is_contrast_brightness_gamma_window(make_volume, each_backend):
    rng = np.random.default_rng(3)
    image = rng.uniform(-300, 400, (2, 3, 4, 50)).astype(np.float32)
    params = SampleParams(
        affine=np.eye(3, 4, dtype=np.float32), contrast=1.2, pivot=40.0, brightness=-15.0, gamma=0.7, window=(-160.0, 240.0)
    )
    out = each_backend.allocate((1, 2, 3, 4, 50), np.float32)
    each_backend.augment([make_volume(image)], [params], out)
    v = 40 + 1.2 * (image.astype(np.float64) - 40) - 15
    t = (v + 160) / 400
    expected = np.where((t > 0) & (t < 1), np.clip(t, 1e-30, 1) ** 0.7, t).clip(0, 1)
    np.testing.assert_allclose(out[0], expected, atol=2e-6)


def test_output_types_round_the_same_value(make_volume, each_backend):
    rng = np.random.default_rng(4)
    volume = make_volume(rng.integers(-200, 300, (1, 3, 5, 37)).astype(np.int16))
    params = SampleParams(affine=random_affine(rng, (3, 5, 37), (3, 5, 37)), window=(-160.0, 240.0), noise_std=9.0, noise_key=4)
    outs = {dtype: each_backend.allocate((1, 1, 3, 5, 37), dtype) for dtype in (np.float32, np.float16, np.uint8)}
    for out in outs.values():
        each_backend.augment([volume], [params], out)
    exact = outs[np.float32]
    assert (outs[np.float16] == exact.astype(np.float16)).all()
    assert (outs[np.uint8] == np.floor(exact * np.float32(255) + np.float32(0.5)).astype(np.uint8)).all()
    assert len(np.unique(outs[np.uint8])) > 50


def test_the_occluded_slab_is_fill_without_noise(make_volume, backend):
    rng = np.random.default_rng(5)
    image, label = rng.uniform(-100, 100, (1, 6, 4, 5)).astype(np.float32), rng.integers(1, 5, (6, 4, 5)).astype(np.uint8)
    out, ids = backend.allocate((1, 1, 6, 4, 5), np.float32), backend.allocate((1, 6, 4, 5), np.uint8)
    for occlusion_label, expected in ((0, 0), (9, 9), (None, label[2:5])):
        params = SampleParams(
            affine=np.eye(3, 4, dtype=np.float32),
            fill=-40.0,
            contrast=2.0,
            noise_std=10.0,
            noise_key=8,
            occlusion=(2, 5),
            occlusion_label=occlusion_label,
        )
        backend.augment([make_volume(image, label)], [params], out, ids)
        assert (out[0, 0, 2:5] == -40).all()
        assert (ids[0, 2:5] == expected).all()
        assert (ids[0, [0, 1, 5]] == label[[0, 1, 5]]).all()
        assert (out[0, 0, [0, 1, 5]] != -40).all()


def test_keep_labels_turns_all_others_into_background(make_volume, each_backend):
    label = np.arange(256, dtype=np.uint8).reshape(4, 8, 8)
    params = SampleParams(affine=np.eye(3, 4, dtype=np.float32), keep_labels=frozenset({1, 31, 32, 200, 255}))
    out, ids = each_backend.allocate((1, 1, 4, 8, 8), np.float32), each_backend.allocate((1, 4, 8, 8), np.uint8)
    each_backend.augment([make_volume(np.zeros((1, 4, 8, 8), np.int16), label)], [params], out, ids)
    assert sorted(set(ids.ravel().tolist())) == [0, 1, 31, 32, 200, 255]
    assert (ids.ravel()[[1, 31, 32, 200, 255]] == [1, 31, 32, 200, 255]).all()
