"""Probabilities land where SimpleITK puts them, whatever the orientation of the scan."""

from __future__ import annotations

from itertools import permutations, product

import numpy as np
import pytest
import SimpleITK
from augclient import VolumeInfo
from augtrain.label_map import Grid
from augtrain.predict.scan_grid import blocks_on_grid, grid_of, label_on_grid
from numpy.typing import NDArray

ZYX = np.eye(4)[[2, 1, 0, 3]]


def affine_of(image: SimpleITK.Image) -> NDArray[np.float64]:
    """zyx voxel -> xyz LPS mm."""
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    return affine @ ZYX


def turn(angles_deg: tuple[float, float, float]) -> NDArray[np.float64]:
    rotation = SimpleITK.Euler3DTransform((0, 0, 0), *np.radians(angles_deg))
    return np.reshape(rotation.GetMatrix(), (3, 3))


def on_grid(probabilities: NDArray[np.float32], affine: NDArray[np.float64], grid: Grid) -> NDArray[np.float32]:
    """All blocks in one array."""
    whole = np.full((*grid.shape, probabilities.shape[3]), np.nan, np.float32)
    for z, rows, block in blocks_on_grid(probabilities, affine, grid):
        whole[z, rows] = block
    return whole


@pytest.fixture(scope="module")
def volume() -> tuple[NDArray[np.float32], list[SimpleITK.Image]]:
    """Probabilities (7, 9, 11, 3) of an oblique volume, and each class as an image of SimpleITK."""
    odds = np.random.default_rng(5).random((7, 9, 11, 3), np.float32)
    probabilities = odds / odds.sum(axis=-1, keepdims=True)
    images = []
    for k in range(3):
        image = SimpleITK.GetImageFromArray(probabilities[..., k])
        image.SetSpacing((1.5, 2.0, 3.0))
        image.SetOrigin((-7.0, 11.0, 100.0))
        image.SetDirection(turn((10.0, -20.0, 30.0)).ravel())
        images.append(image)
    return probabilities, images


def resampled(images: list[SimpleITK.Image], grid: SimpleITK.Image) -> NDArray[np.float32]:
    """(Z, Y, X, K), linear; beyond the last centre the nearest voxel's value."""
    planes = []
    for image in images:
        resample = SimpleITK.ResampleImageFilter()
        resample.SetReferenceImage(grid)
        resample.SetInterpolator(SimpleITK.sitkLinear)
        resample.SetUseNearestNeighborExtrapolator(True)
        planes.append(SimpleITK.GetArrayFromImage(resample.Execute(image)))
    return np.stack(planes, axis=-1)


@pytest.mark.parametrize("order", list(permutations(range(3))))
@pytest.mark.parametrize("flips", list(product([1, -1], repeat=3)))
def test_turned_and_flipped_scans_of_another_spacing(volume: tuple[NDArray[np.float32], list[SimpleITK.Image]], order, flips) -> None:
    """The axes of the scan run along the volume's, in another order, from other ends: what ingest undoes."""
    probabilities, images = volume
    direction = np.reshape(images[0].GetDirection(), (3, 3))[:, order] * flips
    reference = SimpleITK.Image((13, 8, 10), SimpleITK.sitkFloat32)
    reference.SetSpacing((0.7, 1.1, 1.3))
    reference.SetDirection(direction.ravel())
    middle = images[0].TransformContinuousIndexToPhysicalPoint((4.8, 4.1, 2.9))
    reference.SetOrigin(np.subtract(middle, direction @ (np.multiply([13, 8, 10], [0.7, 1.1, 1.3]) / 2.5)))
    grid = Grid(shape=(10, 8, 13), affine=affine_of(reference))
    got = on_grid(probabilities, affine_of(images[0]), grid)
    np.testing.assert_allclose(got, resampled(images, reference), atol=2e-5)


