"""Every form in which a MetaImage names its voxels and their place: SimpleITK's reading, or a reason where it crashes or guesses."""

from __future__ import annotations

import gzip
import re
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from augserver.errors import VolumeError
from augserver.ingest.readers.formats import files_of, read_file, voxel_count
from augserver.ingest.readers.nifti_affine import UNPLACED
from augserver.ingest.scan import Scan

VOXELS = np.random.default_rng(0).integers(-1000, 2000, (3, 4, 5)).astype(np.int16)
RAW, BIG = VOXELS.astype("<i2").tobytes(), VOXELS.astype(">i2").tobytes()
TEXT = " ".join(map(str, VOXELS.ravel())).encode()
PLACE = [[0, 0.8, 0, -16], [0, 0, 0.7, -17.5], [3, 0, 0, 100]]
FIELDS = {
    "ObjectType": "Image",
    "NDims": "3",
    "BinaryData": "True",
    "BinaryDataByteOrderMSB": "False",
    "CompressedData": "False",
    "TransformMatrix": "0 1 0 1 0 0 0 0 1",
    "Offset": "-16 -17.5 100",
    "CenterOfRotation": "0 0 0",
    "AnatomicalOrientation": "RAI",
    "ElementSpacing": "0.7 0.8 3",
    "DimSize": "5 4 3",
    "ElementType": "MET_SHORT",
    "ElementDataFile": "LOCAL",
}
PACKED = {"CompressedData": "True"}


def written(
    folder: Path, changes: dict[str, str | None] | None = None, payload: bytes = RAW, *, sign: str = " = ", end: str = "\n"
) -> Path:
    """A file with fields changed, or (None) left out; ElementDataFile is the last field."""
    fields = {key: value for key, value in (FIELDS | (changes or {})).items() if value is not None}
    fields["ElementDataFile"] = fields.pop("ElementDataFile")
    path = folder / ("scan.mha" if fields["ElementDataFile"].upper() == "LOCAL" else "scan.mhd")
    path.write_bytes("".join(f"{key}{sign}{value}{end}" for key, value in fields.items()).encode() + payload)
    return path


def assert_as_written(scan: Scan, note: str = "") -> None:
    np.testing.assert_array_equal(scan.voxels, VOXELS[None])
    np.testing.assert_allclose(scan.affine[:3], PLACE, atol=1e-12)
    assert re.search(note, "; ".join(scan.notes)) if note else scan.notes == ()


def assert_as_simpleitk(path: Path) -> None:
    image, scan = sitk.ReadImage(str(path)), read_file(path)
    np.testing.assert_array_equal(scan.voxels[0], sitk.GetArrayViewFromImage(image))
    for index in ((0, 0, 0), (image.GetWidth() - 1, 0, 0), (0, image.GetHeight() - 1, 0), (0, 0, image.GetDepth() - 1)):
        np.testing.assert_allclose((scan.affine @ [*index[::-1], 1])[:3], image.TransformIndexToPhysicalPoint(index), atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "payload"),
    [
        ({}, RAW),
        ({"ElementDataFile": "local"}, RAW),
        ({"BinaryDataByteOrderMSB": "True"}, BIG),
        ({"BinaryDataByteOrderMSB": "1"}, BIG),
        ({"BinaryDataByteOrderMSB": None, "ElementByteOrderMSB": "True"}, BIG),
        ({"BinaryDataByteOrderMSB": "true", "ElementByteOrderMSB": "true"}, BIG),
        ({"BinaryData": None}, RAW),
        ({"TransformMatrix": None, "Rotation": FIELDS["TransformMatrix"]}, RAW),
        ({"TransformMatrix": None, "Orientation": FIELDS["TransformMatrix"]}, RAW),
        ({"Offset": None, "Origin": FIELDS["Offset"]}, RAW),
        ({"Offset": None, "Position": FIELDS["Offset"]}, RAW),
        ({"Offset": None, "Position": FIELDS["Offset"], "Origin": FIELDS["Offset"]}, RAW),
        ({"ElementSpacing": None, "ElementSize": "0.7 0.8 3"}, RAW),
        ({"ElementSize": "1 2 5"}, RAW),  # of the sensor; the spacing counts
        ({"HeaderSize": "0"}, RAW),
        ({"HeaderSize": "-1"}, b"HEADER!" + RAW),
        (PACKED, zlib.compress(RAW)),
        (PACKED | {"CompressedDataSize": str(len(zlib.compress(RAW)))}, zlib.compress(RAW)),
        (PACKED, gzip.compress(RAW)),
        ({"BinaryData": "False"}, TEXT),
        ({"BinaryData": "False"}, TEXT.replace(b" ", b"\n")),
        ({"ElementType": "MET_SHORT_ARRAY", "ElementNumberOfChannels": "1"}, RAW),
        ({"ElementToIntensityFunctionSlope": "1", "ElementToIntensityFunctionOffset": "0", "DistanceUnits": "mm"}, RAW),
        ({"DistanceUnits": "?", "Comment": "a = b", "Modality": "MET_MOD_CT", "ObjectSubType": "x"}, RAW),
        ({"NDims": "4", "DimSize": "5 4 3 1", "ElementSpacing": "0.7 0.8 3 9", "Offset": "-16 -17.5 100 5", "CenterOfRotation": "0 0 0 0",
          "TransformMatrix": "0 1 0 0 1 0 0 0 0 0 1 0 0 0 0 1"}, RAW),
    ],
)  # fmt: skip
def test_fields_and_encodings(tmp_path: Path, changes: dict[str, str | None], payload: bytes) -> None:
    path = written(tmp_path, changes, payload)
    assert_as_written(read_file(path))
    assert voxel_count(path) == 60


