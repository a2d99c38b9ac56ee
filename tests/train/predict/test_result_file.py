"""What is written is read by others as it was meant."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK
from augclient.errors import StateError
from augtrain.label_map import Grid, open_label_file
from augtrain.predict.result_file import write_label, write_probabilities

CLASSES = {0: "background", 1: "Leber & Milz", 7: "os <sacrum>"}
LABEL = np.random.default_rng(2).choice([0, 1, 7], (3, 5, 4)).astype(np.uint8)


def grid(shear: float = 0.0) -> Grid:
    """Oblique, axes of different steps."""
    turn = np.reshape(SimpleITK.Euler3DTransform((0, 0, 0), 0.2, -0.3, 0.5).GetMatrix(), (3, 3))
    affine = np.eye(4)
    affine[:3, :3] = (turn * [0.7, 1.3, 4.0])[:, ::-1]
    affine[:3, 0] += shear * affine[:3, 1]
    affine[:3, 3] = [10.0, -20.0, 30.0]
    return Grid((3, 5, 4), affine)


def test_simpleitk_sees_each_voxel_where_it_lies(tmp_path: Path) -> None:
    write_label(tmp_path / "a.nii.gz", LABEL, grid(), CLASSES)
    image = SimpleITK.ReadImage(str(tmp_path / "a.nii.gz"))
    np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(image), LABEL)
    for voxel in ((0, 0, 0), (2, 0, 0), (0, 4, 0), (1, 2, 3)):
        place = grid().affine @ [*voxel, 1]
        np.testing.assert_allclose(image.TransformIndexToPhysicalPoint(voxel[::-1]), place[:3], atol=1e-4)


def test_the_shear_of_a_grid_is_kept(tmp_path: Path) -> None:
    write_label(tmp_path / "a.nii.gz", LABEL, grid(0.4), CLASSES)
    image = nibabel.load(tmp_path / "a.nii.gz")
    assert (int(image.header["qform_code"]), int(image.header["sform_code"])) == (0, 1)
    np.testing.assert_allclose(np.diag([-1, -1, 1, 1]) @ image.affine @ np.eye(4)[[2, 1, 0, 3]], grid(0.4).affine, atol=1e-5)


def test_names_of_classes_come_back_whatever_their_letters(tmp_path: Path) -> None:
    write_label(tmp_path / "a.nii.gz", LABEL, grid(), CLASSES)
    file = open_label_file(tmp_path / "a.nii.gz")
    assert file.classes == CLASSES
    np.testing.assert_array_equal(file.read(), LABEL)


def test_probabilities_are_numbers_from_0_to_1(tmp_path: Path) -> None:
    shares = np.random.default_rng(1).integers(0, 256, (2, 3, 5, 4)).astype(np.uint8)
    write_probabilities(tmp_path / "a.nii.gz", shares, grid(), CLASSES)
    image = nibabel.load(tmp_path / "a.nii.gz")
    np.testing.assert_allclose(image.get_fdata().T, shares / 255, atol=1e-6)


def test_a_result_that_cannot_be_written_leaves_the_former_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_label(tmp_path / "a.nii.gz", LABEL, grid(), CLASSES)

    def full(self: object, path: Path) -> None:
        Path(path).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(nibabel.Nifti1Image, "to_filename", full)
    with pytest.raises(StateError, match="No space left"):
        write_label(tmp_path / "a.nii.gz", 1 - LABEL, grid(), CLASSES)
    assert [file.name for file in tmp_path.iterdir()] == ["a.nii.gz"]
    np.testing.assert_array_equal(open_label_file(tmp_path / "a.nii.gz").read(), LABEL)
