"""Every file of pydicom's own test data ends in the right voxels, against pydicom or SimpleITK, or in a true reason.

They are single slices, nearly all, so that each is tried twice: as it is, and with its pixels in the middle of a CT of three slices.
"""

from __future__ import annotations

import importlib.util
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from pydicom.data import get_testdata_files
from pydicom.pixels.processing import apply_modality_lut
from pydicom.uid import CTImageStorage

from augserver.ingest import find_sources


def own_files() -> list[Path]:
    """What ships with pydicom, and with pydicom-data if that is installed; no file is downloaded."""
    folders = [Path(pydicom.data.__file__).parent / "test_files"]
    more = importlib.util.find_spec("data_store")
    folders += [Path(each) / "data" for each in (more.submodule_search_locations or () if more else ())]
    return sorted(file for folder in folders for file in folder.rglob("*") if file.is_file())


FILES = own_files()
NO_DICOM = re.compile(r"README.*|.*\.(txt|dump|json|gz|icc|py)")
TRUE_REASONS = (
    r"has [12] slice\(s\), too few for a volume",
    r"is of modality (US|CR|NM|unknown), not CT, which is not taken",
    r"1 of 1 slices \(instance 1 first\) carry no position",  # pydicom's enhanced MRs have no functional groups
    r"1 of 1 DICOM files of this folder cannot be read or lack their pixels",
)


def test_there_are_as_many_files_as_pydicom_has() -> None:
    assert {Path(name).name for name in get_testdata_files() if Path(name).is_file()} <= {file.name for file in FILES}
    assert len(FILES) >= 150


@pytest.mark.parametrize("file", FILES, ids=[file.name for file in FILES])
def test_each_file_as_it_is_ends_in_a_true_reason(file: Path) -> None:
    found = find_sources([file])
    if not found.sources:
        [(kind, count)] = found.skipped.items()
        assert count == 1
        if NO_DICOM.fullmatch(file.name):
            assert kind != "DICOM without image"
            return
        assert kind == "DICOM without image"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            header = pydicom.dcmread(file, force=True, stop_before_pixels=True)
        uid = str(header.get("SOPClassUID") or header.file_meta.MediaStorageSOPClassUID)
        assert uid not in ("1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.4")
        return
    [source] = found.sources
    reason = source.problem
    if not reason:
        with pytest.raises(Exception, match=":") as error:
            source.read({"CT": "ct", "MR": "mr"}.get(source.slices[0].modality, "ct"))
        reason = str(error.value)
    assert any(re.search(true, reason) for true in TRUE_REASONS), reason


def readable() -> list[Path]:
    """Files with one value per voxel and one frame."""
    files = []
    for file in FILES:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                header = pydicom.dcmread(
                    file, specific_tags=["SamplesPerPixel", "Rows", "NumberOfFrames", "PixelData", "BitsAllocated"], defer_size=99
                )
                whole = int(header.get("NumberOfFrames") or 1) == 1
            except Exception:
                continue
        if header.get("SamplesPerPixel") == 1 and header.get("Rows") and "PixelData" in header and whole:
            files.append(file)
    return files


READABLE = readable()
REFUSED = {
    r"is packed as JPEG Extended": ("JPEG-lossy.dcm", "JPGExtended.dcm"),
    r"its slices are MONOCHROME1": ("6154", "6247", "6278", "RG1_", "RG3_"),
    r"its slices are PALETTE COLOR": ("OBXXXX1A", "examples_palette", "gdcm-US-ALOKA"),
    r"stores 1 of 1 bits": ("liver_",),
    r"promises 8192 bytes of pixels, the file has 8130": ("MR_truncated.dcm",),
    r"the header says 1024 x 256 pixels, the packed image \(1024, 3722445056\)": ("JPEG2000-embedded-sequence-delimiter.dcm",),
}


@pytest.mark.parametrize("file", READABLE, ids=[file.name for file in READABLE])
def test_the_pixels_of_each_file_are_pydicoms(tmp_path: Path, ingest_all: Callable[..., Any], file: Path) -> None:
    (tmp_path / "in").mkdir()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for index in range(3):
            data = pydicom.dcmread(file, force=True)
            data.SOPClassUID, data.Modality, data.SOPInstanceUID = CTImageStorage, "CT", f"1.2.3.{index}"
            data.StudyInstanceUID, data.SeriesInstanceUID, data.InstanceNumber = "1.2", "1.2.3", index + 1
            data.ImageOrientationPatient, data.ImagePositionPatient, data.PixelSpacing = [1, 0, 0, 0, 1, 0], [0, 0, 2 * index], [1, 1]
            data.file_meta.MediaStorageSOPClassUID, data.file_meta.MediaStorageSOPInstanceUID = CTImageStorage, data.SOPInstanceUID
            data.save_as(tmp_path / f"in/{index}.dcm")
        [outcome], dataset = ingest_all(tmp_path / "in")
        for message, names in REFUSED.items():
            if any(file.name.startswith(name) for name in names):
                assert re.search(message, outcome.reason), outcome.reason
                return
        assert outcome.reason == ""
        data = pydicom.dcmread(tmp_path / "in/0.dcm")
        try:
            expected = apply_modality_lut(data.pixel_array, data)
        except RuntimeError:  # pydicom has no decoder here
            expected = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "in/0.dcm"), imageIO="GDCMImageIO"))[0]
    for plane in dataset.read("in").image[0]:
        np.testing.assert_array_equal(plane, expected.astype(np.float32))