def test_fields_that_no_reader_knows_may_stand_twice(tmp_path: Path) -> None:
    path = written(tmp_path)
    path.write_bytes(b"0008|0020 = a: b\nname:x = 1\nname:y = 2\nNDims = 3\n" + path.read_bytes())
    assert_as_written(read_file(path))
    path.write_bytes(b"NDims = 4\n" + path.read_bytes())
    with pytest.raises(VolumeError, match="NDims is there twice"):
        read_file(path)


def test_lines_as_other_writers_have_them(tmp_path: Path) -> None:
    for sign, end in ((" = ", "\r\n"), ("=", "\n"), (" : ", "\n"), (":", "\n")):
        assert_as_written(read_file(written(tmp_path, sign=sign, end=end)))


@pytest.mark.parametrize(
    ("changes", "note"),
    [
        ({"BinaryDataByteOrderMSB": None}, "no byte order: little endian taken"),
        ({"CenterOfRotation": "1 2 3"}, "CenterOfRotation is not used"),
        ({"TransformMatrix": None}, "no TransformMatrix: axes taken to run to Left, Posterior and Superior"),
        ({"Offset": None}, "no Offset: the first voxel taken to lie at 0"),
        ({"ElementSpacing": "-0.7 0.8 3"}, "a negative ElementSpacing turns its axis"),
        ({"TransformMatrix": "0 0 1 1 0 0 0 1 0"}, ""),
        ({"TransformMatrix": "-1 0 0 0 1 0 0 0 1"}, ""),
        ({"TransformMatrix": "0.866 0.5 0 -0.5 0.866 0 0 0 1"}, ""),
        ({"TransformMatrix": "1 0 0 0.6 0.8 0 0 0 1"}, ""),
        ({"AnatomicalOrientation": "LPI"}, ""),  # the matrix counts
    ],
)
def test_defaults_and_signs_are_those_of_simpleitk(tmp_path: Path, changes: dict[str, str | None], note: str) -> None:
    path = written(tmp_path, changes)
    assert_as_simpleitk(path)
    notes = read_file(path).notes
    assert re.search(note, "; ".join(notes)) if note else notes == ()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"ElementSpacing": None}, "neither ElementSpacing nor ElementSize"),
        ({"ElementSpacing": "0.7 0.8"}, "ElementSpacing must be 3 numbers"),
        ({"ElementSpacing": "0 0.8 3"}, "singular"),
        ({"ElementSpacing": "nan 0.8 3"}, "not finite"),
        ({"Offset": "1 2 x"}, "Offset must be 3 numbers"),
        ({"Origin": "1 2 3"}, "Offset = -16 -17.5 100, Origin = 1 2 3 mean the same field"),
        ({"Rotation": "1 0 0 0 1 0 0 0 1"}, "TransformMatrix = .*, Rotation = .* mean the same field"),
        ({"ElementByteOrderMSB": "True"}, "mean the same field"),
        ({"BinaryDataByteOrderMSB": "maybe"}, "must be True or False, got 'maybe'"),
        ({"TransformMatrix": "2 0 0 0 1 0 0 0 1"}, "not of length 1"),
        ({"TransformMatrix": "0 0 0 0 0 0 0 0 0"}, "not of length 1"),
        ({"TransformMatrix": None, "AnatomicalOrientation": "LPI"}, "no TransformMatrix, and AnatomicalOrientation 'LPI'"),
        ({"ElementToIntensityFunctionSlope": "2"}, "to be scaled by 2 with offset 0"),
        ({"DistanceUnits": "um"}, "lengths are in 'um', which makes voxels of"),
        ({"ElementType": "met_short"}, "ElementType is met_short"),
        ({"ElementType": "MET_STRING"}, "ElementType is MET_STRING"),
        ({"ElementType": "MET_LONG"}, "is truncated: the header promises 240 bytes"),
        ({"ObjectType": "Tube"}, "is a MetaIO Tube, not an image"),
        ({"NDims": "2", "DimSize": "5 12", "ElementSpacing": "1 1", "TransformMatrix": "1 0 0 1", "Offset": "0 0"}, "has 2 axes"),
        ({"NDims": "2"}, "NDims is 2, but DimSize has 3 numbers"),
        ({"NDims": "5", "DimSize": "5 4 3 1 1"}, "has 5 axes"),
        ({"DimSize": "5 4 0"}, "an axis is empty"),
        ({"HeaderSize": "7"}, "HeaderSize is '7'"),
        ({"HeaderSize": "-2"}, "HeaderSize is '-2'"),
        ({"HeaderSize": "-1", "CompressedData": "True"}, "HeaderSize is '-1'"),
        ({"CompressedData": "True"}, "packed voxels are corrupt"),
        ({"BinaryData": "False"}, "voxels as text"),
        ({"ElementDataFile": "LIST"}, "outside|missing"),  # of voxels no names can be made
    ],
)
def test_what_has_no_meaning_is_refused_by_name(tmp_path: Path, changes: dict[str, str | None], reason: str) -> None:
    with pytest.raises(VolumeError, match=reason):
        read_file(written(tmp_path, changes))


