"""A physical point keeps its HU and its label: SimpleITK on the original file, our affine on the stored volume."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from scipy.ndimage import map_coordinates

from augserver.volume import Volume

POINTS = 1000


def assert_points_keep_their_values(original: sitk.Image, volume: Volume, *, atol: float = 0.51) -> None:
    """Random voxels and random points between them; values between differ by SimpleITK's float32 weights at most."""
    rng = np.random.default_rng(1)
    size = np.array(original.GetSize())
    to_voxel = np.linalg.inv(volume.info.affine)
    for _ in range(POINTS):
        index = [int(value) for value in rng.integers(0, size)]
        position = to_voxel @ [*original.TransformIndexToPhysicalPoint(index), 1]
        voxel = np.rint(position[:3]).astype(int)
        np.testing.assert_allclose(position[:3], voxel, atol=2e-3)
        assert volume.image[0][tuple(voxel)] == np.float32(original[index])
    between = rng.uniform(0, size - 1, (POINTS, 3))
    points = [original.TransformContinuousIndexToPhysicalPoint(index.tolist()) for index in between]
    expected = [original.EvaluateAtPhysicalPoint(point, sitk.sitkLinear) for point in points]
    positions = (to_voxel @ np.column_stack([points, np.ones(POINTS)]).T)[:3]
    got = map_coordinates(volume.image[0].astype(np.float64), positions, order=1, mode="nearest")
    np.testing.assert_allclose(got, expected, atol=atol, rtol=1e-4)


@pytest.mark.parametrize(
    "name",
    [
        "totalseg/example_ct_sm.nii.gz",  # RAS
        "innereye/scan_small.nii.gz",  # LPS
        "totalseg/example_seg_dicom.nii.gz",  # LAS
        "niivue_mr_oblique/FLAIR.nii.gz",  # oblique
        "niivue_mr_oblique/FLAIR.nrrd",
        "niivue_mr_oblique/mha.mha",
        "cip_chest64/ct-64-transformed.nrrd",  # turned in the plane
        "elastix_lung/3DCT_lung_baseline_small.mha",
        "ibsi_sts/STS_042_MR_T1_image.nii.gz",  # float32
        "tricky_nifti/NIFTI-Reader-JS__air.hdr.gz",  # a gzipped pair, axes permuted
        "tricky_nifti/NIFTI-Reader-JS__big.nii.gz",  # big endian
        "tricky_nifti/NIFTI-Reader-JS__with_extension.nii.gz",
    ],
)
def test_files_of_all_kinds(shared_data: Path, ingest_all: Callable[..., Any], name: str) -> None:
    outcomes, dataset = ingest_all(shared_data / name)
    assert [outcome.reason for outcome in outcomes] == [""]
    original = sitk.ReadImage(str(shared_data / name))
    assert_points_keep_their_values(original, dataset.read(dataset.volumes[0]), atol=0.51 if "air" not in name else 1e-2)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "modality"),
    [
        ("cip_chest64/ct-64Dicom.zip", "ct"),
        ("totalseg/example_ct_dicom.zip", "ct"),
        ("crlm_1004/CRLM-CT-1004_dicom.zip", "ct"),
        ("dicom_failing/generic_compressed_j2k.zip", "mr"),
        ("dicom_failing/generic_compressed_jpegls.zip", "mr"),
        ("dicom_failing/generic_compressed_rle.zip", "mr"),
    ],
)
def test_dicom_series(unzip: Callable[[str], Path], ingest_all: Callable[..., Any], name: str, modality: str) -> None:
    folder = unzip(name)
    outcomes, dataset = ingest_all(folder, modality=modality)
    assert [outcome.reason for outcome in outcomes] == [""]
    [series] = sitk.ImageSeriesReader.GetGDCMSeriesIDs(str(folder))
    original = sitk.ReadImage(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder), series))
    assert_points_keep_their_values(original, dataset.read(dataset.volumes[0]))


@pytest.mark.parametrize("suffix", ["nii", "nii.gz", "hdr", "nrrd", "nhdr", "mha", "mhd"])
@pytest.mark.parametrize("code", ["LPS", "RAS", "SAL", "PIR"])
def test_formats_and_orders_of_axes_written_by_simpleitk(
    tmp_path: Path, scan_image: Callable[..., Any], write_scan: Callable[..., Path], ingest_all: Callable[..., Any], suffix: str, code: str
) -> None:
    oriented = sitk.DICOMOrient(scan_image(), code)
    # The other packing than the name suggests, where there is a choice: zlib in .mha, gzip in .nrrd.
    path = write_scan(tmp_path / "in" / f"scan.{suffix}", oriented, compress=code == "SAL")
    outcomes, dataset = ingest_all(path)
    assert [outcome.reason for outcome in outcomes] == [""]
    volume = dataset.read("scan")
    np.testing.assert_array_equal(volume.image[0], sitk.GetArrayFromImage(scan_image()))
    np.testing.assert_allclose(volume.info.affine[:3], [[0, 0, 0.5, 10], [0, 1, 0, -20], [3, 0, 0, 30]], atol=1e-6)


