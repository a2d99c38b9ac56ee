"""The border "edge", fills and limits per channel, against SciPy, PyTorch and NumPy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from augserver.augment.sample import SampleParams


def oblique(rng, shape, patch):
    matrix = np.eye(3) + rng.normal(0, 0.3, (3, 3))
    offset = (np.array(shape) - 1) / 2 - matrix @ ((np.array(patch) - 1) / 2) + rng.normal(0, 3, 3)
    return np.hstack([matrix, offset[:, None]]).astype(np.float32)


def coordinates(affine, patch):
    grid = np.stack(np.meshgrid(*map(np.arange, patch), indexing="ij")).reshape(3, -1)
    return affine[:, :3].astype(np.float64) @ grid + affine[:, 3:].astype(np.float64)


def warped(backend, volume, patch, nearest=False, **params):
    channels = volume.image.shape[0]
    out, ids = backend.allocate((1, channels, *patch), np.float32), backend.allocate((1, *patch), np.uint8)
    backend.augment([volume], [SampleParams(**params)], out, ids, nearest=nearest)
    return out[0], ids[0]


def random_volume(rng, make_volume, dtype, channels=2):
    shape = tuple(rng.integers(1, 30, 3))
    image = rng.uniform(-1000, 1500, (channels, *shape)).astype(dtype)
    return make_volume(image, rng.integers(0, 200, shape).astype(np.uint8))


@pytest.mark.parametrize("dtype", [np.int16, np.float32])
def test_an_edge_is_scipys_nearest_mode(dtype, each_backend, make_volume):
    rng = np.random.default_rng(21)
    beyond = 0
    for _ in range(25):
        volume, patch = random_volume(rng, make_volume, dtype), tuple(int(n) for n in rng.integers(1, 50, 3))
        affine = oblique(rng, volume.label.shape, patch)
        out, ids = warped(each_backend, volume, patch, affine=affine, border="edge", fill=-7e5, outside_label=255)
        at = coordinates(affine, patch)
        for channel, got in zip(volume.image, out, strict=True):
            expected = ndimage.map_coordinates(channel.astype(np.float64), at, order=1, mode="nearest").reshape(patch)
            assert np.abs(got - expected).max() < 0.06  # of 2500, as in test_geometry_scipy.py
        last = np.array(volume.label.shape)[:, None] - 1
        clear = (np.abs(at - np.floor(at) - 0.5) > 1e-4).all(axis=0)
        index = np.clip(np.floor(at + 0.5).astype(int), 0, last)
        assert (ids.ravel() == volume.label[tuple(index)])[clear].all()
        beyond += int(((at < 0) | (at > last)).any(axis=0).sum())
    assert beyond > 50_000


def test_an_edge_is_grid_samples_border(each_backend, make_volume):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install --group test")
    rng = np.random.default_rng(22)
    volume, patch = make_volume(rng.uniform(-1, 1, (2, 12, 17, 9)).astype(np.float32)), (20, 14, 33)
    affine = oblique(rng, (12, 17, 9), patch)
    out, _ = warped(each_backend, volume, patch, affine=affine, border="edge")
    unit = 2 * coordinates(affine, patch) / (np.array([[12], [17], [9]]) - 1) - 1
    grid = torch.from_numpy(unit[::-1].T.reshape(1, *patch, 3).copy())
    image = torch.from_numpy(volume.image[None].astype(np.float64))
    expected = torch.nn.functional.grid_sample(image, grid, mode="bilinear", padding_mode="border", align_corners=True)[0].numpy()
    assert np.abs(out - expected).max() < 1e-4
    assert ((unit < -1) | (unit > 1)).any(axis=0).mean() > 0.2


def test_an_edge_is_exactly_the_outermost_voxel_however_far_out(each_backend, make_volume):
    image = np.array([1e10, 1.0, -3.3], np.float32).reshape(1, 1, 1, 3)
    affine = np.array([[1, 0, 0, 900], [0, 1, 0, -800], [0, 0, 40, -777.7]], np.float32)
    volume = make_volume(image, np.array([4, 5, 6], np.uint8).reshape(1, 1, 3))
    for nearest in (False, True):
        out, ids = warped(each_backend, volume, (1, 1, 70), nearest, affine=affine, border="edge", label_rule="linear")
        x = -777.7 + 40 * np.arange(70)
        assert (out.ravel()[x < 0] == np.float32(1e10)).all()
        assert (out.ravel()[x > 2] == np.float32(-3.3)).all()
        assert (ids.ravel()[x < 0] == 4).all()
        assert (ids.ravel()[x > 2] == 6).all()


@pytest.mark.parametrize("border", ["fill", "edge"])
@pytest.mark.parametrize("nearest", [False, True])
def test_limits_clamp_the_voxels_and_not_the_fill(border, nearest, each_backend, make_volume):
    rng = np.random.default_rng(23)
    limits, fills = ((-200.0, 300.0), (0.5, 0.75), (-5000.0, 5000.0)), (-900.0, 4.0, 70.0)
    inside = 0
    for trial in range(10):
        volume, patch = random_volume(rng, make_volume, (np.int16, np.float32)[trial % 2], 3), (9, 14, 40)
        affine = oblique(rng, volume.label.shape, patch)
        out, _ = warped(each_backend, volume, patch, nearest, affine=affine, border=border, tap_limits=limits, fills=fills)
        for c, (low, high) in enumerate(limits):
            clamped = make_volume(np.clip(volume.image[c : c + 1].astype(np.float32), low, high))
            expected, _ = warped(each_backend, clamped, patch, nearest, affine=affine, border=border, fill=fills[c])
            assert out[c].tobytes() == expected[0].tobytes()
            inside += int((out[c] != fills[c]).sum())
    assert inside > 20_000


def test_each_channel_has_its_fill_outside_and_in_the_slab(each_backend, make_volume):
    volume = make_volume(np.full((2, 4, 5, 6), 7, np.int16))
    affine = np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 3]], np.float32)
    out, _ = warped(each_backend, volume, (4, 5, 6), affine=affine, fills=(-1.0, 1.0), fill=55.0, occlusion=(1, 2))
    expected = np.full((2, 4, 5, 6), 7.0)
    for c, fill in enumerate((-1.0, 1.0)):
        expected[c, :, :, 3:] = fill
        expected[c, 1] = fill
    assert (out == expected).all()
