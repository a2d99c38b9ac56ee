"""Enhanced (multi-frame) CT and MR: order, stacks, times, shared and own functional groups, packing, and frames without a place."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    EnhancedCTImageStorage,
    EnhancedMRImageStorage,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    LegacyConvertedEnhancedCTImageStorage,
    RLELossless,
)

Groups = dict[str, dict[str, Any]]
SHARED: Groups = {
    "PlaneOrientationSequence": {"ImageOrientationPatient": [1, 0, 0, 0, 1, 0]},
    "PixelMeasuresSequence": {"PixelSpacing": [1.0, 0.5], "SliceThickness": 3},
    "PixelValueTransformationSequence": {"RescaleSlope": 1, "RescaleIntercept": -1024, "RescaleType": "HU"},
}


@pytest.fixture
def stored() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 4000, (12, 36, 40)).astype(np.uint16)


def group(groups: Groups) -> Dataset:
    """A functional group: one sequence of one item per macro."""
    item = Dataset()
    for name, elements in groups.items():
        macro = Dataset()
        macro.update(elements)
        setattr(item, name, [macro])
    return item


def at(z: float, **content: Any) -> Groups:
    return {"PlanePositionSequence": {"ImagePositionPatient": [10, -20, z]}, "FrameContentSequence": content or {"StackID": "1"}}


def write_enhanced(
    path: Path,
    stored: np.ndarray,
    frames: list[Groups],
    *,
    shared: Groups = SHARED,
    sop_class: str = EnhancedCTImageStorage,
    syntax: str = "",
) -> Path:
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.SOPClassUID, data.SOPInstanceUID, data.StudyInstanceUID, data.SeriesInstanceUID = sop_class, "1.2.3.4", "1.2", "1.2.3"
    data.Modality = "MR" if sop_class == EnhancedMRImageStorage else "CT"
    data.ImageType, data.InstanceNumber, data.NumberOfFrames = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"], 1, len(stored)
    data.Rows, data.Columns = stored.shape[1:]
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 12, 11, 0
    data.SharedFunctionalGroupsSequence = [group(shared)]
    data.PerFrameFunctionalGroupsSequence = [group(frame) for frame in frames]
    data.PixelData = stored.tobytes()
    if syntax:
        data.compress(syntax, generate_instance_uid=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    data.save_as(path, enforce_file_format=True)
    return path


@pytest.mark.parametrize("syntax", ["", RLELossless, JPEG2000Lossless, JPEGLSLossless])
@pytest.mark.parametrize("sop_class", [EnhancedCTImageStorage, EnhancedMRImageStorage, LegacyConvertedEnhancedCTImageStorage])
def test_frames_are_slices_as_simpleitk_stacks_them(
    tmp_path: Path, stored: np.ndarray, ingest_all: Callable[..., Any], syntax: str, sop_class: str
) -> None:
    path = write_enhanced(tmp_path / "in/IM1", stored, [at(30 + 3 * i) for i in range(12)], sop_class=sop_class, syntax=syntax)
    [outcome], dataset = ingest_all(tmp_path / "in", modality="mr" if sop_class == EnhancedMRImageStorage else "ct")
    assert (outcome.reason, outcome.notes) == ("", ())
    volume, image = dataset.read("in"), sitk.ReadImage(str(path), imageIO="GDCMImageIO")
    np.testing.assert_array_equal(volume.image[0], stored.astype(np.int32) - 1024)
    np.testing.assert_array_equal(volume.image[0], sitk.GetArrayFromImage(image))
    np.testing.assert_allclose(volume.info.spacing_mm, image.GetSpacing()[::-1])
    np.testing.assert_allclose(volume.info.affine[:3, 3], image.GetOrigin())


@pytest.mark.parametrize("order", [range(11, -1, -1), [(5 * i) % 12 for i in range(12)]])
def test_frames_in_any_order_lie_where_their_positions_say(
    tmp_path: Path, stored: np.ndarray, ingest_all: Callable[..., Any], order: list[int]
) -> None:
    write_enhanced(tmp_path / "in/IM1", stored, [at(30 + 3 * place) for place in order])
    [outcome], dataset = ingest_all(tmp_path / "in")
    assert outcome.reason == ""
    for frame, place in enumerate(order):
        np.testing.assert_array_equal(dataset.read("in").image[0, place], stored[frame].astype(np.int32) - 1024)


def times(index: int) -> Groups:
    return at(3 * (index // 2), TemporalPositionIndex=1 + index % 2, StackID="1")


def echoes(index: int) -> Groups:
    return at(3 * (index // 2)) | {"MREchoSequence": {"EffectiveEchoTime": (2.3, 4.6)[index % 2]}}


def b_values(index: int) -> Groups:
    return at(3 * (index // 2)) | {"MRDiffusionSequence": {"DiffusionBValue": (0.0, 1000.0)[index % 2]}}


def types(index: int) -> Groups:
    return at(3 * (index // 2)) | {
        "MRImageFrameTypeSequence": {"FrameType": ["ORIGINAL", "PRIMARY", "M", ("IN_PHASE", "WATER")[index % 2]]}
    }


def acquisitions(index: int) -> Groups:
    return at(3 * (index // 2), FrameAcquisitionNumber=1 + index % 2)


def stacks(index: int) -> Groups:
    return at(3 * (index // 2), StackID=str(1 + index % 2))


def kernels(index: int) -> Groups:
    return at(3 * (index // 2)) | {"CTReconstructionSequence": {"ConvolutionKernel": ("B30f", "B70f")[index % 2]}}


def orientations(index: int) -> Groups:
    turned = [[1, 0, 0, 0, 1, 0], [0, 1, 0, 0, 0, -1]][index % 2]
    place = [10, -20, 3 * (index // 2)] if index % 2 == 0 else [3 * (index // 2), 0, 0]
    return {"PlaneOrientationSequence": {"ImageOrientationPatient": turned}, "PlanePositionSequence": {"ImagePositionPatient": place}}


@pytest.mark.parametrize("of_frame", [times, echoes, b_values, types, acquisitions, stacks, kernels, orientations])
def test_two_volumes_in_a_file_are_parted(
    tmp_path: Path, stored: np.ndarray, ingest_all: Callable[..., Any], of_frame: Callable[[int], Groups]
) -> None:
    shared = SHARED if of_frame is not orientations else {key: value for key, value in SHARED.items() if "Plane" not in key}
    write_enhanced(tmp_path / "in/IM1", stored, [of_frame(index) for index in range(12)], shared=shared)
    outcomes, dataset = ingest_all(tmp_path / "in")
    assert [outcome.reason for outcome in outcomes] == ["", ""]
    for half, outcome in enumerate(outcomes):
        got = dataset.read(outcome.id).image[0]
        values = stored[half::2].astype(np.int32) - 1024
        if of_frame is orientations and half == 1:
            assert (np.sort(got, axis=None) == np.sort(values, axis=None)).all()
        else:
            np.testing.assert_array_equal(got, values)


def test_every_frame_has_its_own_rescaling(tmp_path: Path, stored: np.ndarray, ingest_all: Callable[..., Any]) -> None:
    slopes, intercepts = np.linspace(0.5, 3.25, 12), np.arange(12) * -10.0
    frames = [
        at(3 * i) | {"PixelValueTransformationSequence": {"RescaleSlope": slopes[i], "RescaleIntercept": intercepts[i]}} for i in range(12)
    ]
    write_enhanced(tmp_path / "in/IM1", stored, frames)
    [outcome], dataset = ingest_all(tmp_path / "in")
    assert outcome.reason == ""
    expected = stored * slopes[:, None, None] + intercepts[:, None, None]
    np.testing.assert_array_equal(dataset.read("in").image[0], expected.astype(np.float32))


def test_several_files_of_frames_make_one_volume(tmp_path: Path, stored: np.ndarray, ingest_all: Callable[..., Any]) -> None:
    for part in range(3):
        path = write_enhanced(tmp_path / f"in/IM{part}", stored[part::3], [at(9 * i + 3 * part) for i in range(4)])
        data = pydicom.dcmread(path)
        data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = f"1.2.3.{part}"
        data.save_as(path)
    [outcome], dataset = ingest_all(tmp_path / "in")
    assert outcome.reason == ""
    np.testing.assert_array_equal(dataset.read("in").image[0], stored.astype(np.int32) - 1024)


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda frames: frames.pop(), "1 of 1 slices (instance 1 first) carry no position"),
        (lambda frames: frames[4].pop("PlanePositionSequence"), "1 of 12 slices (instance 5 first) carry no position"),
        (lambda frames: frames.__setitem__(4, at(15)), "lie in the same place"),
        (lambda frames: frames.__setitem__(11, at(36)), "a slice is missing"),
    ],
)
def test_frames_without_an_even_place_are_refused(
    tmp_path: Path, stored: np.ndarray, ingest_all: Callable[..., Any], harm: Callable[[list[Groups]], Any], message: str
) -> None:
    frames = [at(3 * i) for i in range(12)]
    harm(frames)
    write_enhanced(tmp_path / "in/IM1", stored, frames)
    [outcome], dataset = ingest_all(tmp_path / "in")
    assert dataset is None
    assert message in outcome.reason


def test_a_truncated_file_of_frames_is_refused(tmp_path: Path, stored: np.ndarray, ingest_all: Callable[..., Any]) -> None:
    path = write_enhanced(tmp_path / "in/IM1", stored, [at(3 * i) for i in range(12)])
    data = pydicom.dcmread(path)
    data.PixelData = data.PixelData[:-160]
    data.save_as(path)
    [outcome], _ = ingest_all(tmp_path / "in")
    assert "the header promises 34560 bytes of pixels, the file has 34400" in outcome.reason


@pytest.mark.parametrize("frames", [2, 12, 2_000_000_000])
def test_frames_in_a_file_of_single_slices_are_not_taken_for_one(
    tmp_path: Path, stored: np.ndarray, write_series: Callable[..., Any], ingest_all: Callable[..., Any], frames: int
) -> None:
    def edit(data: Dataset, index: int) -> None:
        data.NumberOfFrames, data.PixelData = frames, data.PixelData * min(frames, 12)

    write_series(tmp_path / "in", stored, edit=edit)
    [outcome], dataset = ingest_all(tmp_path / "in")
    assert dataset is None
    assert "12 of 12 slices (instance 1 first) carry no position" in outcome.reason
