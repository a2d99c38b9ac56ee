"""Resampling against SciPy, and by physical points of a smooth phantom."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from scipy import ndimage

from augserver.errors import GeometryError
from augserver.geometry import affine_of
from augserver.ingest import IngestConfig
from augserver.ingest.resample import carry_label, cover_share, resample_image, resampled_affine, resampled_shape


@pytest.mark.parametrize("target", [(3.0, 3.0, 3.0), (1.0, 1.0, 1.0), (7.0, 0.4, 0.5), (2.0, 1.0, 0.75), (100.0, 100.0, 100.0)])
def test_equals_scipys_gaussian_and_linear_interpolation(target: tuple[float, float, float]) -> None:
    spacing = (2.0, 1.0, 0.5)
    image = np.random.default_rng(0).integers(-1000, 2000, (9, 17, 23)).astype(np.int16)
    ratio = np.divide(target, spacing)
    smooth = ndimage.gaussian_filter(image.astype(np.float64), np.maximum(ratio - 1, 0) / 3, mode="nearest")
    grid = np.indices(resampled_shape(image.shape, spacing, target)).astype(np.float64) * ratio[:, None, None, None]
    expected = ndimage.map_coordinates(smooth, grid, order=1, mode="nearest")
    got = resample_image(image, spacing, target)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, expected, atol=2e-3)


def test_the_same_spacing_changes_nothing() -> None:
    image = np.random.default_rng(0).normal(size=(5, 7, 11)).astype(np.float32)
    np.testing.assert_array_equal(resample_image(image, (3, 1, 0.5), (3, 1, 0.5)), image)


@pytest.mark.parametrize(
    ("shape", "spacing", "target", "expected"),
    [
        ((5, 7, 11), (3, 1, 0.5), (3, 3, 3), (5, 2, 2)),
        ((5, 7, 11), (3, 1, 0.5), (6, 2, 1), (3, 4, 6)),
        ((2, 2, 2), (1, 1, 1), (9, 9, 9), (1, 1, 1)),
    ],
)
def test_shape_is_rounded_and_never_empty(shape: Any, spacing: Any, target: Any, expected: Any) -> None:
    assert resampled_shape(shape, spacing, target) == expected


def test_a_spacing_without_meaning_is_refused() -> None:
    with pytest.raises(GeometryError, match="target spacing must be"):
        resample_image(np.zeros((2, 2, 2)), (1, 1, 1), (1, 0, 1))


def test_a_smooth_phantom_keeps_its_hu_at_every_point_in_mm(tmp_path: Path, ingest_all: Callable[..., Any]) -> None:
    x, y, z = np.meshgrid(np.arange(60) * 0.8, np.arange(50) * 0.9, np.arange(20) * 2.5, indexing="ij")
    hu = (40 * np.sin(x / 9) + 3 * y - 2 * z).transpose(2, 1, 0)
    image = sitk.GetImageFromArray(hu.astype(np.float32))
    image.SetSpacing((0.8, 0.9, 2.5))
    image.SetOrigin((-31.0, 17.0, 5.0))
    turn = sitk.Euler3DTransform((0, 0, 0), 0.2, 0.1, 0.3)
    image.SetDirection(turn.GetMatrix())
    sitk.WriteImage(sitk.DICOMOrient(image, "RAS"), str(tmp_path / "phantom.nii.gz"))
    _, dataset = ingest_all(tmp_path / "phantom.nii.gz", spacing_mm=(3.0, 2.0, 2.0))
    volume = dataset.read("phantom")
    assert volume.info.spacing_mm == pytest.approx((3.0, 2.0, 2.0))
    rng = np.random.default_rng(0)
    voxels = rng.uniform(2, np.array(volume.image.shape[1:]) - 3, (200, 3)).T
    points = (volume.info.affine @ np.vstack([voxels, np.ones(200)]))[:3].T
    expected = [image.EvaluateAtPhysicalPoint(point.tolist(), sitk.sitkLinear) for point in points]
    got = ndimage.map_coordinates(volume.image[0], voxels, order=1)
    np.testing.assert_allclose(got, expected, atol=0.5)  # curvature of the sine over 2 mm; half a voxel off would be 3 HU


def test_the_new_affine_keeps_the_centre_of_voxel_0_and_the_directions() -> None:
    affine = affine_of((3, 1, 0.5), (10, 20, 30))
    np.testing.assert_allclose(resampled_affine(affine, (6, 2, 2)), affine_of((6, 2, 2), (10, 20, 30)))


def test_carried_labels_equal_simpleitks_nearest_to_the_last_half_voxel() -> None:
    label = np.random.default_rng(0).integers(0, 200, (6, 8, 10)).astype(np.uint8)
    source, target = affine_of((3, 1, 0.5), (10, 20, 30)), affine_of((1.3, 0.7, 0.9), (8.13, 18.31, 27.23))  # no ties
    got = carry_label(label, source, (16, 13, 9), target)
    images = []
    for array, affine, spacing in ((label, source, (0.5, 1.0, 3.0)), (got, target, (0.9, 0.7, 1.3))):
        image = sitk.GetImageFromArray(array)
        image.SetSpacing(spacing)
        image.SetOrigin(affine[:3, 3].tolist())
        images.append(image)
    expected = sitk.GetArrayFromImage(sitk.Resample(images[0], images[1], sitk.Transform(), sitk.sitkNearestNeighbor, 0.0))
    np.testing.assert_array_equal(got, expected)
    assert 0 < np.count_nonzero(got) < got.size


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_carried_label_stays_where_it_is_in_mm_though_every_other_centre_lies_between_two_voxels(axis: int) -> None:
    """A slab from 9 to 21 mm along an axis, from 2 mm to 3 mm: its faces pass through centres, of which half are in."""
    shape, wide = [9, 11, 13], [6, 7, 8]
    shape[axis], wide[axis] = 15, 10
    label = np.zeros(shape, np.uint8)
    np.moveaxis(label, axis, 0)[5:11] = 1
    turn = np.eye(4)
    turn[:3, :3] = np.reshape(sitk.Euler3DTransform((0, 0, 0), 0.2, 0.1, 0.3).GetMatrix(), (3, 3))
    got = carry_label(label, turn @ affine_of((2, 2, 2), (10, 20, 30)), tuple(wide), turn @ affine_of((3, 3, 3), (10, 20, 30)))
    planes = np.moveaxis(got, axis, 0).reshape(10, -1).mean(axis=1)
    np.testing.assert_allclose(planes, [0, 0, 0, 0.5, 1, 1, 1, 0.5, 0, 0], atol=0.02)  # faces of an odd number of voxels have no half


@pytest.mark.parametrize(("shift_mm", "share"), [(0.0, 1.0), (1.0, 0.75), (2.0, 0.5), (4.0, 0.0), (1000.0, 0.0)])
def test_the_share_that_a_label_covers_is_counted_in_voxel_centres(shift_mm: float, share: float) -> None:
    image = affine_of((1, 1, 1))
    assert cover_share((4, 5, 6), image, (9, 9, 9), affine_of((1, 1, 1), (0, 0, shift_mm))) == share
    assert cover_share((4, 5, 6), image, (2, 5, 6), image) == 0.5


def test_rounding_in_headers_flips_no_voxel() -> None:
    label = np.random.default_rng(0).integers(0, 9, (40, 40, 40)).astype(np.uint8)
    shifted = affine_of((1.0000001, 1, 1), (0.0000004, 0, 0))
    np.testing.assert_array_equal(carry_label(label, shifted, (40, 40, 40), affine_of((1, 1, 1))), label)


@pytest.mark.parametrize("spacing", [1e-4, 1e9])
def test_an_absurd_spacing_is_refused_before_any_file_is_read(spacing: float) -> None:
    with pytest.raises(GeometryError, match=r"--spacing-mm must be 0.01 to 100 mm, got"):
        IngestConfig(spacing_mm=(1.0, spacing, 1.0))


def test_a_volume_that_no_kernel_reads_is_refused_without_the_memory_it_would_need(
    tmp_path: Path, scan_image: Callable[..., sitk.Image], write_scan: Callable[..., Path], ingest_all: Callable[..., Any]
) -> None:
    coarse = scan_image()
    coarse.SetSpacing((10.0, 20.0, 30.0))
    [outcome], _ = ingest_all(write_scan(tmp_path / "coarse.mha", coarse), spacing_mm=(0.01, 0.01, 0.01))
    assert outcome.info is None
    assert outcome.reason.startswith(
        "coarse: would have (15000, 14000, 11000) voxels (z, y, x) at (0.01, 0.01, 0.01) mm, at most 2147483647"
    )
