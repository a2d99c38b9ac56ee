"""Files that cannot be trusted: refused with what is wrong, or read as they are; never taken wrongly, never a crash."""

from __future__ import annotations

import gzip
import os
import re
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from augserver.errors import VolumeError
from augserver.ingest.readers.formats import read_file
from augserver.ingest.sources import find_sources


def test_a_truncated_slice_spoils_its_series_and_a_missing_one_is_noticed(
    unzip: Callable[[str], Path], ingest_all: Callable[..., Any]
) -> None:
    folder = unzip("cip_chest64/ct-64Dicom.zip")
    last = sorted(folder.rglob("*.dcm"))[-1]
    content = last.read_bytes()
    last.write_bytes(content[:-2000])
    [outcome], _ = ingest_all(folder)
    assert "slice 79 of 79 (instance 79, at -49.24 mm): the header promises 8192 bytes of pixels, the file has 6192" in outcome.reason
    last.write_bytes(content[:1000])
    [outcome], _ = ingest_all(folder)
    assert "1 of 79 DICOM files of this folder cannot be read or lack their pixels, number 79 by name first" in outcome.reason
    last.write_bytes(content)
    sorted(folder.rglob("*.dcm"))[30].unlink()
    [outcome], _ = ingest_all(folder)
    assert "between slice 30 of 78 (instance 30, at" in outcome.reason
    assert "a slice is missing" in outcome.reason


def test_two_series_in_one_folder_are_two_volumes_and_each_says_its_modality(
    unzip: Callable[[str], Path], ingest_all: Callable[..., Any]
) -> None:
    folder = unzip("cip_chest64/ct-64Dicom.zip")
    for index, file in enumerate(sorted(unzip("dicom_failing/generic_compressed_rle.zip").rglob("*.dcm"))):
        file.rename(folder / f"mr{index}.dcm")
    outcomes, dataset = ingest_all(folder)
    assert {outcome.id: outcome.reason for outcome in outcomes} == {
        "ct-64Dicom_1": "ct-64Dicom_1: is of modality MR, not CT; pass --modality mr",
        "ct-64Dicom_2": "",
    }
    assert dataset.info("ct-64Dicom_2").shape == (1, 79, 64, 64)


@pytest.mark.parametrize("suffix", ["nii", "nii.gz", "hdr", "nrrd", "nhdr", "mha", "mhd"])
@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("keep", [0.0, 0.3, 0.9, -1])
def test_truncated_files_are_refused(tmp_path: Path, write_scan: Callable[..., Path], suffix: str, compress: bool, keep: float) -> None:
    path = write_scan(tmp_path / f"scan.{suffix}", compress=compress)
    file = max(tmp_path.iterdir(), key=lambda item: item.stat().st_size)
    content = file.read_bytes()
    file.write_bytes(content[: int(keep * len(content)) if keep >= 0 else -1])
    with pytest.raises(VolumeError, match=r"^scan\.[a-z.]+: .+"):
        read_file(path)


@pytest.mark.parametrize("suffix", ["nii.gz", "nrrd", "mha", "mhd"])
def test_no_flipped_byte_in_compressed_voxels_goes_unnoticed(tmp_path: Path, write_scan: Callable[..., Path], suffix: str) -> None:
    path = write_scan(tmp_path / f"scan.{suffix}", compress=True)
    whole = read_file(path).voxels
    file = max(tmp_path.iterdir(), key=lambda item: item.stat().st_size)
    content = file.read_bytes()
    assert len(content) > 300
    for position in range(len(content) - 300, len(content), 3):
        harmed = bytearray(content)
        harmed[position] ^= 0x40
        file.write_bytes(harmed)
        try:
            voxels = read_file(path).voxels
        except VolumeError:
            continue
        np.testing.assert_array_equal(voxels, whole)  # a byte that means nothing to the decoder


@pytest.mark.parametrize("suffix", ["nii", "hdr", "nrrd", "mha", "mhd"])
def test_more_voxels_than_the_header_promises_are_refused(tmp_path: Path, write_scan: Callable[..., Path], suffix: str) -> None:
    path = write_scan(tmp_path / f"scan.{suffix}")
    file = max(tmp_path.iterdir(), key=lambda item: item.stat().st_size)
    file.write_bytes(file.read_bytes() + b"\1" * 154)
    with pytest.raises(VolumeError, match="promises"):
        read_file(path)


def _nifti(tmp_path: Path, shape: tuple[int, ...] = (3, 4, 5), affine: Any = None, dtype: Any = np.int16) -> nibabel.Nifti1Image:
    return nibabel.Nifti1Image(np.ones(shape, dtype), np.diag([-1.0, -1, 1, 1]) if affine is None else affine)


