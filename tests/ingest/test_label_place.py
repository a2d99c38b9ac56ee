"""Labels whose header is rounded, turned or lost: where their voxels go, against what was drawn."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import nrrd
import numpy as np
import pytest
import SimpleITK as sitk

SHAPE = (8, 20, 24)  # z, y, x
OBLIQUE = np.array([[0.7 * 0.96, -0.28 * 0.8, 0, -16.4], [0.7 * 0.28, 0.96 * 0.8, 0, 20.6], [0, 0, 3, -31], [0, 0, 0, 1]])  # xyz -> RAS
UPRIGHT = np.diag([0.7, 0.8, 3, 1.0]) + np.array([[0, 0, 0, -16.4], [0, 0, 0, 20.6], [0, 0, 0, -31], [0] * 4])
LPS = np.diag([-1.0, -1, 1, 1])


def drawn() -> np.ndarray:
    """(Z, Y, X) ids without any symmetry."""
    ids = np.zeros(SHAPE, np.uint8)
    ids[1:4, 2:9, 3:11] = 1
    ids[5:7, 12:15, 14:23] = 2
    ids[0, 0, 0] = 3
    return ids


def nifti(path: Path, voxels: np.ndarray, affine: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(voxels.T, affine), path)


@pytest.fixture
def ingest_pair(tmp_path: Path, ingest_all: Callable[..., Any]) -> Callable[..., Any]:
    """ingest_pair(image affine, write_label, **config): outcome and the label, turned back to the order of the image's file."""

    def run(affine: np.ndarray, write_label: Callable[[Path], Any], **config: Any) -> tuple[Any, np.ndarray | None]:
        image = np.random.default_rng(0).integers(-1000, 1000, SHAPE).astype(np.int16)
        nifti(tmp_path / "im/s.nii.gz", image, affine)
        (tmp_path / "lb").mkdir()
        write_label(tmp_path / "lb/s.nii.gz")
        [outcome], dataset = ingest_all(tmp_path / "im", labels=str(tmp_path / "lb"), **config)
        if dataset is None:
            return outcome, None
        volume = dataset.read("s")
        # The image says how ingest turned the file's voxels; the label must have been turned with it.
        for turn in np.ndindex(2, 2, 2):
            axes = [axis for axis in range(3) if turn[axis]]
            if volume.image[0].shape == image.shape and np.array_equal(np.flip(volume.image[0], axes), image):
                return outcome, np.flip(volume.label, axes)
        raise AssertionError("the image itself was not found again")

    return run


def sitk_default(path: Path) -> None:
    sitk.WriteImage(sitk.GetImageFromArray(drawn()), str(path))


def moved(affine: np.ndarray, **steps: float) -> np.ndarray:
    """The affine with its origin moved by voxels along x, y, z, or its columns scaled by sx, sy, sz."""
    matrix = affine.copy()
    for axis, name in enumerate("xyz"):
        matrix[:3, 3] += matrix[:3, axis] * steps.get(name, 0)
    for axis, name in enumerate(("sx", "sy", "sz")):
        matrix[:3, axis] *= steps.get(name, 1)
    return matrix


LOST = {
    "nibabel's identity": lambda affine: np.eye(4),
    "spacing 1": lambda affine: moved(affine, sx=1 / 0.7, sy=1 / 0.8, sz=1 / 3),
    "slice distance 1": lambda affine: moved(affine, sz=1 / 3),
    "slice distance rounded": lambda affine: moved(affine, sz=2.75 / 3),
    "spacing of another scan": lambda affine: moved(affine, sx=1.1, sy=1.1),
    "origin 0": lambda affine: affine * np.array([[1, 1, 1, 0]] * 3 + [[1] * 4]),
    "origin half the volume off": lambda affine: moved(affine, x=12, y=10, z=4),
    "origin one voxel off": lambda affine: moved(affine, z=1),
    "origin three quarters of a voxel off": lambda affine: moved(affine, x=0.75),
    "LPS written as RAS": lambda affine: LPS @ affine,
    "directions lost": lambda affine: np.c_[np.diag([0.7, 0.8, 3, 1])[:, :3], affine[:, 3]],
    "voxel order flipped, header kept": lambda affine: affine @ np.diag([1, -1, 1, 1.0]),
    "spacing reversed": lambda affine: affine @ np.diag([3 / 0.7, 1, 0.7 / 3, 1]),
}  # fmt: skip


