"""Which DICOM files make which volume: series over folders, several acquisitions in one, localizers, copies, and what is no scan."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.tag import Tag
from pydicom.uid import (
    BasicTextSRStorage,
    EncapsulatedPDFStorage,
    ExplicitVRLittleEndian,
    GrayscaleSoftcopyPresentationStateStorage,
    KeyObjectSelectionDocumentStorage,
    MediaStorageDirectoryStorage,
    MRSpectroscopyStorage,
    ParametricMapStorage,
    RawDataStorage,
    RTDoseStorage,
    RTPlanStorage,
    RTStructureSetStorage,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
)

from augserver.ingest import find_sources
from augserver.ingest.readers.dicom_series import sort_series

Edit = Callable[[Dataset, int], None]
LABELS_NOT_READ = "DICOM SEG/RTSTRUCT labels are not read; convert with"


@pytest.fixture
def voxels() -> np.ndarray:
    return np.random.default_rng(0).integers(-1000, 2000, (12, 8, 10)).astype(np.int16)


def by_simpleitk(files: list[Path]) -> sitk.Image:
    """The series as SimpleITK stacks these files, in the order of their heights."""
    files = sorted(files, key=lambda file: float(pydicom.dcmread(file, stop_before_pixels=True).ImagePositionPatient[2]))
    return sitk.ReadImage([str(file) for file in files], imageIO="GDCMImageIO")


def assert_is(volume: Any, image: sitk.Image) -> None:
    np.testing.assert_array_equal(volume.image[0], sitk.GetArrayFromImage(image))
    np.testing.assert_allclose(volume.info.spacing_mm, image.GetSpacing()[::-1], rtol=1e-6)
    np.testing.assert_allclose(volume.info.affine[:3, 3], image.GetOrigin(), atol=1e-6)


def accounted(found: Any) -> int:
    """Files that a search took or counted."""
    return sum(len(source.files()) for source in found.sources) + sum(found.skipped.values())


@pytest.mark.parametrize(
    ("name", "folder_of"),
    [
        ("blocks", lambda index: f"A{index // 6}"),
        ("interleaved", lambda index: f"A{index % 2}"),
        ("a slice per folder", lambda index: f"{index:02}"),
        ("below each other", lambda index: "." if index < 4 else "B" if index < 8 else "B/C"),
        ("one slice apart", lambda index: "A" if index else "B"),
    ],
)
@pytest.mark.parametrize("named", ["the folder", "its folders"])
def test_a_series_over_folders_is_one_volume(
    tmp_path: Path,
    voxels: np.ndarray,
    write_series: Callable[..., list[Path]],
    ingest_all: Callable[..., Any],
    name: str,
    folder_of: Callable[[int], str],
    named: str,
) -> None:
    moved = []
    for index, file in enumerate(write_series(tmp_path / "in", voxels)):
        moved.append(tmp_path / "in" / folder_of(index) / f"IM{index}")
        moved[-1].parent.mkdir(parents=True, exist_ok=True)
        file.rename(moved[-1])
    paths = [tmp_path / "in"] if named == "the folder" else sorted({file.parent for file in moved})
    [outcome], dataset = ingest_all(*paths)
    assert (outcome.reason, outcome.notes) == ("", ())
    assert_is(dataset.read(outcome.id), by_simpleitk(moved))


def test_patients_who_share_uids_are_volumes_of_their_own(
    tmp_path: Path, voxels: np.ndarray, write_series: Callable[..., Any], ingest_all: Callable[..., Any]
) -> None:
    for name, shift in (("A", 0), ("B", 36)):  # the second one adjoins the first
        place = lambda data, index, shift=shift: setattr(data, "ImagePositionPatient", [0, 0, 3 * index + shift])  # noqa: E731
        write_series(tmp_path / "in" / name, voxels + shift, patient={"PatientID": f"700{shift}"}, edit=place)
    outcomes, dataset = ingest_all(tmp_path / "in")
    assert [(outcome.id, outcome.reason) for outcome in outcomes] == [("A", ""), ("B", "")]
    np.testing.assert_array_equal(dataset.read("B").image[0], voxels + 36)


def overlapping(keyword: str, first: Any, second: Any, *, offset_mm: float = 0.0, **header: Any) -> Edit:
    """Twelve slices as two overlapping acquisitions of six, 3 mm apart, told apart by one element of the header."""

    def edit(data: Dataset, index: int) -> None:
        which, place = divmod(index, 6)
        setattr(data, keyword, (first, second)[which])
        data.ImagePositionPatient = [10, -20, 3 * place + which * offset_mm]
        for key, value in header.items():
            setattr(data, key, value)

    return edit


SEPARATORS = {
    "acquisition number": ("AcquisitionNumber", 1, 2),
    "acquisition time": ("AcquisitionTime", "101010", "101055"),
    "acquisition date and time": ("AcquisitionDateTime", "20200101101010", "20200101101055"),
    "content time": ("ContentTime", "101010", "101055"),
    "temporal position": ("TemporalPositionIdentifier", 1, 2),
    "cardiac phase": ("NominalPercentageOfCardiacPhase", 40, 75),
    "trigger time": ("TriggerTime", 0, 300),
    "echo": ("EchoNumbers", 1, 2),
    "echo time": ("EchoTime", 4.6, 9.2),
    "b value": ("DiffusionBValue", 0.0, 1000.0),
    "kernel": ("ConvolutionKernel", "B30f", "B70f"),
    "kernels": ("ConvolutionKernel", ["I30f", "3"], ["I70f", "3"]),
    "magnitude and phase": ("ImageType", ["ORIGINAL", "PRIMARY", "M"], ["ORIGINAL", "PRIMARY", "P"]),
    "description": ("SeriesDescription", "arterial", "portal venous"),
    "frame of reference": ("FrameOfReferenceUID", "1.2.7", "1.2.8"),
}


@pytest.mark.parametrize("name", SEPARATORS)
@pytest.mark.parametrize("offset_mm", [0.0, 1.5, 1.0, 9.0])  # the same places, an even stack together, an uneven one, half overlapping
def test_acquisitions_that_overlap_in_a_series_are_parted(
    tmp_path: Path, voxels: np.ndarray, write_series: Callable[..., list[Path]], ingest_all: Callable[..., Any], name: str, offset_mm: float
) -> None:
    files = write_series(tmp_path / "in", voxels, edit=overlapping(*SEPARATORS[name], offset_mm=offset_mm, SliceThickness=3))
    outcomes, dataset = ingest_all(tmp_path / "in")
    assert [outcome.reason for outcome in outcomes] == ["", ""]
    assert all(f"part {number} of 2 of its series, parted by" in outcomes[number - 1].notes[0] for number in (1, 2))
    assert SEPARATORS[name][0] in outcomes[0].notes[0]
    for outcome, part in zip(outcomes, (files[:6], files[6:]), strict=True):
        assert_is(dataset.read(outcome.id), by_simpleitk(part))


def test_an_even_stack_scanned_in_turns_is_one_volume(
    tmp_path: Path, voxels: np.ndarray, write_series: Callable[..., list[Path]], ingest_all: Callable[..., Any]
) -> None:
    """MR packages: every other slice has another acquisition number and time, and the thickness says that all of them are one stack."""
    edit = overlapping("AcquisitionNumber", 1, 2, offset_mm=1.5, SliceThickness=1.5)
    files = write_series(tmp_path / "in", voxels, edit=edit)
    [outcome], dataset = ingest_all(tmp_path / "in")
    assert outcome.reason == ""
    assert_is(dataset.read("in"), by_simpleitk(files))


@pytest.mark.parametrize(("keyword", "kind"), [("AcquisitionNumber", int), ("AcquisitionTime", str), ("ContentTime", str)])
def test_acquisitions_that_adjoin_are_one_volume(
    tmp_path: Path, voxels: np.ndarray, write_series: Callable[..., Any], ingest_all: Callable[..., Any], keyword: str, kind: type
) -> None:
    write_series(tmp_path / "in", voxels, edit=lambda data, index: setattr(data, keyword, kind(100000 + index // 6)))
    [outcome], dataset = ingest_all(tmp_path / "in")
    assert outcome.reason == ""
    np.testing.assert_array_equal(dataset.read("in").image[0], voxels)


def test_phases_times_echoes_are_parted_by_two_traits(
    tmp_path: Path, voxels: np.ndarray, write_series: Callable[..., Any], ingest_all: Callable[..., Any]
) -> None:
    def edit(data: Dataset, index: int) -> None:
        data.EchoTime, data.TemporalPositionIdentifier = (4, 8)[index // 3 % 2], index // 6
        data.ImagePositionPatient = [0, 0, 3 * (index % 3)]

    write_series(tmp_path / "in", voxels, edit=edit)
    outcomes, dataset = ingest_all(tmp_path / "in")
    assert [outcome.reason for outcome in outcomes] == [""] * 4
    for index, outcome in enumerate(outcomes):
        np.testing.assert_array_equal(dataset.read(outcome.id).image[0], voxels[3 * index : 3 * index + 3])


@pytest.mark.parametrize(
    ("edit", "gone", "kept", "message"),
    [
        (overlapping("AcquisitionNumber", 1, 2), [9], slice(0, 6), "a slice is missing"),
        (lambda data, index: monitored(data, index), [], slice(2, 12), "has 2 slice(s), too few for a volume"),
    ],
    ids=["the second lacks a slice", "two slices before the scan"],
)
def test_an_acquisition_that_is_no_stack_does_not_spoil_the_other(
    tmp_path: Path,
    voxels: np.ndarray,
    write_series: Callable[..., list[Path]],
    ingest_all: Callable[..., Any],
    edit: Edit,
    gone: list[int],
    kept: slice,
    message: str,
) -> None:
    files = write_series(tmp_path / "in", voxels, edit=edit)
    for index in gone:
        files[index].unlink()
    outcomes, dataset = ingest_all(tmp_path / "in")
    [taken], [refused] = ([outcome for outcome in outcomes if bool(outcome.reason) == wrong] for wrong in (False, True))
    np.testing.assert_array_equal(dataset.read(taken.id).image[0], voxels[kept])
    assert "of 2 of its series, parted by AcquisitionNumber" in taken.notes[0]
    assert message in refused.reason


def monitored(data: Dataset, index: int) -> None:
    """Two slices in one place, by which contrast is watched, and then the scan."""
    data.AcquisitionNumber = 1 if index < 2 else 2
    data.ImagePositionPatient = [10, -20, 9 + 3 * index] if index < 2 else [10, -20, 3 * (index - 2)]


def test_an_overlap_that_nothing_explains_is_refused(
    tmp_path: Path, voxels: np.ndarray, write_series: Callable[..., Any], ingest_all: Callable[..., Any]
) -> None:
    write_series(tmp_path / "in", voxels, edit=overlapping("AcquisitionNumber", 1, 1))
    [outcome], dataset = ingest_all(tmp_path / "in")
    assert dataset is None
    assert "lie in the same place: not a volume, or several in one series; part the series by time or echo" in outcome.reason


def test_a_missing_slice_does_not_part_a_series_at_its_gap(
    tmp_path: Path, voxels: np.ndarray, write_series: Callable[..., Any], ingest_all: Callable[..., Any]
) -> None:
    files = write_series(tmp_path / "in", voxels, edit=lambda data, index: setattr(data, "AcquisitionNumber", index // 4))
    files[4].unlink()
    [outcome], _ = ingest_all(tmp_path / "in")
    assert "a slice is missing" in outcome.reason


def localizer(data: Dataset, index: int) -> None:
    if index == 11:
        data.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
        data.ImageOrientationPatient, data.Rows, data.Columns = [0, 1, 0, 0, 0, -1], 10, 8


def coronal(data: Dataset, index: int) -> None:
    if index in (0, 11):
        data.ImageOrientationPatient = [1, 0, 0, 0, 0, -1]


def capture(data: Dataset, index: int) -> None:
    if index == 0:
        data.ImageType = ["DERIVED", "SECONDARY"]
        del data.ImagePositionPatient, data.ImageOrientationPatient


def screenshot(data: Dataset, index: int) -> None:
    if index == 0:
        data.SOPClassUID = SecondaryCaptureImageStorage
        del data.ImagePositionPatient, data.ImageOrientationPatient, data.PixelSpacing


@pytest.mark.parametrize(
    ("edit", "kept", "note", "kind"),
    [
        (localizer, slice(0, 11), "1 of 12 slices left out: localizers", "DICOM localizer"),
        (coronal, slice(1, 11), "2 of 12 slices left out: their orientation is not that of the others", "DICOM localizer"),
        (capture, slice(1, 12), "1 of 12 slices left out: captures without a place in the patient", "DICOM capture without a place"),
        (screenshot, slice(1, 12), None, "DICOM without image"),
    ],
)
def test_what_is_no_slice_of_the_stack_is_left_out_and_counted(
    tmp_path: Path,
    voxels: np.ndarray,
    write_series: Callable[..., Any],
    ingest_all: Callable[..., Any],
    edit: Edit,
    kept: slice,
    note: str | None,
    kind: str,
) -> None:
    write_series(tmp_path / "in", voxels, edit=edit)
    [outcome], dataset = ingest_all(tmp_path / "in")
    assert outcome.reason == ""
    assert outcome.notes == (() if note is None else (note,))
    np.testing.assert_array_equal(dataset.read("in").image[0], voxels[kept])
    found = find_sources([tmp_path / "in"])
    assert found.skipped == {kind: 12 - len(voxels[kept])}
    assert accounted(found) == 12


def test_stacks_of_two_orientations_in_a_series_are_two_volumes(
    tmp_path: Path, voxels: np.ndarray, write_series: Callable[..., Any], ingest_all: Callable[..., Any]
) -> None:
    def edit(data: Dataset, index: int) -> None:
        if index >= 7:
            data.ImageOrientationPatient, data.ImagePositionPatient = [0, 1, 0, 0, 0, -1], [5 * index, -20, 30]

    write_series(tmp_path / "in", voxels, edit=edit)
    outcomes, _ = ingest_all(tmp_path / "in")
    assert [outcome.reason for outcome in outcomes] == ["", ""]
    assert sorted(outcome.info.spacing_mm for outcome in outcomes) == [(1.0, 0.5, 5.0), (3.0, 1.0, 0.5)]


def copy_slice(folder: Path) -> int:
    shutil.copy(folder / "slice004.dcm", folder / "slice004 (1).dcm")
    return 1


def copy_slice_into_a_folder(folder: Path) -> int:
    (folder / "again").mkdir()
    shutil.copy(folder / "slice004.dcm", folder / "again/slice004.dcm")
    return 1


def copy_folder(folder: Path) -> int:
    shutil.copytree(folder, folder / "copy")
    return 12


def copy_half_of_the_folder_in_another_packing(folder: Path) -> int:
    (folder / "copy").mkdir()
    for index in range(6):
        data = pydicom.dcmread(folder / f"slice{index:03}.dcm")
        data.InstanceCreationTime = "101010"
        data.save_as(folder / f"copy/{index}")
    return 6


def copy_slice_under_a_new_uid(folder: Path) -> int:
    data = pydicom.dcmread(folder / "slice004.dcm")
    data.SOPInstanceUID = "1.2.3.99"
    data.save_as(folder / "again.dcm")
    return 1


@pytest.mark.parametrize(
    "copy",
    [copy_slice, copy_slice_into_a_folder, copy_folder, copy_half_of_the_folder_in_another_packing, copy_slice_under_a_new_uid],
)
def test_copies_of_slices_and_folders_are_left_out_with_a_line(
    tmp_path: Path, voxels: np.ndarray, write_series: Callable[..., Any], ingest_all: Callable[..., Any], copy: Callable[[Path], int]
) -> None:
    write_series(tmp_path / "in", voxels)
    count = copy(tmp_path / "in")
    [outcome], dataset = ingest_all(tmp_path / "in")
    assert outcome.reason == ""
    assert f"{count} of {12 + count} slices left out: " in outcome.notes[0]
    np.testing.assert_array_equal(dataset.read("in").image[0], voxels)
    found = find_sources([tmp_path / "in"])
    assert found.skipped == {"exact copy of a DICOM slice": count}
    assert accounted(found) == 12 + count


def test_a_series_uid_per_slice_is_one_volume_and_told(
    tmp_path: Path, voxels: np.ndarray, write_series: Callable[..., Any], ingest_all: Callable[..., Any]
) -> None:
    write_series(tmp_path / "in", voxels, edit=lambda data, index: setattr(data, "SeriesInstanceUID", f"1.2.{index + 1}"))
    [outcome], dataset = ingest_all(tmp_path / "in")
    assert outcome.notes == ("joined from 12 series of one slice each",)
    np.testing.assert_array_equal(dataset.read("in").image[0], voxels)


def test_a_series_uid_per_slice_is_joined_over_folders_of_one_frame_of_reference(
    tmp_path: Path, voxels: np.ndarray, write_series: Callable[..., list[Path]], ingest_all: Callable[..., Any]
) -> None:
    def edit(data: Dataset, index: int) -> None:
        data.SeriesInstanceUID, data.FrameOfReferenceUID = f"1.2.{index + 1}", "1.2.77"

    for index, file in enumerate(write_series(tmp_path / "in/A", voxels, edit=edit)):
        if index >= 6:
            (tmp_path / "in/B").mkdir(exist_ok=True)
            file.rename(tmp_path / "in/B" / file.name)
    [outcome], dataset = ingest_all(tmp_path / "in")
    assert outcome.notes == ("joined from 12 series of one slice each",)
    np.testing.assert_array_equal(dataset.read("in").image[0], voxels)


def not_numbers(data: Dataset, index: int) -> None:
    for keyword in ("InstanceNumber", "AcquisitionNumber", "SeriesNumber", "EchoTime"):
        data[keyword] = DataElement(Tag(keyword), "LO", "1A")


@pytest.mark.parametrize(
    "edit",
    [
        lambda data, index: delattr(data, "InstanceNumber"),
        not_numbers,
        lambda data, index: setattr(data, "InstanceNumber", 1),
        lambda data, index: setattr(data, "InstanceNumber", 100 - index),
        lambda data, index: delattr(data, "SeriesInstanceUID"),
        lambda data, index: setattr(data, "SOPInstanceUID", "1.2"),
        lambda data, index: setattr(data, "FrameOfReferenceUID", f"1.2.{index}"),
        lambda data, index: setattr(data, "FrameOfReferenceUID", "1.2.7" if index < 6 else ""),
        lambda data, index: setattr(data, "SOPClassUID", SecondaryCaptureImageStorage),
        lambda data, index: setattr(data, "StudyInstanceUID", "1.2"),
        lambda data, index: setattr(data, "SeriesNumber", index),
    ],
)
def test_numbers_and_uids_that_are_missing_or_odd_change_nothing(
    tmp_path: Path, voxels: np.ndarray, write_series: Callable[..., Any], ingest_all: Callable[..., Any], edit: Edit
) -> None:
    write_series(tmp_path / "in", voxels, edit=edit)
    [outcome], dataset = ingest_all(tmp_path / "in")
    assert (outcome.reason, outcome.notes) == ("", ())
    np.testing.assert_array_equal(dataset.read("in").image[0], voxels)


NO_IMAGES = {
    "structure set": RTStructureSetStorage,
    "plan": RTPlanStorage,
    "spectroscopy": MRSpectroscopyStorage,
    "report": BasicTextSRStorage,
    "presentation state": GrayscaleSoftcopyPresentationStateStorage,
    "key objects": KeyObjectSelectionDocumentStorage,
    "PDF": EncapsulatedPDFStorage,
    "raw data": RawDataStorage,
    "directory": MediaStorageDirectoryStorage,
    "dose": RTDoseStorage,
    "segmentation": SegmentationStorage,
    "parametric map": ParametricMapStorage,
    "capture": SecondaryCaptureImageStorage,
    "private class": "1.2.840.10008.5.1.4.1.1.2.99",
    "longer than CT": "1.2.840.10008.5.1.4.1.1.20",
}
WITH_PIXELS = ("dose", "segmentation", "parametric map", "capture")


@pytest.mark.parametrize(
    ("name", "harm"),
    # A damaged file of an unknown kind may be a slice.
    [(name, "whole") for name in NO_IMAGES] + [(name, "cut") for name in NO_IMAGES if name not in ("private class", "longer than CT")],
)
def test_dicom_files_that_are_no_scans_are_counted_beside_a_ct(
    tmp_path: Path, voxels: np.ndarray, write_series: Callable[..., list[Path]], ingest_all: Callable[..., Any], name: str, harm: str
) -> None:
    files = write_series(tmp_path / "in", voxels)
    data = pydicom.dcmread(files[0]) if name in WITH_PIXELS else Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.SOPClassUID, data.SOPInstanceUID = NO_IMAGES[name], "1.2.9"
    data.Rows, data.Columns, data.Modality = 8, 10, "OT"  # spectroscopy has rows and columns, and no pixels
    if name == "capture":
        del data.ImagePositionPatient, data.ImageOrientationPatient
    other = tmp_path / "in/other"
    data.save_as(other, enforce_file_format=True)
    if harm == "cut":
        other.write_bytes(other.read_bytes()[:-7] if name not in WITH_PIXELS else other.read_bytes()[:500])
    [outcome], dataset = ingest_all(tmp_path / "in")
    assert outcome.reason == ""
    np.testing.assert_array_equal(dataset.read("in").image[0], voxels)
    found = find_sources([tmp_path / "in"])
    assert found.skipped == {"DICOM without image": 1}
    assert accounted(found) == 13
    assert any(LABELS_NOT_READ in notice for notice in found.notices) == (name in ("structure set", "segmentation"))


def test_files_without_preamble_and_suffix_are_slices(
    tmp_path: Path, voxels: np.ndarray, write_series: Callable[..., list[Path]], ingest_all: Callable[..., Any]
) -> None:
    for index, file in enumerate(write_series(tmp_path / "in", voxels)):
        data = pydicom.dcmread(file)
        del data.file_meta
        data.save_as(file.with_suffix(""), implicit_vr=index % 2 == 0, little_endian=True, enforce_file_format=False)
        file.unlink()
    (tmp_path / "in/.hidden").write_bytes(b"\x08\0\x05\0CS\x02\0  \x08\0\x16\0UI\x02\0  ")
    (tmp_path / "in/noise").write_bytes(bytes(range(256)))
    [outcome], dataset = ingest_all(tmp_path / "in")
    assert outcome.reason == ""
    np.testing.assert_array_equal(dataset.read("in").image[0], voxels)
    assert find_sources([tmp_path / "in"]).skipped == {"no suffix": 1}


def test_a_broken_slice_spoils_only_the_series_of_its_folder(
    tmp_path: Path, voxels: np.ndarray, write_series: Callable[..., list[Path]], ingest_all: Callable[..., Any]
) -> None:
    write_series(tmp_path / "in/good", voxels)
    files = write_series(tmp_path / "in/bad", voxels, series="1.2.5")
    files[3].write_bytes(files[3].read_bytes()[:300])
    outcomes, _ = ingest_all(tmp_path / "in")
    assert [bool(outcome.reason) for outcome in outcomes] == [True, False]
    assert "1 of 12 DICOM files of this folder cannot be read or lack their pixels, number 4 by name first" in outcomes[0].reason
    assert sum(map(len, sort_series(sorted((tmp_path / "in").rglob("*.dcm"))).broken.values())) == 1


def test_the_cases_of_the_shared_folder(shared_cases: Path, ingest_all: Callable[..., Any]) -> None:
    for name in ("blocks", "interleaved"):
        [outcome], dataset = ingest_all(shared_cases / "series_split_over_folders/input" / name, out=f"{name}.zarr")
        assert (outcome.info.shape, outcome.info.spacing_mm[0]) == ((1, 12, 40, 48), 3.0)
        files = [file for file in (shared_cases / "series_split_over_folders/input" / name).rglob("*") if file.is_file()]
        assert_is(dataset.read(outcome.id), by_simpleitk(files))
    for name in ("rtstruct", "rtplan", "own_folder"):
        [outcome], dataset = ingest_all(shared_cases / "rt_objects_in_ct_folder/input" / name, out=f"{name}.zarr")
        assert dataset.read(outcome.id).image.sum(dtype=np.int64) == -7521777