def test_a_scan_at_an_angle_to_its_volume(volume: tuple[NDArray[np.float32], list[SimpleITK.Image]]) -> None:
    """What a sheared scan needs: its volume was straightened."""
    probabilities, images = volume
    reference = SimpleITK.Image((8, 7, 5), SimpleITK.sitkFloat32)
    reference.SetDirection(turn((12.0, -13.0, 41.0)).ravel())
    reference.SetOrigin(images[0].TransformContinuousIndexToPhysicalPoint((3.0, 2.0, 1.5)))
    grid = Grid(shape=(5, 7, 8), affine=affine_of(reference))
    got = on_grid(probabilities, affine_of(images[0]), grid)
    np.testing.assert_allclose(got, resampled(images, reference), atol=2e-5)


def test_both_ways_agree_where_both_apply(volume: tuple[NDArray[np.float32], list[SimpleITK.Image]]) -> None:
    """A tilt of 1e-3 voxels takes the way of slanted grids, and hardly moves a voxel."""
    probabilities, images = volume
    affine = affine_of(images[0])
    straight = affine @ np.array([[0.3, 0, 0, -1.0], [0, -0.4, 0, 8.0], [0, 0, 0.9, 0.5], [0, 0, 0, 1.0]])
    tilted = straight.copy()
    tilted[:3, 0] += straight[:3, 1] * 1e-4
    same = [on_grid(probabilities, affine, Grid((29, 25, 14), each)) for each in (straight, tilted)]
    np.testing.assert_allclose(same[0], same[1], atol=3e-3)


def test_the_volumes_own_grid_gives_its_own_values_to_the_bit(volume: tuple[NDArray[np.float32], list[SimpleITK.Image]]) -> None:
    probabilities, images = volume
    affine = affine_of(images[0])
    np.testing.assert_array_equal(label_on_grid(probabilities, affine, Grid((7, 9, 11), affine)), probabilities.argmax(axis=-1))


def test_single_planes_and_single_voxels_are_grids_too(volume: tuple[NDArray[np.float32], list[SimpleITK.Image]]) -> None:
    probabilities, images = volume
    affine = affine_of(images[0])
    flat = on_grid(probabilities[:1, :, :1], affine, Grid((2, 9, 3), affine))
    np.testing.assert_allclose(flat, np.broadcast_to(probabilities[:1, :, :1], (2, 9, 3, 3)), atol=1e-6)


@pytest.mark.parametrize("values", [1, 60, 1 << 17])
def test_blocks_of_rows_make_up_the_planes(
    volume: tuple[NDArray[np.float32], list[SimpleITK.Image]], values: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    probabilities, images = volume
    affine = affine_of(images[0])
    grid = Grid((3, 10, 4), affine @ np.diag([1.7, 0.8, 2.2, 1.0]))
    whole = on_grid(probabilities, affine, grid)
    monkeypatch.setattr("augtrain.predict.scan_grid._BLOCK_VALUES", values)
    blocks = list(blocks_on_grid(probabilities, affine, grid))
    assert len(blocks) == 3 * {1: 10, 60: 2, 1 << 17: 1}[values]
    for z, rows, block in blocks:
        np.testing.assert_array_equal(block, whole[z, rows])


def test_of_equally_probable_classes_the_smaller_id_wins() -> None:
    odds = np.float32([[[[0.2, 0.5, 0.3], [0.4, 0.4, 0.2]], [[0.1, 0.45, 0.45], [0.0, 0.0, 1.0]]]])
    np.testing.assert_array_equal(label_on_grid(odds, np.eye(4), Grid((1, 2, 2), np.eye(4))), [[[1, 0], [1, 2]]])


def test_a_volume_without_a_file_has_its_own_grid() -> None:
    known = {"id": "a", "shape": (1, 5, 7, 11), "dtype": "int16", "spacing_mm": (3, 1, 0.5), "has_label": False, "class_voxels": {}}
    alone = grid_of(VolumeInfo(affine=np.diag([3.0, 1.0, 0.5, 1.0]), **known))
    assert alone.shape == (5, 7, 11)
    assert alone.spacing_mm == (3.0, 1.0, 0.5)
    from_file = grid_of(VolumeInfo(affine=np.eye(4), source_shape=(2, 3, 4), source_affine=np.diag([2.0, 5.0, 7.0, 1.0]), **known))
    assert from_file.shape == (2, 3, 4)
    assert from_file.spacing_mm == (2.0, 5.0, 7.0)