@pytest.mark.parametrize("image", [OBLIQUE, LPS @ UPRIGHT], ids=["oblique RAS", "LPS"])
@pytest.mark.parametrize("kind", [*LOST, "SimpleITK's default"])
def test_lost_geometry_is_refused_with_both_grids_and_taken_voxel_for_voxel_on_demand(
    ingest_pair: Callable[..., Any], image: np.ndarray, kind: str, tmp_path: Path
) -> None:
    write = sitk_default if kind == "SimpleITK's default" else lambda path: nifti(path, drawn(), LOST[kind](image))
    outcome, _ = ingest_pair(image, write)
    assert outcome.info is None
    assert "s: label and image have the same number of voxels in different places" in outcome.reason
    assert "the label has 24x20x8 voxels of " in outcome.reason
    assert "the image 24x20x8 voxels of 0.7x0.8x3 mm from (16.4, -20.6, -31) mm, axes" in outcome.reason.replace("-16.4", "16.4").replace(
        "(16.4, 20.6", "(16.4, -20.6"
    )
    assert "pass --labels-by-voxel" in outcome.reason


@pytest.mark.parametrize("image", [OBLIQUE, LPS @ UPRIGHT], ids=["oblique RAS", "LPS"])
@pytest.mark.parametrize("kind", [*LOST, "SimpleITK's default"])
def test_by_voxel_every_lost_geometry_gives_what_was_drawn(ingest_pair: Callable[..., Any], image: np.ndarray, kind: str) -> None:
    write = sitk_default if kind == "SimpleITK's default" else lambda path: nifti(path, drawn(), LOST[kind](image))
    outcome, label = ingest_pair(image, write, labels_by_voxel=True)
    assert outcome.reason == ""
    np.testing.assert_array_equal(label, drawn())
    assert any("LABEL TAKEN VOXEL FOR VOXEL, AGAINST ITS HEADER" in note for note in outcome.notes)


@pytest.mark.parametrize("by_voxel", [False, True])
@pytest.mark.parametrize(
    ("change", "noted"),
    [
        (lambda affine: affine.astype(np.float32).astype(float), False),
        (lambda affine: np.round(affine, 4), False),
        (lambda affine: moved(affine, x=0.01, z=-0.02), False),
        (lambda affine: moved(affine, x=0.3), True),
        (lambda affine: moved(affine, sx=1.01), True),
        (lambda affine: np.round(affine, 1), False),
    ],
    ids=["float32", "four digits", "a hundredth", "a third of a voxel", "spacing 1 % off", "positions to 0.1"],
)
def test_headers_that_differ_by_less_than_half_a_voxel_are_one_grid(
    ingest_pair: Callable[..., Any], change: Callable[..., np.ndarray], noted: bool, by_voxel: bool
) -> None:
    affine = moved(UPRIGHT, z=0.013)
    outcome, label = ingest_pair(affine, lambda path: nifti(path, drawn(), change(affine)), labels_by_voxel=by_voxel)
    np.testing.assert_array_equal(label, drawn())
    told = [note for note in outcome.notes if "label" in note.lower()]
    assert len(told) == int(noted and not by_voxel)
    assert all("less than half of one: taken for the same grid" in note for note in told)


@pytest.mark.parametrize("by_voxel", [False, True])
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0), (0, 2, 1)])
def test_a_label_turned_with_its_header_is_turned_back(ingest_pair: Callable[..., Any], order: tuple[int, ...], by_voxel: bool) -> None:
    label = nibabel.Nifti1Image(drawn().T, OBLIQUE)
    codes = np.array(list("RAS"))[list(order)]
    codes[1] = {"R": "L", "A": "P", "S": "I"}[codes[1]]
    turned = label.as_reoriented(nibabel.orientations.ornt_transform(
        nibabel.io_orientation(OBLIQUE), nibabel.orientations.axcodes2ornt(tuple(codes))
    ))  # fmt: skip
    outcome, got = ingest_pair(OBLIQUE, lambda path: nibabel.save(turned, path), labels_by_voxel=by_voxel)
    if by_voxel and order == (0, 1, 2):  # the voxels of both files, one after the other, whatever the header says; loudly
        np.testing.assert_array_equal(got, drawn()[:, ::-1])
        assert any("AGAINST ITS HEADER" in note for note in outcome.notes)
    else:
        np.testing.assert_array_equal(got, drawn())
        assert any(f"label turned from {''.join(codes)} to the image's RAS" in note for note in outcome.notes)


