"""Label maps from files: what nibabel wrote is read back as it was, and what cannot be trusted is refused."""

from __future__ import annotations

import gzip
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from augclient.errors import GeometryError, NotFoundError, VolumeError
from augtrain.label_map import open_label_file

LABELS = np.arange(5 * 7 * 11, dtype=np.uint8).reshape(5, 7, 11) % 251  # (Z, Y, X), no two planes alike


def save(path: Path, voxels: np.ndarray, affine: np.ndarray | None = None, **header) -> Path:
    """Write voxels (Z, Y, X) in NIfTI's order of axes."""
    image = nibabel.Nifti1Image(voxels.T, np.diag([-0.5, -1.0, 3.0, 1.0]) if affine is None else affine)
    for key, value in header.items():
        image.header[key] = value
    nibabel.save(image, path)
    return path


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".NII.GZ"])
@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.uint16, np.int32, np.float32, np.float64])
def test_ids_and_spacing_come_back(tmp_path: Path, suffix: str, kind: type) -> None:
    file = open_label_file(save(tmp_path / f"case{suffix.lower()}", LABELS.astype(kind)).rename(tmp_path / f"case{suffix}"))
    assert file.grid.shape == (5, 7, 11)
    assert file.grid.spacing_mm == (3.0, 1.0, 0.5)
    assert file.classes is None
    ids = file.read()
    assert ids.dtype == np.uint8
    np.testing.assert_array_equal(ids, LABELS)


def test_grid_equals_simpleitks_on_an_oblique_file(shared_data: Path) -> None:
    path = shared_data / "niivue_mr_oblique" / "lesion.nii.gz"
    file, image = open_label_file(path), sitk.ReadImage(str(path))
    np.testing.assert_array_equal(file.read(), sitk.GetArrayFromImage(image))
    for voxel in ((0, 0, 0), (3, 5, 7)):
        np.testing.assert_allclose((file.grid.affine @ (*voxel, 1))[:3], image.TransformIndexToPhysicalPoint(voxel[::-1]), atol=1e-3)


def test_big_endian_large_ids_and_trailing_axes(tmp_path: Path) -> None:
    voxels = LABELS.astype(np.int16) + 1000
    header = nibabel.Nifti1Header(endianness=">")
    nibabel.save(nibabel.Nifti1Image(voxels.T[..., None], np.eye(4), header=header), tmp_path / "case.nii")
    ids = open_label_file(tmp_path / "case.nii").read()
    assert ids.dtype == np.uint16
    np.testing.assert_array_equal(ids, voxels)


def test_a_plane_is_a_volume_of_one_slice(tmp_path: Path) -> None:
    nibabel.save(nibabel.Nifti1Image(LABELS[0].T, np.eye(4)), tmp_path / "case.nii")
    assert open_label_file(tmp_path / "case.nii").grid.shape == (1, 7, 11)
    np.testing.assert_array_equal(open_label_file(tmp_path / "case.nii").read(), LABELS[:1])


