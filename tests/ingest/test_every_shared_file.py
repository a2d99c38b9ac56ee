"""The expected end of every tricky file of the shared data: the right volume, or a refusal that names the cause."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from augserver.errors import VolumeError
from augserver.ingest.readers.formats import read_file
from augserver.volume import Volume

TAKEN = ""
NIFTI = {
    "NIFTI-Reader-JS__5D_small.nii": "has 4 axes, 3 long beyond the third: time points or channels; pass --fourth-axis channels",
    "NIFTI-Reader-JS__5D_zeros.nii.gz": "has 4 axes, 3 long beyond the third",
    "NIFTI-Reader-JS__air.hdr.gz": TAKEN,
    "NIFTI-Reader-JS__avg152T1_LR_nifti2.nii.gz": TAKEN,
    "NIFTI-Reader-JS__big.nii.gz": TAKEN,
    "NIFTI-Reader-JS__little.nii.gz": TAKEN,
    "NIFTI-Reader-JS__not-nifti.nii": "is not NIfTI",
    "NIFTI-Reader-JS__with_extension.nii.gz": TAKEN,
    "nibabel__example4d.nii.gz": "has 4 axes, 2 long beyond the third",
    "nibabel__example_nifti2.nii.gz": "has 4 axes, 2 long beyond the third",
    "nibabel__functional.nii": "has 4 axes, 20 long beyond the third",
    "nibabel__resampled_anat_moved.nii": "153 of 1071 voxels are NaN",
    "nifti-rs__3D.nii": "colour or complex",
    "nifti-rs__4D.nii": "colour or complex",
    "nifti-rs__complex32.nii": "has 2 axes",
    "nifti-rs__minimal.nii": "neither qform nor sform is set",
    "nifti-rs__minimal2.hdr": "neither qform nor sform is set",
    "nifti-rs__minimal_extended_hdr.nii": "has 2 axes",
}
PACKED_OR_PARTS = {"nifti-rs__27.zip", "nifti-rs__fuzz_artifacts.zip", "NIFTI-Reader-JS__air.img.gz", "nifti-rs__minimal2.img.gz"}
DICOM = {  # archive/folder -> modality, reason
    "gantrytilting/001": ("ct", TAKEN),
    "generic_compressed": ("mr", TAKEN),
    "generic_compressed_j2k": ("mr", TAKEN),
    "generic_compressed_jpegls": ("mr", TAKEN),
    "generic_compressed_rle": ("mr", TAKEN),
    "notavolume/001": ("ct", r"slice 1 of 4 \(instance 23, at .* mm\) and slice 2 of 4 \(instance 24, at .* mm\) lie in the same place"),
    "slicecount/001": ("mr", r"has 2 slice\(s\), too few for a volume: at least 3"),
    "sliceincrement/001": ("ct", r"between slice 3 of 4 \(instance 9, at 28.11 mm\) and slice 4 of 4 .* are 10.000 mm, usual are 5.000"),
    "sliceincrement/002": ("ct", r"between slice \d of 4 \(instance \d, at .* mm\) and slice \d of 4 .* a slice is missing"),
    "sliceorientation/001": ("mr", r"slice \d of 4 \(instance \d, at .* mm\) and slice 1 of 4 .* differ in orientation"),
}


def assert_right(volume: Volume, original: nibabel.Nifti1Image, points: int = 300) -> None:
    """Stored voxels against nibabel's affine and voxels, interpolated by SciPy: an evaluation of its own."""
    rng = np.random.default_rng(0)
    voxels = np.asarray(original.dataobj, np.float64).squeeze()
    stored = rng.integers(0, volume.image.shape[1:], (points, 3))
    lps = (volume.info.affine @ np.column_stack([stored, np.ones(points)]).T)[:3]
    places = np.linalg.inv(original.affine) @ np.vstack([lps * [[-1], [-1], [1]], np.ones(points)])
    np.testing.assert_allclose(places[:3], np.rint(places[:3]), atol=2e-3)
    expected = map_coordinates(voxels, np.rint(places[:3]), order=0)
    np.testing.assert_allclose(volume.image[0][tuple(stored.T)], expected, rtol=1e-6)