def _patched(tmp_path: Path, offset: int, data: bytes, **options: Any) -> Path:
    path = tmp_path / "scan.nii"
    nibabel.save(_nifti(tmp_path, **options), path)
    content = bytearray(path.read_bytes())
    content[offset : offset + len(data)] = data
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("offset", "data", "message"),
    [
        (40, struct.pack("<4h", 3, 3, 4, 0), "an axis is empty"),
        (40, struct.pack("<4h", 3, 3, 4, -5), "an axis is empty|no valid size"),
        (40, struct.pack("<4h", 3, 3, 4, 6), "is truncated: the header promises 144 bytes"),
        (40, struct.pack("<4h", 3, 3, 4, 4), "more than the 96 bytes"),
        (40, struct.pack("<4h", 3, 32767, 32767, 32767), "is truncated"),
        (40, struct.pack("<h", 9), "damaged|no valid size|is not NIfTI"),
        (70, struct.pack("<h", 77), "damaged|datatype"),
        (108, struct.pack("<f", 1e9), "beyond the end|damaged"),
        (108, struct.pack("<f", np.nan), "damaged|beyond"),
        (123, struct.pack("<b", 1), "lengths are in 'm', which makes voxels of 1000x1000x1000 mm"),
        (280, struct.pack("<f", np.nan), "not finite"),
        (280, struct.pack("<f", np.inf), "not finite"),
        (280, struct.pack("<4f", 0, 0, 0, 0), "singular"),
        (280, struct.pack("<f", -2), "voxel sizes .* mm apart"),
        (252, struct.pack("<h", 1), "qform place a corner|damaged"),
        (112, struct.pack("<2f", 1, np.nan), "scaling is damaged"),
        (254, struct.pack("<h", 513), "sform_code 513, known are 0 to 5"),
        (344, b"xxxx", "is not NIfTI"),
        (344, b"n+1\n", "its magic is b'n.1.n', must be"),
    ],
)
def test_broken_nifti_headers(tmp_path: Path, ingest_all: Callable[..., Any], offset: int, data: bytes, message: str) -> None:
    path = _patched(tmp_path, offset, data)
    if offset == 252:  # a qform of its own: a quarter turn about x
        path = _patched(tmp_path, 252, struct.pack("<2h6f", 1, 2, 0.7071, 0, 0, 0, 0, 0))
    [outcome], dataset = ingest_all(path)
    assert dataset is None
    assert re.search(message, outcome.reason)


def test_voxels_that_are_not_finite_are_counted(tmp_path: Path, ingest_all: Callable[..., Any]) -> None:
    image = _nifti(tmp_path, dtype=np.float32)
    voxels = np.asarray(image.dataobj).copy()
    voxels[0, 0, 0], voxels[2, 3, 4] = np.nan, np.inf
    nibabel.save(nibabel.Nifti1Image(voxels, image.affine), tmp_path / "scan.nii.gz")
    for spacing in (None, (2.0, 2.0, 2.0)):
        [outcome], _ = ingest_all(tmp_path / "scan.nii.gz", spacing_mm=spacing, out=f"{spacing is None}.zarr")
        assert "2 of 60 voxels are NaN or infinite" in outcome.reason


@pytest.mark.parametrize(
    ("suffix", "old", "new", "message"),
    [
        ("mha", b"ElementSpacing = 0.5 1 3\n", b"", "the voxel size is unknown"),
        ("mha", b"MET_SHORT", b"MET_STRING", "one number per voxel"),
        ("mha", b"DimSize = 11 7 5", b"DimSize = 11 7 x", "must be whole numbers"),
        ("mha", b"DimSize = 11 7 5", b"DimSize = 11 7 0", "an axis is empty"),
        ("mha", b"DimSize = 11 7 5", b"DimSize = 11 7 6", "promises 924 bytes"),
        ("mha", b"TransformMatrix = 1 0 0 0 1 0 0 0 1", b"TransformMatrix = 1 0 0 1 1 0 0 0 1", "length 1|right angle|cannot read"),
        ("mhd", b"scan.raw", b"../scan.raw", "outside the header's folder"),
        ("mhd", b"scan.raw", b"/etc/hostname", "outside the header's folder"),
        ("mhd", b"scan.raw", b"LIST", "list of data files is empty"),
        ("mhd", b"scan.raw", b"other.raw", "is missing"),
        ("nrrd", b"space: left-posterior-superior\n", b"", "space is None"),
        ("nrrd", b"space: left-posterior-superior", b"space: scanner-xyz", "space is 'scanner-xyz'"),
        ("nrrd", b"space origin: (10,-20,30)\n", b"", "has no 'space origin'"),
        ("nrrd", b"sizes: 11 7 5", b"sizes: 11 7 6", "promises 924 bytes"),
        ("nrrd", b"type: short", b"type: block", "not one number per voxel"),
        ("nrrd", b"encoding: raw", b"encoding: hex", "other signs than hexadecimal digits"),
        ("nrrd", b"endian: little", b'space units: "cm" "mm" "mm"\nendian: little', "lengths are in 'cm' and 'mm'"),
        ("nrrd", b"(0,1,0)", b"(0,0,0)", "singular|cannot read"),
        ("nrrd", b"NRRD", b"NERD", "is no NRRD"),
    ],
)
def test_broken_text_headers(
    tmp_path: Path, write_scan: Callable[..., Path], ingest_all: Callable[..., Any], suffix: str, old: bytes, new: bytes, message: str
) -> None:
    path = write_scan(tmp_path / f"scan.{suffix}")
    content = path.read_bytes()
    assert old in content
    path.write_bytes(content.replace(old, new, 1))
    [outcome], dataset = ingest_all(path)
    assert dataset is None
    assert re.search(message, outcome.reason)