def test_nifti_scaling_is_applied(tmp_path: Path, ingest_all: Callable[..., Any]) -> None:
    import nibabel

    raw = np.arange(2 * 3 * 4, dtype=np.int16).reshape(2, 3, 4)
    for name, slope in (("whole", 2.0), ("broken", 0.3)):
        image = nibabel.Nifti1Image(raw, np.diag([-1.0, -1, 1, 1]))
        image.header.set_slope_inter(slope, -1024)
        nibabel.save(image, tmp_path / f"{name}.nii.gz")
    _, dataset = ingest_all(tmp_path)
    whole, broken = dataset.read("whole").image[0], dataset.read("broken").image[0]
    assert (whole.dtype, broken.dtype) == (np.int16, np.float32)
    for got, name in ((whole, "whole"), (broken, "broken")):
        np.testing.assert_allclose(got, sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / f"{name}.nii.gz"))), rtol=1e-6)


def test_label_on_the_same_grid_keeps_every_voxel(shared_data: Path, tmp_path: Path, ingest_all: Callable[..., Any]) -> None:
    for name in ("example_ct.nii.gz", "example_seg_fast_force_split.nii.gz"):
        target = name.replace("example_seg_fast_force_split", "example_ct_seg")
        (tmp_path / target).symlink_to(shared_data / "totalseg" / name)
    outcomes, dataset = ingest_all(tmp_path, labels="{id}_seg.nii.gz")
    assert [(outcome.id, outcome.reason) for outcome in outcomes] == [("example_ct", "")]
    volume = dataset.read("example_ct")
    original = sitk.ReadImage(str(tmp_path / "example_ct_seg.nii.gz"))
    image = sitk.ReadImage(str(tmp_path / "example_ct.nii.gz"))
    counts = np.bincount(sitk.GetArrayViewFromImage(original).ravel())
    assert volume.info.class_voxels == {int(value): int(counts[value]) for value in np.flatnonzero(counts)}
    inverse = np.linalg.inv(volume.info.affine)
    for index in np.random.default_rng(0).integers(0, image.GetSize(), (POINTS, 3)).tolist():
        voxel = tuple(np.rint(inverse @ [*image.TransformIndexToPhysicalPoint(index), 1])[:3].astype(int))
        assert volume.label[voxel] == original[original.TransformPhysicalPointToIndex(image.TransformIndexToPhysicalPoint(index))]
        assert volume.image[0][voxel] == image[index]


@pytest.mark.slow
@pytest.mark.parametrize("spacing_mm", [None, (2.0, 1.5, 2.5)])
def test_label_on_another_oblique_grid_is_simpleitks_nearest(
    shared_data: Path, tmp_path: Path, ingest_all: Callable[..., Any], spacing_mm: tuple[float, float, float] | None
) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/head.nii.gz").symlink_to(shared_data / "niivue_mr_oblique/FLAIR.nii.gz")
    lesion = sitk.ReadImage(str(shared_data / "niivue_mr_oblique/lesion.nii.gz"))
    # An upright, coarser, smaller grid in another order of axes.
    grid = sitk.Image([50, 60, 40], sitk.sitkUInt8)
    grid.SetSpacing((1.7, 1.3, 2.1))
    grid.SetDirection((0, 0, 1, -1, 0, 0, 0, -1, 0))
    centre = np.array(lesion.TransformContinuousIndexToPhysicalPoint([size / 2 for size in lesion.GetSize()]))
    grid.SetOrigin((centre - np.array(grid.TransformContinuousIndexToPhysicalPoint([25, 30, 20]))).tolist())
    label = sitk.Resample(lesion, grid, sitk.Transform(), sitk.sitkNearestNeighbor)
    (tmp_path / "labels").mkdir()
    sitk.WriteImage(label, str(tmp_path / "labels/head.nrrd"), True)
    outcomes, dataset = ingest_all(
        tmp_path / "in", labels=str(tmp_path / "labels"), modality="mr", spacing_mm=spacing_mm, min_label_cover=0.1
    )
    assert [outcome.reason for outcome in outcomes] == [""]
    volume = dataset.read("head")
    reference = sitk.GetImageFromArray(volume.label)
    affine = volume.info.affine[:3, 2::-1]
    spacing = np.linalg.norm(affine, axis=0)
    reference.SetSpacing(spacing.tolist())
    reference.SetDirection((affine / spacing).ravel().tolist())
    reference.SetOrigin(volume.info.affine[:3, 3].tolist())
    expected = sitk.GetArrayFromImage(sitk.Resample(label, reference, sitk.Transform(), sitk.sitkNearestNeighbor, 0.0))
    assert np.unique(expected).tolist() == [0, 1, 2, 3]
    assert np.count_nonzero(volume.label != expected) <= 2e-5 * expected.size