def test_directions_of_two_decimals_have_length_1(tmp_path: Path) -> None:
    scan = read_file(written(tmp_path, {"TransformMatrix": "0.87 0.50 0 -0.50 0.87 0 0 0 1"}))
    np.testing.assert_allclose(scan.spacing_mm, (3, 0.8, 0.7), rtol=1e-12)
    assert scan.notes == ("directions rounded to two decimals: lengthened or shortened to 1",)


def test_a_label_that_is_taken_voxel_for_voxel_needs_no_place(tmp_path: Path) -> None:
    path = written(tmp_path, {"ElementSpacing": None, "TransformMatrix": "0 0 0 0 0 0 0 0 0"})
    with pytest.raises(VolumeError, match="if it is a label, pass --labels-by-voxel"):
        read_file(path)
    np.testing.assert_array_equal(read_file(path, UNPLACED).voxels, VOXELS[None])


def test_channels_and_time_points(tmp_path: Path) -> None:
    two = np.stack([VOXELS, VOXELS + 1])
    channels = read_file(written(tmp_path, {"ElementNumberOfChannels": "2"}, np.stack([VOXELS, VOXELS + 1], -1).tobytes()))
    four = {
        "NDims": "4",
        "DimSize": "5 4 3 2",
        "ElementSpacing": "0.7 0.8 3 9",
        "Offset": "-16 -17.5 100 5",
        "CenterOfRotation": "0 0 0 0",
        "TransformMatrix": "0 1 0 0 1 0 0 0 0 0 1 0 0 0 0 1",
    }
    for scan in (channels, read_file(written(tmp_path, four, two.tobytes()))):
        np.testing.assert_array_equal(scan.voxels, two)
        np.testing.assert_allclose(scan.affine[:3], PLACE)
    with pytest.raises(VolumeError, match="turned into the patient"):
        read_file(written(tmp_path, four | {"TransformMatrix": "0 1 0 0 1 0 0 0 0 0 0 1 0 0 1 0"}, two.tobytes()))