def test_swapped_axes_without_geometry_are_refused_with_another_way_out(ingest_pair: Callable[..., Any]) -> None:
    outcome, _ = ingest_pair(OBLIQUE, lambda path: nifti(path, drawn().T, OBLIQUE))
    assert "its axes were swapped as well: swap them back" in outcome.reason
    assert "the label has 8x20x24 voxels" in outcome.reason


def test_by_voxel_refuses_a_label_of_other_voxels(ingest_pair: Callable[..., Any]) -> None:
    outcome, _ = ingest_pair(OBLIQUE, lambda path: nifti(path, drawn()[1:], moved(OBLIQUE, z=1)), labels_by_voxel=True)
    assert "cannot be taken voxel for voxel: the label has 24x20x7 voxels" in outcome.reason
    assert "the image 24x20x8" in outcome.reason


def test_a_default_header_with_other_voxels_is_refused(ingest_pair: Callable[..., Any]) -> None:
    label = np.zeros((120, 120, 120), np.uint8)  # covers the image, by chance
    outcome, _ = ingest_pair(moved(UPRIGHT, z=12), lambda path: nifti(path, label, np.eye(4)), min_label_cover=0.0)
    assert "the label's geometry was lost: the label has 120x120x120 voxels of 1x1x1 mm from (0, 0, 0) mm" in outcome.reason


@pytest.mark.parametrize("zoom", [2, 3])
def test_a_label_on_a_finer_grid_of_its_own_is_resampled(ingest_pair: Callable[..., Any], zoom: int) -> None:
    fine = np.kron(drawn(), np.ones((zoom,) * 3, np.uint8))
    affine = OBLIQUE @ np.diag([1 / zoom] * 3 + [1])
    affine[:3, 3] = OBLIQUE[:3, 3] - OBLIQUE[:3, :3] @ np.full(3, 0.5 - 0.5 / zoom)  # the same outline
    outcome, label = ingest_pair(OBLIQUE, lambda path: nifti(path, fine, affine))
    np.testing.assert_array_equal(label, drawn())
    assert any("label carried over from its own grid, which covers 100.0% of the image" in note for note in outcome.notes)


def test_a_cropped_label_is_placed_by_its_header_or_refused_by_its_cover(ingest_pair: Callable[..., Any]) -> None:
    outcome, _ = ingest_pair(OBLIQUE, lambda path: nifti(path, drawn()[1:7], moved(OBLIQUE, z=1)))
    assert "the label's grid covers 75% of the image, at least 95% is needed" in outcome.reason


def test_a_cropped_label_is_placed_where_a_low_cover_is_allowed(ingest_pair: Callable[..., Any]) -> None:
    _, label = ingest_pair(OBLIQUE, lambda path: nifti(path, drawn()[1:7, 2:], moved(OBLIQUE, y=2, z=1)), min_label_cover=0.5)
    expected = drawn()
    expected[0], expected[7], expected[:, :2] = 0, 0, 0
    np.testing.assert_array_equal(label, expected)


def test_classes_that_no_voxel_of_the_volume_has_are_told(ingest_pair: Callable[..., Any]) -> None:
    outcome, _ = ingest_pair(UPRIGHT, lambda path: nifti(path, drawn()[1:], moved(UPRIGHT, z=1)), min_label_cover=0.5)
    assert outcome.notices == ()  # the crop has lost class 3, not we


def test_a_class_of_one_voxel_beyond_the_image_is_told(ingest_pair: Callable[..., Any]) -> None:
    label = np.concatenate([drawn(), np.full((1, *SHAPE[1:]), 9, np.uint8)])
    outcome, got = ingest_pair(UPRIGHT, lambda path: nifti(path, label, UPRIGHT))
    np.testing.assert_array_equal(got, drawn())
    assert outcome.notices == ("classes 9 have voxels in the label, and none in the volume",)


def test_an_image_given_for_a_label_is_doubted(ingest_pair: Callable[..., Any]) -> None:
    outcome, _ = ingest_pair(UPRIGHT, lambda path: nifti(path, np.resize(np.arange(256), SHAPE).astype(np.uint8), UPRIGHT))
    assert outcome.notices == ("its label has 256 different values: is it an image?",)


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd"])
def test_a_label_without_any_geometry_is_taken_voxel_for_voxel_alone(
    tmp_path: Path, ingest_pair: Callable[..., Any], ingest_all: Callable[..., Any], suffix: str
) -> None:
    def write(path: Path) -> None:
        if suffix == ".nii.gz":
            nibabel.save(nibabel.Nifti1Image(drawn().T, None), path)
        else:
            nrrd.write(str(path.with_name("s.nrrd")), drawn().T)

    outcome, _ = ingest_pair(OBLIQUE, write)
    assert outcome.info is None
    assert "if it is a label, pass --labels-by-voxel" in outcome.reason
    [outcome], dataset = ingest_all(tmp_path / "im", labels=str(tmp_path / "lb"), labels_by_voxel=True)
    assert any("AGAINST ITS HEADER" in note for note in outcome.notes)
    np.testing.assert_array_equal(dataset.read("s").label[:, ::-1, ::-1], drawn())


