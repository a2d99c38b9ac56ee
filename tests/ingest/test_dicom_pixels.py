"""Every way in which DICOM stores a number, against pydicom and SimpleITK: bits, signs, byte orders, rescaling, padding, tables."""

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
from pydicom.pixels.processing import apply_modality_lut
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    MRImageStorage,
    RLELossless,
)

Write = Callable[..., list[Path]]


@pytest.fixture
def words() -> np.ndarray:
    """Three planes of all kinds of 16-bit words."""
    return np.random.default_rng(0).integers(0, 1 << 16, (3, 8, 10)).astype(np.uint16)


def by_pydicom(files: list[Path]) -> np.ndarray:
    datasets = [pydicom.dcmread(file) for file in files]
    return np.stack([apply_modality_lut(data.pixel_array, data) for data in datasets])


def by_simpleitk(files: list[Path]) -> np.ndarray:
    return sitk.GetArrayFromImage(sitk.ReadImage([str(file) for file in files], imageIO="GDCMImageIO"))


def stored_as(stored: int, *, signed: bool, high: int | None = None, **header: Any) -> Callable[[Dataset, int], None]:
    def edit(data: Dataset, index: int) -> None:
        data.BitsStored, data.HighBit, data.PixelRepresentation = stored, stored - 1 if high is None else high, int(signed)
        for key, value in header.items():
            setattr(data, key, value[index] if isinstance(value, list) else value)

    return edit


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("stored", [9, 10, 12, 13, 14, 15, 16])
@pytest.mark.parametrize("syntax", ["explicit little", "implicit little", "explicit big", "deflated", "RLE"])
@pytest.mark.parametrize("garbage", [False, True])
def test_bits_signs_and_byte_orders(
    tmp_path: Path,
    words: np.ndarray,
    write_series: Write,
    ingest_all: Callable[..., Any],
    signed: bool,
    stored: int,
    syntax: str,
    garbage: bool,
) -> None:
    if not garbage:
        words &= (1 << stored) - 1
    files = write_series(tmp_path / "in", words, intercepts=(-1024, 0, 5), edit=stored_as(stored, signed=signed))
    for file in files:
        data = pydicom.dcmread(file)
        if syntax == "RLE":
            data.compress(RLELossless, data.pixel_array.astype(np.int16 if signed else np.uint16), generate_instance_uid=False)
        elif syntax == "explicit big":
            data.PixelData = np.frombuffer(data.PixelData, "<u2").astype(">u2").tobytes()
        uids = {
            "explicit big": ExplicitVRBigEndian,
            "implicit little": ImplicitVRLittleEndian,
            "deflated": DeflatedExplicitVRLittleEndian,
            "RLE": RLELossless,
        }
        uid = uids.get(syntax, ExplicitVRLittleEndian)
        data.file_meta.TransferSyntaxUID = uid
        pydicom.dcmwrite(file, data, implicit_vr=uid.is_implicit_VR, little_endian=uid.is_little_endian, force_encoding=True)
    [outcome], dataset = ingest_all(tmp_path / "in")
    assert outcome.reason == ""
    got = dataset.read("in").image[0]
    np.testing.assert_array_equal(got, by_pydicom(files))
    for plane, file in zip(got, files, strict=True):
        np.testing.assert_array_equal(plane, by_simpleitk([file])[0])


@pytest.mark.parametrize("bits", [8, 32])
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("big", [False, True])
def test_bytes_and_long_words(
    tmp_path: Path, write_series: Write, ingest_all: Callable[..., Any], bits: int, signed: bool, big: bool
) -> None:
    values = np.random.default_rng(0).integers(0, 1 << min(bits, 23), (3, 8, 10)).astype(f"u{bits // 8}")
    voxels = values.view(f"i{bits // 8}") if signed else values
    files = write_series(tmp_path / "in", voxels)
    for file in files if big else ():
        data = pydicom.dcmread(file)
        swapped = np.frombuffer(data.PixelData, ">u2" if bits == 8 else ">u4").astype("<u2" if bits == 8 else "<u4")
        data.PixelData, data.file_meta.TransferSyntaxUID = swapped.tobytes(), ExplicitVRBigEndian
        data["PixelData"].VR = "OW"
        pydicom.dcmwrite(file, data, implicit_vr=False, little_endian=False, force_encoding=True)
    [outcome], dataset = ingest_all(tmp_path / "in")
    assert outcome.reason == ""
    np.testing.assert_array_equal(dataset.read("in").image[0], by_pydicom(files))
    np.testing.assert_array_equal(dataset.read("in").image[0], voxels)


