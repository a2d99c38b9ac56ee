"""Positions, orientations and spacings of DICOM slices as tools write them: even within rounding, or refused if a slice is missing."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from pydicom.dataset import Dataset
from pydicom.uid import MRImageStorage

from augserver.errors import VolumeError
from augserver.ingest.readers.dicom import stack_of
from augserver.ingest.readers.dicom_header import read_header

AXIAL = np.eye(3)
OBLIQUE = np.array([[0.8, 0.36, 0.48], [-0.6, 0.48, 0.64], [0.0, -0.8, 0.6]])  # columns: row, column, normal


@pytest.fixture
def voxels() -> np.ndarray:
    return np.random.default_rng(0).integers(-1000, 2000, (40, 8, 10)).astype(np.int16)


def placed(step_mm: float, digits: int, axes: np.ndarray = AXIAL) -> Callable[..., None]:
    """An edit that places slices along the normal, with positions rounded to some digits."""

    def edit(data: Dataset, index: int) -> None:
        origin = np.array([-101.7, 33.3, -17.3]) + axes[:, 2] * step_mm * index
        data.ImagePositionPatient = [round(float(each), digits) for each in origin]
        data.ImageOrientationPatient = [round(float(each), 6) for each in axes[:, :2].T.ravel()]

    return edit


def simpleitk_affine(files: list[Path]) -> np.ndarray:
    """zyx voxel -> LPS by SimpleITK, of files in the order of their places."""
    image = sitk.ReadImage([str(file) for file in files], imageIO="GDCMImageIO")
    direction = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    return np.column_stack([direction[:, ::-1], image.GetOrigin()])


@pytest.mark.parametrize("step_mm", [0.25, 0.33, 0.5, 0.625, 0.833333, 1.25, 3.27])
@pytest.mark.parametrize("axes", [AXIAL, OBLIQUE], ids=["axial", "oblique"])
@pytest.mark.parametrize("digits", [1, 6])
def test_rounded_positions_are_even_and_a_missing_slice_is_not(
    tmp_path: Path,
    voxels: np.ndarray,
    write_series: Callable[..., list[Path]],
    ingest_all: Callable[..., Any],
    step_mm: float,
    axes: np.ndarray,
    digits: int,
) -> None:
    if digits == 1 and axes is OBLIQUE and step_mm < 0.6:
        step_mm *= 2  # three coordinates rounded to tenths move a slice by up to 0.17 mm: nobody could tell a slice that thin is missing
    files = write_series(tmp_path / "in", voxels, edit=placed(step_mm, digits, axes))
    [outcome], dataset = ingest_all(tmp_path / "in")
    assert outcome.reason == ""
    info = dataset.read("in").info
    np.testing.assert_allclose(sorted(info.spacing_mm), sorted([step_mm, 1.0, 0.5]), atol=0.18 / 39 + 1e-6)
    corners = np.array([[0, 0, 0, 1], [39, 0, 0, 1], [0, 7, 9, 1], [20, 3, 5, 1]])
    true = np.column_stack([axes[:, [2, 1, 0]] * [step_mm, 1.0, 0.5], [-101.7, 33.3, -17.3]])
    places = corners @ true.T
    stored = np.linalg.inv(info.affine) @ np.column_stack([places, np.ones(4)]).T
    np.testing.assert_allclose(stored, np.rint(stored), atol=max(0.2, 0.1 / step_mm))
    slices = [read_header(file)[1][0] for file in files]
    short = (4, 5, 7) if digits > 1 or step_mm >= 0.5 else (8, 11)  # of thinner ones the few gaps may round to even ones
    cases = [(0, 40, 20), (0, 40, 1), (0, 40, 38)] + [(start, count, count // 2) for start in range(29) for count in short]
    for start, count, missing in cases:
        with pytest.raises(VolumeError, match="unevenly spaced"):
            stack_of([each for index, each in enumerate(slices[start : start + count]) if index != missing], name="in")


@pytest.mark.parametrize("digits", [3, 4, 5, 6])
@pytest.mark.parametrize("reverse", [False, True])
def test_orientations_that_are_rounded_keep_their_axes(
    tmp_path: Path,
    voxels: np.ndarray,
    write_series: Callable[..., list[Path]],
    ingest_all: Callable[..., Any],
    digits: int,
    reverse: bool,
) -> None:
    angle = np.radians(11.3)
    turn = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])

    def edit(data: Dataset, index: int) -> None:
        placed(2.0, 4, turn)(data, 39 - index if reverse else index)
        data.ImageOrientationPatient = [round(float(each), digits) for each in turn[:, :2].T.ravel()]

    files = write_series(tmp_path / "in", voxels, edit=edit)
    [outcome], dataset = ingest_all(tmp_path / "in")
    assert outcome.reason == ""
    volume = dataset.read("in")
    expected = simpleitk_affine(files[::-1] if reverse else files)
    np.testing.assert_allclose(volume.info.affine[:3], expected, atol=3 * 10.0**-digits)
    np.testing.assert_array_equal(volume.image[0], voxels[::-1] if reverse else voxels)


@pytest.mark.parametrize(
    "orientation", [(1, 0, 0, 0, 1, 0), (0, 1, 0, 0, 0, -1), (1, 0, 0, 0, 0, -1), (-1, 0, 0, 0, -1, 0), (0, 1, 0, 1, 0, 0)]
)
def test_rows_and_columns_have_their_own_spacing(
    tmp_path: Path,
    voxels: np.ndarray,
    write_series: Callable[..., list[Path]],
    ingest_all: Callable[..., Any],
    orientation: tuple[float, ...],
) -> None:
    normal = np.cross(orientation[:3], orientation[3:])
    files = write_series(tmp_path / "in", voxels, orientation=orientation, step_mm=tuple(4.0 * normal))
    [outcome], dataset = ingest_all(tmp_path / "in")
    assert outcome.reason == ""
    volume, affine = dataset.read("in"), simpleitk_affine(files)
    for place in ((0, 0, 0), (39, 7, 9), (3, 2, 1)):
        index = np.linalg.inv(volume.info.affine) @ [*(affine @ [*place, 1]), 1]
        assert volume.image[(0, *np.rint(index[:3]).astype(int))] == voxels[place]


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda data, index: delattr(data, "ImagePositionPatient"), r"40 of 40 slices .* carry no position, orientation or pixel spacing"),
        (lambda data, index: setattr(data, "ImagePositionPatient", None), "carry no position"),
        (lambda data, index: index == 7 and setattr(data, "ImagePositionPatient", [1, 2]), r"1 of 40 slices \(instance 8 first\) carry no"),
        (lambda data, index: delattr(data, "ImageOrientationPatient"), "carry no position, orientation"),
        (lambda data, index: setattr(data, "ImageOrientationPatient", [0, 0, 0, 0, 0, 0]), "carry no position, orientation"),
        (lambda data, index: delattr(data, "PixelSpacing"), "carry no position, orientation or pixel spacing"),
        (lambda data, index: setattr(data, "PixelSpacing", [0, 0]), "carry no position, orientation or pixel spacing"),
        (lambda data, index: setattr(data, "ImageOrientationPatient", [0.5, 0, 0, 0, 0.5, 0]), "not two unit vectors at a right angle"),
        (lambda data, index: setattr(data, "ImageOrientationPatient", [1, 0, 0, 0.1, 0.995, 0]), "not two unit vectors at a right angle"),
        (lambda data, index: index == 9 and setattr(data, "PixelSpacing", [1.0, 0.6]), r"slice 10 of 40 .* differ in pixel spacing"),
        (lambda data, index: index == 9 and setattr(data, "Columns", 5), r"slice 10 of 40 .* differ in number of pixels, 8 x 5 and 8 x 10"),
        (lambda data, index: index == 9 and setattr(data, "PhotometricInterpretation", "MONOCHROME1"), "differ in kind of pixels"),
        (lambda data, index: setattr(data, "PhotometricInterpretation", "MONOCHROME1"), "its slices are MONOCHROME1"),
        (lambda data, index: data.update({"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB"}), "RGB with 3 values per voxel"),
        (lambda data, index: index > 30 and placed(3.0, 4)(data, 2 * index), "unevenly spaced"),
        (lambda data, index: index == 20 and setattr(data, "ImagePositionPatient", [11, -20, 90]), "1.000 mm off the line of the others"),
        (lambda data, index: index == 20 and setattr(data, "ImagePositionPatient", [10, -20, 93]), "lie in the same place"),
        (lambda data, index: setattr(data, "Modality", "PT"), "is of modality PT, not CT, which is not taken"),
        (lambda data, index: setattr(data, "Modality", "MR"), "is of modality MR, not CT; pass --modality mr"),
        (lambda data, index: setattr(data, "ImageType", ["ORIGINAL", "PRIMARY", "M", "MOSAIC"]), "are mosaics of many slices each"),
    ],
)
def test_geometry_that_is_missing_or_has_no_meaning_is_named(
    tmp_path: Path,
    voxels: np.ndarray,
    write_series: Callable[..., list[Path]],
    ingest_all: Callable[..., Any],
    edit: Callable[[Dataset, int], Any],
    message: str,
) -> None:
    write_series(tmp_path / "in", voxels, edit=edit)
    [outcome], dataset = ingest_all(tmp_path / "in")
    assert dataset is None
    assert re.search(message, outcome.reason), outcome.reason


@pytest.mark.parametrize(
    ("header", "note"),
    [
        ({"SpacingBetweenSlices": 3.0, "SliceThickness": 3.0}, None),
        ({"SpacingBetweenSlices": -3.0}, None),
        ({"SpacingBetweenSlices": 1.5}, "SpacingBetweenSlices says 1.5 mm, positions 3.000 mm: positions are taken"),
        ({"SpacingBetweenSlices": 6.0}, "SpacingBetweenSlices says 6 mm, positions 3.000 mm: positions are taken"),
        ({"SliceThickness": 5.0}, None),  # they overlap
        ({"SliceThickness": 1.0}, "slices are 1 mm thick by SliceThickness and 3.000 mm apart by their positions"),
        ({"SliceThickness": 10.0}, "slices are 10 mm thick by SliceThickness and 3.000 mm apart by their positions"),
        ({"SliceThickness": ""}, None),
        ({"SOPClassUID": MRImageStorage}, "the SOP class says MR, Modality CT: Modality is taken"),
        ({"RescaleType": "HU"}, None),
        ({"RescaleType": "ED"}, "RescaleType is ED, not HU"),
        ({"PixelPaddingValue": 5000}, None),
    ],
)
def test_what_a_header_says_against_the_stack_is_told(
    tmp_path: Path,
    voxels: np.ndarray,
    write_series: Callable[..., list[Path]],
    ingest_all: Callable[..., Any],
    header: dict[str, Any],
    note: str | None,
) -> None:
    write_series(tmp_path / "in", voxels, edit=lambda data, index: [setattr(data, key, value) for key, value in header.items()])
    [outcome], _ = ingest_all(tmp_path / "in")
    assert outcome.reason == ""
    assert outcome.notes == (() if note is None else (note,))
    assert outcome.info.spacing_mm[0] == pytest.approx(3.0)


def test_a_change_of_kernel_or_thickness_within_a_stack_is_told(
    tmp_path: Path, voxels: np.ndarray, write_series: Callable[..., list[Path]], ingest_all: Callable[..., Any]
) -> None:
    def edit(data: Dataset, index: int) -> None:
        data.ConvolutionKernel, data.SliceThickness = ("B30f", 3) if index < 20 else ("B70f", 2)

    write_series(tmp_path / "in", voxels, edit=edit)
    [outcome], _ = ingest_all(tmp_path / "in")
    assert outcome.notes == ("SliceThickness varies, 2 to 3 mm", "its slices are of 2 convolution kernels")


def test_the_shared_case_of_rounded_positions(shared_cases: Path, ingest_all: Callable[..., Any]) -> None:
    outcomes, dataset = ingest_all(shared_cases / "positions_rounded_to_tenths/input")
    assert {outcome.id: outcome.reason for outcome in outcomes} == {"s0625": "", "s0833": "", "s125": ""}
    for outcome, wanted in zip(outcomes, (0.625, 0.833, 1.25), strict=True):
        assert outcome.info.shape == (1, 16, 40, 48)
        files = sorted((shared_cases / "positions_rounded_to_tenths/input" / outcome.id).iterdir())
        heights = sorted(float(pydicom.dcmread(file).ImagePositionPatient[2]) for file in files)
        assert outcome.info.spacing_mm[0] == pytest.approx((heights[-1] - heights[0]) / 15)
        assert outcome.info.spacing_mm[0] == pytest.approx(wanted, abs=0.1 / 15)
        assert dataset.read(outcome.id).image.shape == (1, 16, 40, 48)