@pytest.mark.parametrize("step", [3.0, -3.0])
def test_a_label_made_from_simpleitks_array_of_a_series_is_taken_voxel_for_voxel(
    tmp_path: Path, write_series: Callable[..., list[Path]], ingest_all: Callable[..., Any], step: float
) -> None:
    image = np.random.default_rng(0).integers(-1000, 1000, SHAPE).astype(np.int16)
    write_series(tmp_path / "ct", image, step_mm=(0.0, 0.0, step))
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(tmp_path / "ct")))
    bright = (sitk.GetArrayFromImage(reader.Execute()) > 500).astype(np.uint8)
    (tmp_path / "lb").mkdir()
    sitk.WriteImage(sitk.GetImageFromArray(bright), str(tmp_path / "lb/ct.nii.gz"))
    [refused], dataset = ingest_all(tmp_path / "ct", labels=str(tmp_path / "lb"))
    assert dataset is None
    assert "pass --labels-by-voxel" in refused.reason
    _, dataset = ingest_all(tmp_path / "ct", labels=str(tmp_path / "lb"), labels_by_voxel=True)
    volume = dataset.read("ct")
    np.testing.assert_array_equal(volume.label, (volume.image[0] > 500).astype(np.uint8))


@pytest.mark.parametrize("spacing_mm", [(3.0, 3.0, 3.0), (1.0, 0.5, 0.5)])
def test_by_voxel_a_label_goes_with_its_image_when_that_is_resampled(
    tmp_path: Path, ingest_all: Callable[..., Any], spacing_mm: tuple[float, float, float]
) -> None:
    image = drawn().astype(np.int16) * 300
    nifti(tmp_path / "im/s.nii.gz", image, OBLIQUE)
    nifti(tmp_path / "right/s.nii.gz", drawn(), OBLIQUE)
    nifti(tmp_path / "lost/s.nii.gz", drawn(), np.eye(4))
    labels = []
    for kind, by_voxel in (("right", False), ("lost", True)):
        settings = {"labels": str(tmp_path / kind), "spacing_mm": spacing_mm, "labels_by_voxel": by_voxel}
        _, dataset = ingest_all(tmp_path / "im", out=f"{kind}.zarr", **settings)
        labels.append(dataset.read("s").label)
    np.testing.assert_array_equal(labels[0], labels[1])
    assert np.unique(labels[1]).size >= 3


@pytest.mark.parametrize("codes", ["LPS", "RAS", "PIR", "ASL"])
def test_a_label_that_is_resampled_does_not_depend_on_how_its_file_turns_the_axes(
    tmp_path: Path, ingest_all: Callable[..., Any], codes: str
) -> None:
    """From 2 mm to 3 mm every other centre lies midway between two voxels of the label."""
    rng = np.random.default_rng(4)
    upright = np.diag([-2.0, -2.0, 2.0, 1.0])  # LPS
    voxels = {"im": rng.integers(-1000, 1000, (9, 12, 14)).astype(np.int16), "lb": rng.integers(0, 4, (9, 12, 14)).astype(np.uint8)}
    labels = []
    for order in ("LPS", codes):
        for name, each in voxels.items():
            image = nibabel.Nifti1Image(each.T, upright)
            turn = nibabel.orientations.ornt_transform(nibabel.io_orientation(upright), nibabel.orientations.axcodes2ornt(order))
            (tmp_path / order / name).mkdir(parents=True, exist_ok=True)
            nibabel.save(image.as_reoriented(turn), tmp_path / order / name / "s.nii.gz")
        [outcome], dataset = ingest_all(
            tmp_path / order / "im", labels=str(tmp_path / order / "lb"), out=f"{order}{len(labels)}.zarr", spacing_mm=(3.0, 3.0, 3.0)
        )
        assert outcome.info is not None, outcome.reason
        labels.append(dataset.read("s").label)
    np.testing.assert_array_equal(*labels)