def test_each_slice_has_its_own_sign_bits_and_rescaling(
    tmp_path: Path, words: np.ndarray, write_series: Write, ingest_all: Callable[..., Any]
) -> None:
    edit = stored_as(
        16,
        signed=False,
        PixelRepresentation=[0, 1, 1],
        BitsStored=[12, 16, 12],
        HighBit=[11, 15, 11],
        RescaleSlope=[1, "0.5", 3],
        RescaleIntercept=["-1024", "0.25", ""],
    )

    def with_intercepts(data: Dataset, index: int) -> None:
        edit(data, index)
        data.RescaleIntercept = ("-1024", "0.25", "7")[index]

    files = write_series(tmp_path / "in", words, edit=with_intercepts)
    [outcome], dataset = ingest_all(tmp_path / "in")
    assert outcome.reason == ""
    np.testing.assert_array_equal(dataset.read("in").image[0], by_pydicom(files).astype(np.float32))
    for plane, file in zip(dataset.read("in").image[0], files, strict=True):
        np.testing.assert_array_equal(plane, by_simpleitk([file])[0].astype(np.float32))


def of_class(modality: str, edit: Callable[[Dataset, int], Any]) -> Callable[[Dataset, int], None]:
    def both(data: Dataset, index: int) -> None:
        data.SOPClassUID = MRImageStorage if modality == "MR" else data.SOPClassUID
        edit(data, index)

    return both


def without(*keywords: str, of: tuple[int, ...] = (0, 1, 2)) -> Callable[[Dataset, int], None]:
    def edit(data: Dataset, index: int) -> None:
        for keyword in keywords if index in of else ():
            delattr(data, keyword)

    return edit


@pytest.mark.parametrize(
    ("edit", "modality", "note"),
    [
        (without("RescaleSlope", "RescaleIntercept"), "CT", "no RescaleSlope and RescaleIntercept, which a CT must have"),
        (without("RescaleSlope"), "CT", "no RescaleSlope and RescaleIntercept, which a CT must have"),
        (without("RescaleIntercept"), "CT", "no RescaleSlope and RescaleIntercept, which a CT must have"),
        (lambda data, index: data.update({"RescaleSlope": "", "RescaleIntercept": None}), "CT", "no RescaleSlope and RescaleIntercept"),
        (without("RescaleSlope", "RescaleIntercept"), "MR", None),
    ],
)
def test_a_ct_without_rescale_is_told(
    tmp_path: Path, words: np.ndarray, write_series: Write, ingest_all: Callable[..., Any], edit: Any, modality: str, note: str | None
) -> None:
    write_series(tmp_path / "in", words, modality=modality, edit=of_class(modality, edit))
    [outcome], dataset = ingest_all(tmp_path / "in", modality=modality.lower())
    assert outcome.reason == ""
    assert [note in each for each in outcome.notes] == ([] if note is None else [True])
    np.testing.assert_array_equal(dataset.read("in").image[0], words)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (without("RescaleSlope", "RescaleIntercept", of=(1,)), r"1 of 3 slices \(instance 2 first\) carry no RescaleSlope"),
        (without("RescaleIntercept", of=(0, 2)), r"2 of 3 slices \(instance 1 first\) carry no RescaleSlope"),
        (stored_as(16, signed=False, RescaleSlope=0), "rescale slope 0.0 and intercept 0.0 have no meaning"),
        (stored_as(12, signed=False, high=15), "stores 12 of 16 bits, high bit 15, and has values of more bits"),
        (stored_as(20, signed=False), "stores 20 of 16 bits"),
        (stored_as(0, signed=False, high=0), "stores 0 of 16 bits"),
        (stored_as(12, signed=False, BitsAllocated=12), "stores 12 of 12 bits"),
        (stored_as(16, signed=False, PixelRepresentation=2), "stores 16 of 16 bits"),
        (lambda data, index: setattr(data, "PixelData", data.PixelData[:-2]), "promises 160 bytes of pixels, the file has 158"),
        (lambda data, index: setattr(data, "PixelData", data.PixelData * 2), "promises 160 bytes of pixels, the file has 320"),
        (lambda data, index: setattr(data, "PixelData", b""), "promises 160 bytes of pixels, the file has 0"),
        (lambda data, index: setattr(data, "RescaleIntercept", [1, 2]), "cannot be read or lack their pixels"),
        (lambda data, index: delattr(data, "BitsStored"), "cannot be read"),
    ],
)
def test_pixels_that_cannot_be_trusted_are_refused(
    tmp_path: Path, words: np.ndarray, write_series: Write, ingest_all: Callable[..., Any], edit: Any, message: str
) -> None:
    write_series(tmp_path / "in", words, edit=edit)
    [outcome], dataset = ingest_all(tmp_path / "in")
    assert dataset is None
    assert re.search(message, outcome.reason), outcome.reason