def test_colour_and_four_axes_are_refused_in_every_format(tmp_path: Path, ingest_all: Callable[..., Any]) -> None:
    colour = sitk.GetImageFromArray(np.zeros((5, 7, 11, 3), np.uint8), isVector=True)
    series = sitk.GetImageFromArray(np.zeros((2, 5, 7, 11), np.int16), isVector=False)
    for suffix in ("nrrd", "mha", "nii.gz"):
        sitk.WriteImage(colour, str(tmp_path / f"colour_{suffix[:3]}.{suffix}"))
        sitk.WriteImage(series, str(tmp_path / f"series_{suffix[:3]}.{suffix}"))
    outcomes, dataset = ingest_all(tmp_path)
    assert dataset is None
    assert len(outcomes) == 6
    for outcome in outcomes:
        assert re.search("axes|kind 'rgb|space is None", outcome.reason)


def test_a_gzip_bomb_and_a_wrong_crc_are_refused_without_the_memory_they_ask_for(tmp_path: Path) -> None:
    nibabel.save(_nifti(tmp_path), tmp_path / "scan.nii")
    content = (tmp_path / "scan.nii").read_bytes()
    with gzip.open(tmp_path / "bomb.nii.gz", "wb") as file:
        file.write(content)
        file.write(b"\1" * 50_000_000)
    with pytest.raises(VolumeError, match="holds more than the 120 bytes"):
        read_file(tmp_path / "bomb.nii.gz")
    packed = bytearray(gzip.compress(content))
    packed[-8:-4] = struct.pack("<I", zlib.crc32(content) ^ 1)
    (tmp_path / "crc.nii.gz").write_bytes(packed)
    with pytest.raises(VolumeError, match="CRC"):
        read_file(tmp_path / "crc.nii.gz")


def test_missing_parts_and_unreadable_files_are_told(
    tmp_path: Path, write_scan: Callable[..., Path], ingest_all: Callable[..., Any]
) -> None:
    path = write_scan(tmp_path / "scan.hdr")
    (tmp_path / "scan.img").unlink()
    with pytest.raises(VolumeError, match=r"neither scan\.img nor scan\.img\.gz"):
        read_file(path)
    gone = write_scan(tmp_path / "gone.nii.gz")
    [source] = find_sources([gone]).sources
    os.unlink(gone)
    with pytest.raises(VolumeError, match=r"gone\.nii\.gz: cannot be read"):
        source.read("ct")


def test_packed_voxels_without_their_size_are_read_whole(tmp_path: Path, write_scan: Callable[..., Path]) -> None:
    path = write_scan(tmp_path / "scan.mha", compress=True)
    content, voxels = path.read_bytes(), read_file(path).voxels
    path.write_bytes(re.sub(rb"CompressedDataSize = \d+\n", b"", content))
    assert path.stat().st_size < len(content)
    np.testing.assert_array_equal(read_file(path).voxels, voxels)  # SimpleITK gives what lies in memory


@pytest.mark.parametrize("suffix", ["nii", "hdr", "nrrd", "mha", "mhd"])
def test_random_damage_to_a_header_is_a_volume_error_or_keeps_the_bytes_of_the_voxels(
    tmp_path: Path, write_scan: Callable[..., Path], suffix: str
) -> None:
    path = write_scan(tmp_path / f"scan.{suffix}", compress=True)
    content, whole = path.read_bytes(), np.sort(read_file(path).voxels.view(np.uint8), axis=None)
    text = content.partition(b"LOCAL")[0].partition(b"\n\n")[0] if suffix in ("nrrd", "mha", "mhd") else content[:348]
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(150):
        harmed = bytearray(content)
        for position in rng.integers(0, len(text), 2):
            if suffix not in ("nii", "hdr") or not 40 <= position < 120:  # NIfTI's size, type and scaling have no second witness
                harmed[position] = rng.integers(256)
        path.write_bytes(harmed)
        try:
            np.testing.assert_array_equal(np.sort(read_file(path).voxels.view(np.uint8), axis=None), whole)
        except VolumeError:
            refused += 1
    assert 10 < refused < 150