def test_a_slope_is_applied_before_values_are_ids(tmp_path: Path) -> None:
    path = save(tmp_path / "case.nii", LABELS // 2)
    whole = bytearray(path.read_bytes())
    whole[112:120] = np.array([2.0, 1.0], "<f4").tobytes()  # scl_slope, scl_inter
    path.write_bytes(whole)
    np.testing.assert_array_equal(open_label_file(path).read(), LABELS // 2 * 2 + 1)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_a_file_that_ends_too_early_is_refused_wherever_it_ends(tmp_path: Path, suffix: str) -> None:
    whole = save(tmp_path / f"case{suffix}", LABELS).read_bytes()
    for size in [0, 1, 100, 348, len(whole) // 2, len(whole) - 5, len(whole) - 1]:
        (tmp_path / f"cut{suffix}").write_bytes(whole[:size])
        with pytest.raises(VolumeError, match=r"cut\.nii"):
            open_label_file(tmp_path / f"cut{suffix}").read()


def test_every_flipped_bit_of_the_packed_voxels_is_found(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 4, LABELS.shape).astype(np.uint8)
    whole = save(tmp_path / "case.nii.gz", noise).read_bytes()
    for place in range(len(whole) // 2, len(whole) - 4, 7):
        damaged = bytearray(whole)
        damaged[place] ^= 16
        (tmp_path / "case.nii.gz").write_bytes(damaged)
        with pytest.raises(VolumeError, match=r"case\.nii\.gz"):
            open_label_file(tmp_path / "case.nii.gz").read()


@pytest.mark.parametrize(
    ("voxels", "words"),
    [
        (np.full((2, 3, 4), 0.5, np.float32), "24 of its values are not whole, such as 0.5.*nearest neighbour"),
        (np.array([[[1.0, np.nan, np.inf]]], np.float32), "2 of its values are not whole"),
        (np.full((2, 3, 4), -1, np.int16), "ids run from -1"),
        (np.full((2, 3, 4), 70000, np.int32), "to 70000, allowed are 0 to 65535"),
        (np.full((2, 3, 4), 1e30, np.float64), "allowed are 0 to 65535"),
        (np.zeros((2, 3, 4), np.complex64), "complex"),
    ],
)
def test_values_that_are_no_ids_are_named(tmp_path: Path, voxels: np.ndarray, words: str) -> None:
    with pytest.raises(VolumeError, match=f"case.nii: .*{words}"):
        open_label_file(save(tmp_path / "case.nii", voxels)).read()


def test_no_such_file_another_format_and_no_nifti_at_all(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no label map"):
        open_label_file(tmp_path / "case.nii")
    (tmp_path / "case.nrrd").write_bytes(b"NRRD0004\n")
    with pytest.raises(VolumeError, match=r"\.nii.*SimpleITK\.WriteImage"):
        open_label_file(tmp_path / "case.nrrd")
    for junk in (b"not a picture" * 100, gzip.compress(b"neither" * 500)):
        (tmp_path / "case.nii").write_bytes(junk)
        with pytest.raises(VolumeError, match="not NIfTI"):
            open_label_file(tmp_path / "case.nii")


def test_a_sheared_grid_has_its_directions_and_others_have_none(tmp_path: Path) -> None:
    tilted = np.diag([0.5, 1.0, 3.0, 1.0])
    tilted[1, 2] = 4.0  # each slice lies 4 mm further to the front
    grid = open_label_file(save(tmp_path / "case.nii", LABELS, tilted)).grid
    assert grid.spacing_mm == pytest.approx((5.0, 1.0, 0.5))
    np.testing.assert_allclose(grid.sheared_directions, [[0, -0.8, 0.6], [0, -1, 0], [-1, 0, 0]], atol=1e-6)
    turn = np.array([[0.8, -0.6, 0, 0], [0.6, 0.8, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    assert open_label_file(save(tmp_path / "case.nii", LABELS, turn @ np.diag([0.5, 1, 3, 1]))).grid.sheared_directions is None


def test_a_grid_without_meaning_is_refused(tmp_path: Path) -> None:
    with pytest.raises(GeometryError, match="'meter', must be mm"):
        open_label_file(save(tmp_path / "case.nii", LABELS, xyzt_units=1))
    nibabel.save(nibabel.Nifti1Image(np.zeros((2, 3, 4, 5), np.uint8), np.eye(4)), tmp_path / "case.nii")
    with pytest.raises(VolumeError, match=r"\(2, 3, 4, 5\).*split it"):
        open_label_file(tmp_path / "case.nii")
    for rows in (bytes(48), np.full(12, np.nan, "<f4").tobytes(), np.full(12, 1, "<f4").tobytes()):
        whole = bytearray(save(tmp_path / "case.nii", LABELS).read_bytes())
        whole[280:328] = rows  # of the sform
        (tmp_path / "case.nii").write_bytes(whole)
        with pytest.raises(GeometryError, match="no grid in space"):
            open_label_file(tmp_path / "case.nii")
    whole = bytearray(save(tmp_path / "case.nii", LABELS).read_bytes())
    whole[123] = 7  # the code of the units, of which NIfTI has none so
    (tmp_path / "case.nii").write_bytes(whole)
    with pytest.raises(VolumeError, match="damaged"):
        open_label_file(tmp_path / "case.nii")
