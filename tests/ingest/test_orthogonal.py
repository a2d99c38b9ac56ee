"""Sheared scans come out on a grid at right angles with every position in mm kept: against nibabel's affine and SciPy's interpolation."""

from __future__ import annotations

from collections.abc import Callable
from itertools import permutations, product
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from augserver.geometry import check_affine, orthogonal_grid, skew_deg
from augserver.volume import Volume

POINTS = 1000


def random_affine(seed: int) -> np.ndarray:
    """A rotated, anisotropic RAS affine with up to 25 degrees of shear between each two axes."""
    rng = np.random.default_rng(seed)
    turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    shear = np.eye(3) + np.triu(rng.uniform(-0.45, 0.45, (3, 3)), 1)
    affine = np.eye(4)
    affine[:3, :3] = turn @ shear @ np.diag(rng.uniform(0.5, 4.0, 3))
    affine[:3, 3] = rng.uniform(-100, 100, 3)
    return affine


def assert_positions_kept(volume: Volume, original: nibabel.Nifti1Image, *, atol: float, label: np.ndarray | None = None) -> None:
    """1,000 stored voxels inside the scan: their value is the scan's, interpolated at the same point in mm; and labels the nearest."""
    spread = volume.info.affine[:3, :3] / np.linalg.norm(volume.info.affine[:3, :3], axis=0)
    np.testing.assert_allclose(spread.T @ spread, np.eye(3), atol=1e-6)
    rng = np.random.default_rng(0)
    stored = rng.integers(0, volume.image.shape[1:], (20 * POINTS, 3)).T
    lps = volume.info.affine[:3, :3] @ stored + volume.info.affine[:3, 3:]
    to_voxel = np.linalg.inv(original.affine)
    places = to_voxel[:3, :3] @ (lps * [[-1], [-1], [1]]) + to_voxel[:3, 3:]
    size = np.array(original.shape[:3])[:, None]
    inside = ((places >= 0) & (places <= size - 1)).all(axis=0)
    assert inside.sum() >= POINTS
    chosen = np.flatnonzero(inside)[:POINTS]
    expected = map_coordinates(np.asarray(original.dataobj, np.float64), places[:, chosen], order=1)
    np.testing.assert_allclose(volume.image[0][tuple(stored[:, chosen])], expected, atol=atol)
    if label is not None:
        clear = chosen[(np.abs(places[:, chosen] % 1 - 0.5) > 1e-3).all(axis=0)]  # no ties
        nearest = np.floor(places[:, clear] + 0.5).astype(int)
        np.testing.assert_array_equal(volume.label[tuple(stored[:, clear])], label[tuple(nearest)])
    outside = ((places < -0.51) | (places > size - 0.49)).any(axis=0)
    assert (volume.image[0][tuple(stored[:, outside])] == -1000).all()


def test_the_sheared_scan_of_the_shared_data(shared_data: Path, ingest_all: Callable[..., Any]) -> None:
    path = shared_data / "niivue_mr_oblique/shear.nii.gz"
    [outcome], dataset = ingest_all(path)
    assert outcome.reason == ""
    assert any("sheared by 18.5 degrees: resampled onto a grid at right angles" in note for note in outcome.notes)
    assert_positions_kept(dataset.read("shear"), nibabel.load(path), atol=0.01)


@pytest.mark.parametrize("seed", range(6))
def test_random_shears_keep_values_and_labels(tmp_path: Path, ingest_all: Callable[..., Any], seed: int) -> None:
    affine = random_affine(seed)
    rng = np.random.default_rng(seed)
    voxels, label = rng.integers(-900, 2000, (23, 17, 29)).astype(np.int16), rng.integers(0, 5, (23, 17, 29)).astype(np.uint8)
    (tmp_path / "in").mkdir()
    nibabel.save(nibabel.Nifti1Image(voxels, affine), tmp_path / "in/scan.nii.gz")
    nibabel.save(nibabel.Nifti1Image(label, affine), tmp_path / "in/scan_seg.nii.gz")
    [outcome], dataset = ingest_all(tmp_path / "in", labels="{id}_seg.nii.gz")
    assert outcome.reason == ""
    original = nibabel.load(tmp_path / "in/scan.nii.gz")
    assert_positions_kept(dataset.read("scan"), original, atol=0.05, label=label)


@pytest.mark.parametrize("axes", list(permutations(range(3))))
@pytest.mark.parametrize("signs", list(product((1, -1), repeat=3)))
def test_a_tilted_gantry_in_all_48_orders_keeps_the_slices_and_their_distance(axes: tuple[int, ...], signs: tuple[int, ...]) -> None:
    tilt = np.diag([0.5, 0.7, 3.0])
    tilt[1, 2] = 0.75
    matrix = np.eye(4)
    matrix[:3, :3] = tilt[:, list(axes)] * signs
    shape = tuple(np.array([40, 30, 12])[list(axes)])
    new_shape, affine = orthogonal_grid(check_affine(matrix), shape)
    assert skew_deg(affine) < 1e-6
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    np.testing.assert_allclose(np.sort(spacing), [0.5, 0.7, 3.0])
    slices = int(spacing.argmax())
    assert new_shape[slices] == 12  # no slice is interpolated or added
    corners = np.array(list(product(*((0, size - 1) for size in shape)))).T
    places = np.linalg.solve(affine[:3, :3], matrix[:3, :3] @ corners + matrix[:3, 3:] - affine[:3, 3:])
    assert places.min() > -1e-6
    assert (places < np.array(new_shape)[:, None] - 1 + 1e-6).all()
    assert (places.max(axis=1) > np.array(new_shape) - 2 - 1e-6).all()  # and no larger than it must be


def test_a_shear_that_would_mostly_make_empty_voxels_is_refused(tmp_path: Path, ingest_all: Callable[..., Any]) -> None:
    affine = np.eye(4)
    affine[0, 2] = 40.0
    nibabel.save(nibabel.Nifti1Image(np.ones((9, 9, 9), np.int16), affine), tmp_path / "scan.nii")
    [outcome], dataset = ingest_all(tmp_path / "scan.nii")
    assert dataset is None
    assert "degrees off a right angle, and a grid at right angles would have" in outcome.reason


def test_a_qform_that_is_no_nearest_rotation_of_a_sheared_sform_is_refused(tmp_path: Path, ingest_all: Callable[..., Any]) -> None:
    sheared, turned = random_affine(0), random_affine(1)
    image = nibabel.Nifti1Image(np.ones((9, 9, 9), np.int16), sheared)
    image.set_qform(turned, 1)
    nibabel.save(image, tmp_path / "scan.nii")
    [outcome], _ = ingest_all(tmp_path / "scan.nii")
    assert "the header contradicts itself" in outcome.reason
    image.set_qform(sheared, 1)
    nibabel.save(image, tmp_path / "scan.nii")
    assert ingest_all(tmp_path / "scan.nii", out="good.zarr")[0][0].reason == ""