@pytest.fixture
def parts(tmp_path: Path) -> Path:
    """A folder with the voxels in one file, in slices (also packed), and below it."""
    (tmp_path / "sub").mkdir()
    for name in ("all.raw", "sub/deep.raw", "a name.raw"):
        (tmp_path / name).write_bytes(RAW)
    (tmp_path / "foreign.img").write_bytes(b"HEADER!" + RAW)
    (tmp_path / "all.zraw").write_bytes(b"HEADER!" + zlib.compress(RAW))
    (tmp_path / "all.txt").write_bytes(TEXT)
    for number, plane in enumerate(VOXELS):
        (tmp_path / f"s{number + 1:02}.raw").write_bytes(b"HD" + plane.tobytes())
        (tmp_path / f"z{number}").write_bytes(zlib.compress(plane.tobytes()))
    return tmp_path


@pytest.mark.parametrize(
    ("name", "changes", "files"),
    [
        ("all.raw", {}, ["all.raw"]),
        ("./all.raw", {}, ["all.raw"]),
        ("sub/deep.raw", {}, ["sub/deep.raw"]),
        ("a name.raw", {}, ["a name.raw"]),
        ("foreign.img", {"HeaderSize": "7"}, ["foreign.img"]),
        ("foreign.img", {"HeaderSize": "-1"}, ["foreign.img"]),
        ("all.zraw", {"HeaderSize": "7", "CompressedData": "True"}, ["all.zraw"]),
        ("all.txt", {"BinaryData": "False"}, ["all.txt"]),
        ("LIST 3D\nall.raw", {}, ["all.raw"]),
        ("LIST\ns01.raw\ns02.raw\n./s03.raw\n", {"HeaderSize": "2"}, ["s01.raw", "s02.raw", "s03.raw"]),
        ("LIST 2D\ns01.raw\ns02.raw\ns03.raw", {"HeaderSize": "-1"}, ["s01.raw", "s02.raw", "s03.raw"]),
        ("LIST 2\nz0\nz1\nz2", {"CompressedData": "True"}, ["z0", "z1", "z2"]),
        ("s%02d.raw 1 3 1", {"HeaderSize": "2"}, ["s01.raw", "s02.raw", "s03.raw"]),
        ("z%d 0 2 1", {"CompressedData": "True"}, ["z0", "z1", "z2"]),
    ],
)
def test_data_files(parts: Path, name: str, changes: dict[str, str | None], files: list[str]) -> None:
    path = written(parts, {**changes, "ElementDataFile": name}, b"")
    assert_as_written(read_file(path))
    assert files_of(path) == [path, *(parts / file for file in files)]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("../all.raw", "outside the header's folder"),
        ("gone.raw", "is missing"),
        ("LIST\nall.raw", "names 1 data files of 2 axes each"),
        ("LIST\n", "list of data files is empty"),
        ("s%02d.raw 1 3", "one %d, then first, last and step"),  # on which MetaIO divides by zero
        ("s%02d.raw 1 2 1", "names 2 data files of 2 axes each"),
    ],
)
def test_data_files_that_are_not_there(parts: Path, name: str, reason: str) -> None:
    with pytest.raises(VolumeError, match=reason):
        read_file(written(parts, {"ElementDataFile": name}, b""))


IMAGE = st.fixed_dictionaries(
    {
        "shape": st.tuples(*[st.integers(1, 6)] * 3),
        "dtype": st.sampled_from(
            [np.uint8, np.int8, np.uint16, np.int16, np.uint32, np.int32, np.uint64, np.int64, np.float32, np.float64]
        ),
        "rotation": st.tuples(*[st.floats(-180, 180)] * 3),
        "mirrored": st.booleans(),
        "spacing": st.tuples(*[st.floats(0.1, 8)] * 3),
        "origin": st.tuples(*[st.floats(-500, 500)] * 3),
        "suffix": st.sampled_from(["mha", "mhd"]),
        "packed": st.booleans(),
    }
)


@settings(max_examples=200, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(IMAGE, st.integers(0, 2**32))
def test_what_simpleitk_writes_comes_back(tmp_path: Path, what: dict[str, Any], seed: int) -> None:
    image = sitk.GetImageFromArray(np.random.default_rng(seed).integers(0, 100, what["shape"]).astype(what["dtype"]))
    direction = Rotation.from_euler("xyz", what["rotation"], degrees=True).as_matrix()
    direction[:, 2] *= -1 if what["mirrored"] else 1
    image.SetDirection(direction.ravel().tolist())
    image.SetSpacing(what["spacing"])
    image.SetOrigin(what["origin"])
    path = tmp_path / f"scan.{what['suffix']}"
    sitk.WriteImage(image, str(path), what["packed"])
    assert_as_simpleitk(path)
    assert read_file(path).notes == ()