def test_a_high_bit_that_says_too_much_is_let_pass_where_no_value_has_more_bits(
    tmp_path: Path, words: np.ndarray, write_series: Write, ingest_all: Callable[..., Any]
) -> None:
    words &= 0xFFF
    files = write_series(tmp_path / "in", words, edit=stored_as(12, signed=False, high=15))
    [outcome], dataset = ingest_all(tmp_path / "in")
    assert outcome.reason == ""
    np.testing.assert_array_equal(dataset.read("in").image[0], by_pydicom(files))
    np.testing.assert_array_equal(dataset.read("in").image[0], by_simpleitk(files))


@pytest.mark.parametrize("rows", [8, 3])
@pytest.mark.parametrize("more", [b"", b"\0", b"\0" * 7, b"\1" * 20])
def test_pixels_of_odd_length_or_with_padding_behind_them(
    tmp_path: Path, write_series: Write, ingest_all: Callable[..., Any], rows: int, more: bytes
) -> None:
    bytes_ = np.random.default_rng(0).integers(0, 256, (3, rows, 9)).astype(np.uint8)

    def edit(data: Dataset, index: int) -> None:
        data.PixelData += more + b"\0" * (len(data.PixelData + more) % 2)
        data.DataSetTrailingPadding = b"\0" * 64

    files = write_series(tmp_path / "in", bytes_, edit=edit)
    [outcome], dataset = ingest_all(tmp_path / "in")
    assert outcome.reason == ""
    np.testing.assert_array_equal(dataset.read("in").image[0], bytes_)
    np.testing.assert_array_equal(dataset.read("in").image[0], by_simpleitk(files))


def test_padding_keeps_its_value_and_is_told(tmp_path: Path, write_series: Write, ingest_all: Callable[..., Any]) -> None:
    values = np.random.default_rng(0).integers(0, 2000, (3, 8, 10)).astype(np.int16)
    values[:, :2] = -2000
    values[:, 7] = -1990
    single = stored_as(16, signed=True, PixelPaddingValue=-2000)
    ranged = stored_as(16, signed=True, PixelPaddingValue=-2000, PixelPaddingRangeLimit=-1990)
    for name, edit, note in (
        ("single", single, "60 voxels are padding (PixelPaddingValue) and keep their value, -3024"),
        ("ranged", ranged, "90 voxels are padding (PixelPaddingValue) and keep their value, -3024 to -3014"),
    ):
        files = write_series(tmp_path / name, values, intercepts=(-1024,) * 3, edit=edit)
        [outcome], dataset = ingest_all(tmp_path / name, out=f"{name}.zarr")
        assert (outcome.reason, outcome.notes) == ("", (note,))
        np.testing.assert_array_equal(dataset.read(name).image[0], by_simpleitk(files))
        np.testing.assert_array_equal(dataset.read(name).image[0], by_pydicom(files))


def test_a_modality_table_maps_the_values(tmp_path: Path, write_series: Write, ingest_all: Callable[..., Any]) -> None:
    stored = np.random.default_rng(0).integers(0, 100, (3, 8, 10)).astype(np.uint16)
    table = np.random.default_rng(1).integers(0, 60000, 64).astype(np.uint16)

    def edit(data: Dataset, index: int) -> None:
        item = Dataset()
        item.LUTDescriptor, item.LUTData, item.ModalityLUTType = [64, 10, 16], table.tobytes(), "US"
        item["LUTData"].VR = "OW"
        data.ModalityLUTSequence = [item]
        del data.RescaleSlope, data.RescaleIntercept

    files = write_series(tmp_path / "in", stored, edit=edit)
    [outcome], dataset = ingest_all(tmp_path / "in")
    assert (outcome.reason, outcome.notes) == ("", ())
    expected = table[np.clip(stored.astype(int) - 10, 0, 63)]  # PS3.3 C.11.1.1: the first value maps to the first entry, ends are held
    np.testing.assert_array_equal(dataset.read("in").image[0], expected)
    np.testing.assert_array_equal(dataset.read("in").image[0], by_pydicom(files))


@pytest.mark.parametrize(("implicit", "little"), [(True, True), (False, True), (False, False)])
@pytest.mark.parametrize("preamble", [True, False])
def test_files_without_file_meta_are_read_by_their_own_encoding(
    tmp_path: Path, words: np.ndarray, write_series: Write, ingest_all: Callable[..., Any], little: bool, implicit: bool, preamble: bool
) -> None:
    for file in write_series(tmp_path / "in", words):
        data = pydicom.dcmread(file)
        del data.file_meta
        if not little:
            data.PixelData = np.frombuffer(data.PixelData, "<u2").astype(">u2").tobytes()
        pydicom.dcmwrite(file, data, implicit_vr=implicit, little_endian=little, force_encoding=True)
        bare = file.read_bytes().split(b"DICM")[-1]
        file.write_bytes(b"\0" * 128 + b"DICM" + bare if preamble else bare)
    [outcome], dataset = ingest_all(tmp_path / "in")
    assert outcome.reason == ""
    np.testing.assert_array_equal(dataset.read("in").image[0], words)
