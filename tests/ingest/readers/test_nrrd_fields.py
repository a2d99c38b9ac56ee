"""Every form in which an NRRD names its voxels and their place: pynrrd's voxels, SimpleITK's place, or a reason."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from augserver.errors import VolumeError
from augserver.ingest.readers.formats import files_of, read_file, voxel_count
from augserver.ingest.readers.nrrd_header import read_nrrd_header
from augserver.ingest.scan import Scan
from augserver.ingest.sources import find_sources

VOXELS = np.random.default_rng(0).integers(-1000, 2000, (3, 4, 5)).astype(np.int16)
RAW = VOXELS.astype("<i2").tobytes()
TEXT = " ".join(map(str, VOXELS.ravel())).encode()
PLACE = [[0, 0, 0.7, -16], [0, 0.8, 0.1, -17.5], [3, 0, 0, 100]]
FIELDS = {
    "type": "short",
    "dimension": "3",
    "space": "left-posterior-superior",
    "sizes": "5 4 3",
    "space directions": "(0.7,0.1,0) (0,0.8,0) (0,0,3)",
    "kinds": "domain domain domain",
    "endian": "little",
    "encoding": "raw",
    "space origin": "(-16,-17.5,100)",
}
TWICE = np.stack([VOXELS, VOXELS + 1])


def written(
    folder: Path,
    changes: dict[str, str | None] | None = None,
    payload: bytes = RAW,
    *,
    magic: str = "NRRD0005",
    end: str = "\n",
    lines: Sequence[str] = (),
    last: str = "\n",
) -> Path:
    """A file with fields changed, or (None) left out, `lines` after them, and a blank line before the payload."""
    fields = FIELDS | (changes or {})
    text = [magic, *(f"{key}: {value}" for key, value in fields.items() if value is not None), *lines]
    path = folder / ("scan.nhdr" if fields.get("data file") else "scan.nrrd")
    path.write_bytes("".join(line + end for line in text).encode() + (last.encode() if last == "" else end.encode()) + payload)
    return path


def assert_as_written(scan: Scan, note: str = "") -> None:
    np.testing.assert_array_equal(scan.voxels, VOXELS[None])
    np.testing.assert_allclose(scan.affine[:3], PLACE, atol=1e-12)
    assert re.search(note, "; ".join(scan.notes)) if note else scan.notes == ()


@pytest.mark.parametrize(
    ("changes", "payload"),
    [
        ({}, RAW),
        ({"type": "signed  short int"}, RAW),
        ({"type": "INT16", "encoding": "RAW", "endian": "Little"}, RAW),
        ({"space": "LPS"}, RAW),
        ({"space directions": None, "spacedirections": "( 0.7, 0.1,0)(0,0.8,0)   (0,0,3)"}, RAW),
        ({"space origin": None, "spaceorigin": "(-16, -17.5, 100)"}, RAW),
        ({"kinds": None}, RAW),
        ({"kinds": "space space space"}, RAW),
        ({"kinds": "??? ??? ???", "centerings": "node node node"}, RAW),
        ({"centers": "cell cell cell", "thicknesses": "1 1 1", "labels": '"x" "y" "z"', "content": "a: b"}, RAW),
        (
            {
                "spacings": "nan nan nan",
                "axis mins": "nan nan nan",
                "measurement frame": "(0,1,0) (1,0,0) (0,0,1)",
                "old min": "0",
                "oldmax": "1",
            },
            RAW,
        ),
        ({"space units": '"mm" "mm" "mm"', "sample units": "HU", "space dimension": "3"}, RAW),
        ({"space units": '"millimeters" "" mm'}, RAW),
        ({"endian": "big"}, VOXELS.astype(">i2").tobytes()),
        ({"encoding": "gzip"}, gzip.compress(RAW)),
        ({"encoding": "gz"}, gzip.compress(RAW[:50]) + gzip.compress(RAW[50:])),
        ({"encoding": "bzip2"}, bz2.compress(RAW)),
        ({"encoding": "bz2"}, bz2.compress(RAW)),
        ({"encoding": "hex"}, RAW.hex().encode()),
        ({"encoding": "hex", "endian": "big"}, b"\n".join(re.findall(b".{1,37}", VOXELS.astype(">i2").tobytes().hex().upper().encode()))),
        ({"encoding": "ascii", "endian": None}, TEXT),
        ({"encoding": "text"}, TEXT.replace(b" ", b"\n")),
        ({"encoding": "txt"}, TEXT.replace(b" ", b", ")),
        ({"encoding": "ASCII", "line skip": "1"}, b"a title\n" + TEXT),
        ({"line skip": "2"}, b"one\ntwo\n" + RAW),
        ({"lineskip": "2", "byteskip": "3"}, b"one\ntwo\nabc" + RAW),
        ({"byte skip": "4"}, b"HEAD" + RAW),
        ({"byte skip": "-1"}, b"HEAD" + RAW),
        ({"byte skip": "-5"}, b"HEAD" + RAW + b"tail"),
        ({"encoding": "gzip", "line skip": "2"}, b"one\ntwo\n" + gzip.compress(RAW)),
        ({"encoding": "gzip", "byte skip": "4"}, gzip.compress(b"HEAD" + RAW)),
        ({"encoding": "gzip", "byte skip": "-1"}, gzip.compress(b"HEAD" + RAW)),
        ({"encoding": "bzip2", "byte skip": "-3"}, bz2.compress(b"HEAD" + RAW + b"xy")),
        ({"dimension": "4", "sizes": "1 5 4 3", "space directions": f"none {FIELDS['space directions']}", "kinds": None}, RAW),
    ],
)
def test_fields_and_encodings(tmp_path: Path, changes: dict[str, str | None], payload: bytes) -> None:
    path = written(tmp_path, changes, payload)
    assert_as_written(read_file(path))
    assert voxel_count(path) == 60


def test_lines_as_other_writers_end_and_fill_them(tmp_path: Path) -> None:
    assert_as_written(read_file(written(tmp_path, end="\r\n")))
    lines = ["# a comment: of no meaning", "Segment0_Name:=a: b := c", "key:=value"]
    path = written(tmp_path, lines=lines, magic="NRRD0001")
    assert_as_written(read_file(path))
    assert read_nrrd_header(path).key_values == {"Segment0_Name": "a: b := c", "key": "value"}
    assert_as_written(read_file(written(tmp_path, {"encoding": None}, lines=["encoding:raw", "content:xyz"])))
    assert_as_written(read_file(written(tmp_path, lines=["frob: 1"])), "that NRRD does not have are ignored: frob")
    assert_as_written(read_file(written(tmp_path, {"axis mins": "1 2 3"})), "axis mins and maxs are ignored")
    assert_as_written(read_file(written(tmp_path, {"spacings": "0.70711 0.8 3"})))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"space": None}, "space is None, so which way is left"),
        ({"space": None, "space dimension": "3"}, "space is None"),
        ({"space": "scanner-xyz"}, "space is 'scanner-xyz'"),
        ({"space": "3D-right-handed"}, "space is '3D-right-handed'"),
        ({"space": "left-posterior-superior-time"}, "has 4 dimensions"),
        ({"space dimension": "2"}, "another 'space dimension'"),
        ({"space directions": None, "spacings": "0.7 0.8 3"}, "has no 'space directions'"),
        ({"space origin": None}, "has no 'space origin'"),
        ({"space origin": "none"}, "do not fit it"),
        ({"space origin": "(nan,nan,nan)"}, "has no 'space origin'"),
        ({"space origin": "(1,2)"}, "do not fit it"),
        ({"space directions": "(0.7,0,0) (0,0.8,0) none"}, r"axis 3 \(of 3\) has none, so its voxels have no size"),
        ({"space directions": "(nan,nan,nan) (0,0.8,0) (0,0,3)"}, r"axis 1 \(of 5\) has none"),
        ({"space directions": "nan (0,0.8,0) (0,0,3)"}, r"axis 1 \(of 5\) has none"),
        ({"space directions": "(0.7,0,0) (0,0.8,0)"}, "a vector or 'none' for each of 3 axes"),
        ({"space directions": "(0.7,0,0) (0,0.8,0) (0,0,3) rest"}, "a vector or 'none' for each of 3 axes"),
        ({"space directions": "(0.7,0,0) (0,0.8,0) (0,0,x)"}, "do not fit it"),
        ({"space directions": "(0.7,0,0) (0,0.8,0) (0,0,nan)"}, "not finite"),
        ({"space directions": "(0.7,0,0) (0,0.8,0) (0,0,0)"}, "singular"),
        ({"spacings": "0.70711 0.8 5"}, "axis 3 has the spacing 5, and a step of 3"),
        ({"space units": '"mm" "mm" "cm"'}, "lengths are in 'cm' and 'mm'; allowed is one of"),
        ({"space units": '"parsec" "parsec" "parsec"'}, "lengths are in 'parsec'"),
        ({"units": '"um" "um" "um"'}, "which makes voxels of .* it is probably mm"),
        ({"kinds": "domain domain"}, "'kinds' has 2 words for 3 axes"),
        ({"kinds": "vector domain domain"}, "axis 1 is of kind 'vector'"),
        ({"kinds": "domain domain time"}, "axis 3 is of kind 'time'"),
        ({"dimension": "4"}, "'dimension' is 4, but 'sizes' has 3"),
        ({"dimension": None}, "must be whole numbers"),
        ({"sizes": "5 4 0"}, "an axis is empty"),
        ({"endian": None}, "endian is not given"),
        ({"endian": "middle"}, "endian is middle"),
        ({"encoding": None}, "encoding '' is not taken"),
        ({"type": "block"}, "type 'block' is not one number"),
        ({"type": "long"}, "type 'long' is not one number"),
        ({"line skip": "-1"}, "'line skip' is -1"),
        ({"line skip": "999"}, "skips 999 lines"),
        ({"byte skip": "x"}, "must be whole numbers"),
        ({"byte skip": "2"}, "is truncated: .* the file has 118"),
        ({"encoding": "gzip"}, "packed voxels are corrupt"),
        ({"encoding": "ascii"}, "voxels as text"),
    ],
)
def test_what_has_no_meaning_is_refused_by_name(tmp_path: Path, changes: dict[str, str | None], reason: str) -> None:
    with pytest.raises(VolumeError, match=reason):
        read_file(written(tmp_path, changes))


@pytest.mark.parametrize(
    ("lines", "magic", "reason"),
    [
        (["type: short"], "NRRD0005", "is there twice"),
        (["spacedirections: (1,0,0) (0,1,0) (0,0,1)"], "NRRD0005", "is there twice"),
        (["hello world"], "NRRD0005", "the line 'hello world' of the header is no 'field: value'"),
        ([], "NRRD0009", "is no NRRD"),
        ([], "NRRD", "is no NRRD"),
    ],
)
def test_broken_lines(tmp_path: Path, lines: list[str], magic: str, reason: str) -> None:
    with pytest.raises(VolumeError, match=reason):
        read_file(written(tmp_path, lines=lines, magic=magic))


def test_text_that_is_no_number_of_the_type_is_refused(tmp_path: Path) -> None:
    for text, reason in (
        (TEXT + b" 5", "promises 60 voxels as text, scan.nrrd has 61"),
        (b"1.5 " * 60, "no numbers of type int16"),
        (b"40000 " * 60, "from 40000 to 40000, beyond int16"),
        (b"x " * 60, "no numbers of type int16"),
    ):
        with pytest.raises(VolumeError, match=reason):
            read_file(written(tmp_path, {"encoding": "text"}, text))
    floats = read_file(written(tmp_path, {"encoding": "text", "type": "float"}, b"-1.5e2 " * 60)).voxels
    assert (floats.dtype, np.unique(floats).tolist()) == (np.dtype(np.float32), [-150.0])


@pytest.mark.parametrize("space", ["right-anterior-superior", "RAS", "left-anterior-superior", "LAS", "left-posterior-superior"])
def test_spaces_are_those_of_simpleitk(tmp_path: Path, space: str) -> None:
    path = written(tmp_path, {"space": space})
    image = sitk.ReadImage(str(path))
    scan = read_file(path)
    for index in ((0, 0, 0), (4, 0, 0), (0, 3, 0), (1, 2, 2)):
        place = scan.affine @ [*index[::-1], 1]
        np.testing.assert_allclose(place[:3], image.TransformIndexToPhysicalPoint(index), atol=1e-9)


def test_units_of_space_become_mm(tmp_path: Path) -> None:
    for unit, factor in (("cm", 0.1), ("um", 1e3), ("micrometer", 1e3), ("meters", 1e-3)):
        directions = " ".join(
            f"({','.join(str(float(n) * factor) for n in each.split(','))})" for each in ("0.7,0.1,0", "0,0.8,0", "0,0,3")
        )
        origin = f"({-16 * factor},{-17.5 * factor},{100 * factor})"
        scan = read_file(
            written(tmp_path, {"space units": f'"{unit}" "{unit}" "{unit}"', "space directions": directions, "space origin": origin})
        )
        np.testing.assert_allclose(scan.affine[:3], PLACE, rtol=1e-9)
        assert f"lengths converted from '{unit}' to mm" in scan.notes[0]


@pytest.mark.parametrize(
    ("sizes", "directions", "kinds", "axis"),
    [
        ("2 5 4 3", "none (0.7,0.1,0) (0,0.8,0) (0,0,3)", "list domain domain domain", -1),
        ("5 2 4 3", "(0.7,0.1,0) none (0,0.8,0) (0,0,3)", "domain vector domain domain", 2),
        ("5 4 3 2", "(0.7,0.1,0) (0,0.8,0) (0,0,3) none", "domain domain domain time", 0),
        ("5 4 3 2", "(0.7,0.1,0) (0,0.8,0) (0,0,3) (nan,nan,nan)", "domain domain domain none", 0),
        ("5 4 3 1 2", "(0.7,0.1,0) (0,0.8,0) (0,0,3) none none", "domain domain domain stub list", 0),
    ],
)
def test_an_axis_without_a_direction_is_channels(tmp_path: Path, sizes: str, directions: str, kinds: str, axis: int) -> None:
    changes = {"dimension": str(len(sizes.split())), "sizes": sizes, "space directions": directions, "kinds": kinds}
    scan = read_file(written(tmp_path, changes, np.ascontiguousarray(np.moveaxis(TWICE, 0, axis)).tobytes()))
    np.testing.assert_array_equal(scan.voxels, TWICE)
    np.testing.assert_allclose(scan.affine[:3], PLACE)


def test_time_is_an_axis_of_channels_and_colour_is_none(tmp_path: Path) -> None:
    changes = {
        "dimension": "4",
        "sizes": "5 4 3 2",
        "space": "left-posterior-superior-time",
        "space directions": "(0.7,0.1,0,0) (0,0.8,0,0) (0,0,3,0) (0,0,0,20)",
        "space origin": "(-16,-17.5,100,7)",
        "kinds": None,
    }
    scan = read_file(written(tmp_path, changes, TWICE.tobytes()))
    np.testing.assert_array_equal(scan.voxels, TWICE)
    np.testing.assert_allclose(scan.affine[:3], PLACE)
    colour = {"dimension": "4", "sizes": "2 5 4 3", "space directions": f"none {FIELDS['space directions']}"}
    for kind in ("RGB-color", "complex", "3-gradient"):
        with pytest.raises(VolumeError, match=f"(?i)axis 1 is of kind '{kind}', which is no axis of grey values"):
            read_file(written(tmp_path, colour | {"kinds": f"{kind} domain domain domain"}, TWICE.tobytes()))
    five = {"dimension": "5", "sizes": "2 2 5 4 3", "space directions": f"none none {FIELDS['space directions']}", "kinds": None}
    with pytest.raises(VolumeError, match="at most one beyond the three in space"):
        read_file(written(tmp_path, five, TWICE.tobytes() * 2))


@pytest.fixture
def parts(tmp_path: Path) -> Path:
    """A folder with the voxels in one file, in slices (also packed), and below it."""
    (tmp_path / "sub").mkdir()
    for name in ("all.raw", "sub/deep.raw", "a name.raw"):
        (tmp_path / name).write_bytes(RAW)
    for number, plane in enumerate(VOXELS):
        (tmp_path / f"s{number + 1:02}.raw").write_bytes(b"HD" + plane.tobytes())
        (tmp_path / f"p{number}.gz").write_bytes(gzip.compress(plane.tobytes()))
    return tmp_path


@pytest.mark.parametrize(
    ("name", "changes", "listed", "files"),
    [
        ("all.raw", {}, (), ["all.raw"]),
        ("./all.raw", {}, (), ["all.raw"]),
        ("sub/deep.raw", {}, (), ["sub/deep.raw"]),
        ("./sub/../all.raw", {}, (), ["all.raw"]),
        ("a name.raw", {}, (), ["a name.raw"]),
        ("s%02d.raw 1 3 1", {"byte skip": "2"}, (), ["s01.raw", "s02.raw", "s03.raw"]),
        ("./s%02d.raw 1 3 1 2", {"byte skip": "-1"}, (), ["s01.raw", "s02.raw", "s03.raw"]),
        ("s%02d.raw 1 3 1 3", {"byte skip": "2"}, (), ["s01.raw", "s02.raw", "s03.raw"]),
        ("p%d.gz 0 2 1", {"encoding": "gzip"}, (), ["p0.gz", "p1.gz", "p2.gz"]),
        ("LIST", {"byte skip": "2"}, ("s01.raw", "./s02.raw", "s03.raw"), ["s01.raw", "s02.raw", "s03.raw"]),
        ("LIST 2", {"encoding": "gzip"}, ("p0.gz", "p1.gz", "p2.gz"), ["p0.gz", "p1.gz", "p2.gz"]),
        ("LIST 3", {}, ("all.raw",), ["all.raw"]),
    ],
)
def test_data_files(parts: Path, name: str, changes: dict[str, str | None], listed: tuple[str, ...], files: list[str]) -> None:
    path = written(parts, {**changes, "data file": name}, b"", lines=listed, last="")
    assert_as_written(read_file(path))
    assert files_of(path) == [path, *(parts / file for file in files)]
    absolute = str(parts / files[0])
    if len(files) == 1:
        assert_as_written(read_file(written(parts, {"data file": absolute}, b"")))


def test_slices_in_falling_order(parts: Path) -> None:
    scan = read_file(written(parts, {"data file": "s%02d.raw 3 1 -1", "byte skip": "2"}, b""))
    np.testing.assert_array_equal(scan.voxels[0], VOXELS[::-1])


@pytest.mark.parametrize(
    ("name", "listed", "reason"),
    [
        ("../all.raw", (), "outside the header's folder"),
        ("/etc/hostname", (), "outside the header's folder"),
        ("gone.raw", (), "data file 'gone.raw' is missing"),
        ("sub", (), "data file 'sub' is missing"),
        ("LIST", (), "list of data files is empty"),
        ("LIST", ("all.raw",), "names 1 data files, its sizes .* want 3"),
        ("LIST 7", ("all.raw",), "each data file has '7' dimensions"),
        ("LIST", ("s01.raw", "../s02.raw", "s03.raw"), "outside the header's folder"),
        ("s%02d.raw 1 3", (), "one %d, then first, last and step"),
        ("s%02d.raw 1 3 0", (), "one %d, then first, last and step"),
        ("s%02d.raw 1 4 1", (), "data file 's04.raw' is missing"),
        ("s%02d%d.raw 1 3 1", (), "one %d, then first, last and step"),
    ],
)
def test_data_files_that_are_not_there(parts: Path, name: str, listed: tuple[str, ...], reason: str) -> None:
    with pytest.raises(VolumeError, match=reason):
        read_file(written(parts, {"data file": name}, b"", lines=listed, last=""))


def test_data_files_count_as_their_headers_whatever_they_are_called(parts: Path) -> None:
    for number in (1, 2, 3):
        (parts / f"s{number:02}.raw").rename(parts / f"plane.{number:03}")
    header = written(parts, {"data file": "plane.%03d 1 3 1", "byte skip": "2"}, b"")
    found = find_sources([parts])
    assert found.voxel_files == {header: [parts / f"plane.{number:03}" for number in (1, 2, 3)]}
    assert found.skipped == {"voxel file without a header": 3, ".gz": 3}
    assert [source.files() for source in found.sources] == [[header, *found.voxel_files[header]]]


def test_the_cases_of_data_files(shared_cases: Path) -> None:
    for name in ("dot.nhdr", "dot2.mhd"):
        voxels = read_file(shared_cases / "data_file_dot_slash/input" / name).voxels[0]
        assert (voxels.shape, voxels.min(), voxels.max(), voxels.sum()) == ((8, 40, 48), -1000, 747, -7521777)
        assert hashlib.sha256(voxels.astype("<i2").tobytes()).hexdigest().startswith("9e604d6d3ed19bd6")
    assert read_file(shared_cases / "data_file_dot_slash/input/subfolder.nhdr").voxels.shape == (1, 8, 40, 48)