def test_the_tables_name_every_file(shared_data: Path) -> None:
    assert {file.name for file in (shared_data / "tricky_nifti").iterdir()} == NIFTI.keys() | PACKED_OR_PARTS
    assert {file.stem for file in (shared_data / "dicom_failing").glob("*.zip")} == {name.split("/")[0] for name in DICOM}


@pytest.mark.parametrize("name", NIFTI)
def test_tricky_nifti(shared_data: Path, ingest_all: Callable[..., Any], name: str) -> None:
    path = shared_data / "tricky_nifti" / name
    [outcome], dataset = ingest_all(path, modality="mr")
    if NIFTI[name]:
        assert dataset is None
        assert re.search(NIFTI[name], outcome.reason)
    else:
        assert outcome.reason == ""
        assert_right(dataset.read(outcome.id), nibabel.load(path))


@pytest.mark.parametrize(
    ("name", "channels"),
    [("NIFTI-Reader-JS__5D_small.nii", 3), ("NIFTI-Reader-JS__5D_zeros.nii.gz", 3), ("nibabel__example4d.nii.gz", 2)],
)
def test_a_fourth_axis_is_taken_as_channels_where_asked(
    shared_data: Path, ingest_all: Callable[..., Any], name: str, channels: int
) -> None:
    path = shared_data / "tricky_nifti" / name
    [outcome], dataset = ingest_all(path, modality="mr", fourth_axis="channels")
    if "5D" in name and outcome.reason:  # its header has no place in the patient
        assert "neither qform nor sform is set" in outcome.reason
        return
    volume, original = dataset.read(outcome.id), nibabel.load(path)
    assert volume.image.shape[0] == channels
    for channel in range(channels):
        expected = np.asarray(original.dataobj).squeeze()[..., channel]
        np.testing.assert_array_equal(np.sort(volume.image[channel], axis=None), np.sort(expected.astype(np.float32), axis=None))


def test_a_series_of_time_points_is_too_many_channels(shared_data: Path, ingest_all: Callable[..., Any]) -> None:
    [outcome], _ = ingest_all(shared_data / "tricky_nifti/nibabel__functional.nii", modality="mr", fourth_axis="channels")
    assert "has 20 channels, at most 8 are allowed" in outcome.reason


def test_fuzz_artifacts_are_refused_and_every_number_type_is_read(unzip: Callable[[str], Path]) -> None:
    fuzzed = list(unzip("tricky_nifti/nifti-rs__fuzz_artifacts.zip").iterdir())
    typed = list(unzip("tricky_nifti/nifti-rs__27.zip").iterdir())
    assert (len(fuzzed), len(typed)) == (5, 10)
    for file in fuzzed:
        renamed = file.rename(file.with_name(f"{file.name}.nii"))
        with pytest.raises(VolumeError, match=r"\.nii: "):
            read_file(renamed)
    for file in typed:
        np.testing.assert_array_equal(read_file(file).voxels[0], np.asarray(nibabel.load(file).dataobj).T)


@pytest.mark.parametrize("name", DICOM)
def test_failing_dicom(unzip: Callable[[str], Path], ingest_all: Callable[..., Any], name: str) -> None:
    archive, _, part = name.partition("/")
    modality, reason = DICOM[name]
    [outcome], dataset = ingest_all(unzip(f"dicom_failing/{archive}.zip") / part, modality=modality)
    if reason:
        assert dataset is None
        assert re.search(reason, outcome.reason)
        assert ".dcm" not in outcome.reason
    else:
        assert outcome.reason == ""


@pytest.mark.slow
def test_all_48_orders_are_the_same_body(unzip: Callable[[str], Path], ingest_all: Callable[..., Any]) -> None:
    folder = unzip("orientations48/nifti_space.zip")
    outcomes, dataset = ingest_all(folder, modality="mr")
    assert [outcome.reason for outcome in outcomes] == [""] * 48
    for name in dataset.volumes:
        assert_right(dataset.read(name), nibabel.load(next(folder.rglob(f"{name}.nii.gz"))), points=1000)
        assert any(f"axes turned from {name} to LPS" in outcome.notes for outcome in outcomes) or name == "LPS"
