"""Every NIfTI field that places voxels or axes, with the odd values that writers leave there: nibabel's reading, or a reason."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import re
import struct
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from augserver.errors import VolumeError
from augserver.geometry import affine_to_ras
from augserver.ingest.label_source import LabelMasks
from augserver.ingest.readers.formats import files_of, read_file
from augserver.ingest.scan import Scan

VOXELS = np.random.default_rng(0).integers(-1000, 2000, (5, 4, 3)).astype(np.int16)
AFFINE = np.eye(4)
AFFINE[:3, :3] = Rotation.from_euler("xyz", (20, 11, -6), degrees=True).as_matrix() * [0.7, 0.8, 3]
AFFINE[:3, 3] = -16, 17, 100
QUATERNION, PIXDIM, UNITS, SCALING, OFFSET, SFORM = 256, 76, 123, 112, 108, 280


def content(qform: int = 1, sform: int = 1, *, shift: float = 0.0, kind: Any = nibabel.Nifti1Image) -> bytearray:
    """A file of VOXELS by nibabel, with a qform that is `shift` mm from the sform."""
    image = kind(VOXELS, None)
    moved = AFFINE.copy()
    moved[:3, 3] += shift
    image.header.set_qform(moved, qform)
    image.header.set_sform(AFFINE, sform)
    return bytearray(image.to_bytes())


def edited(data: bytearray, *edits: tuple[int, bytes]) -> bytearray:
    for at, new in edits:
        data[at : at + len(new)] = new
    return data


def floats(*values: float) -> bytes:
    return struct.pack(f"<{len(values)}f", *values)


def short(value: int) -> bytes:
    return struct.pack("<h", value)


def read(folder: Path, data: bytes, name: str = "scan.nii", believe: str = "auto") -> Scan:
    (folder / name).write_bytes(data)
    return read_file(folder / name, believe)


def assert_as_written(scan: Scan, note: str = "") -> None:
    np.testing.assert_array_equal(scan.voxels[0].T, VOXELS)
    np.testing.assert_allclose(affine_to_ras(scan.affine), AFFINE, atol=1e-4)
    if note:
        assert re.search(note, "; ".join(scan.notes))
    else:
        assert scan.notes == ()


@pytest.mark.parametrize(
    ("forms", "edits", "note"),
    [
        ((1, 0), [(PIXDIM, floats(0))], ""),
        ((1, 1), [(PIXDIM, floats(0))], ""),
        ((1, 0), [(PIXDIM, floats(2))], "qfac .* is 2, must be 1 or -1: 1 taken"),
        ((1, 0), [(PIXDIM, floats(np.nan))], "qfac .* is nan"),
        ((0, 1), [(PIXDIM, floats(np.nan))], ""),
        ((0, 1), [(PIXDIM + 4, floats(0))], r"voxel sizes \(pixdim\) are 0, .* sform taken"),
        ((1, 1), [(PIXDIM + 4, floats(np.nan))], "the qform gives no voxel size: pixdim is nan.* sform taken"),
        ((0, 1), [(PIXDIM + 4, floats(-0.7))], "the sign is not used, as nibabel has it"),
        ((1, 0), [(PIXDIM + 4, floats(-0.7))], "the sign is not used"),
        ((1, 1), [(UNITS, b"\0")], ""),
        ((1, 1), [(UNITS, bytes([2 + 16]))], ""),
        ((1, 1), [(UNITS, b"\5")], "unknown unit of length 5: mm taken"),
        ((1, 1), [(SCALING, floats(0, 0))], ""),
        ((1, 1), [(SCALING, floats(np.nan, np.nan))], ""),  # as nibabel writes it
        ((1, 1), [(SCALING, floats(0, -1024))], "scl_slope is 0: the intercept -1024 is not added"),
        ((1, 1), [(SCALING, floats(np.nan, 7))], "scl_slope is nan: the intercept 7 is not added"),
        ((1, 1), [(SCALING, floats(np.inf, 0))], "scl_slope is inf: values taken as stored"),
        ((1, 1), [(PIXDIM + 12, floats(2.9))], r"sform and voxel sizes \(pixdim\) place a corner 0.20 mm apart: sform taken"),
        ((1, 1), [(124, floats(100, 50))], ""),  # cal_max, cal_min
        ((5, 5), [], ""),
        ((0, 4), [], ""),
        ((4, 0), [], ""),
        ((1, 1), [(SFORM, floats(*[0] * 12))], "the sform is damaged: the affine is singular.* qform taken"),
        ((1, 1), [(SFORM, floats(np.nan))], "the sform is damaged: .* not finite.* qform taken"),
        ((1, 1), [(QUATERNION, floats(2))], "the qform is damaged: .* sform taken"),
        ((1, 1), [(QUATERNION, floats(np.nan))], "the qform is damaged: .* sform taken"),
        ((1, 1), [(OFFSET, floats(0))], "vox_offset 0 lies within the header: voxels read from byte 352"),
        ((1, 1), [(OFFSET, floats(348))], "voxels read from byte 352"),
        ((1, 1), [(OFFSET, floats(352.5))], "352.5 is no whole number: voxels read from byte 352"),
        ((1, 1), [(344, b"ni1\0")], "the magic is that of a pair, the voxels follow the header"),
        ((1, 1), [(344, b"ni1\0"), (OFFSET, floats(0))], "voxels read from byte 352"),
        ((1, 1), [(0, struct.pack("<i", 0))], "sizeof_hdr is 0, must be 348"),
        ((1, 1), [(0, struct.pack("<i", 540))], "sizeof_hdr is 540, must be 348"),
        ((1, 1), [(40, short(7)), (48, short(1) * 4)], ""),
        ((1, 1), [(40, short(4)), (48, short(0))], "beyond the third has size 0"),
        ((1, 1), [(48, short(9) * 4)], ""),  # beyond dim[0]
        ((1, 1), [(72, short(64))], ""),  # bitpix contradicts the type
    ],
)
def test_an_odd_field_is_read_as_the_standard_has_it(
    tmp_path: Path, forms: tuple[int, int], edits: list[tuple[int, bytes]], note: str
) -> None:
    assert_as_written(read(tmp_path, edited(content(*forms), *edits)), note)


@pytest.mark.parametrize(
    ("forms", "edits", "reason"),
    [
        ((0, 0), [], "neither qform nor sform is set"),
        ((1, 0), [(PIXDIM + 4, floats(0))], "qform gives no voxel size: pixdim is 0"),
        ((1, 0), [(PIXDIM + 8, floats(np.inf))], "qform gives no voxel size"),
        ((0, 1), [(PIXDIM + 4, floats(1.4))], r"sform and voxel sizes \(pixdim\) place a corner 2.\d+ mm apart.*--nifti-affine"),
        ((1, 1), [(PIXDIM + 4, floats(1.4))], "contradicts itself"),
        ((1, 0), [(QUATERNION, floats(1.1, 0, 0))], "qform is damaged: the quaternion"),
        ((1, 0), [(QUATERNION, floats(np.nan))], "qform is damaged: the quaternion"),
        ((0, 1), [(SFORM, floats(*[0] * 12))], "sform is damaged: the affine is singular"),
        ((1, 1), [(UNITS, b"\1")], "lengths are in 'm', which makes voxels of .* it is probably mm"),
        ((1, 1), [(SCALING, floats(2, np.nan))], "scaling is damaged: slope 2, intercept nan"),
        ((1, 6), [], "sform_code 6, known are 0 to 5"),
        ((-1, 1), [], "qform_code -1"),
        ((1, 1), [(OFFSET, floats(-1))], "its voxels begin at byte -1"),
        ((1, 1), [(OFFSET, floats(np.nan))], "its voxels begin at byte nan"),
        ((1, 1), [(OFFSET, floats(1e9))], "begin at byte 1000000000, beyond the end"),
        ((1, 1), [(OFFSET, floats(360))], "is truncated"),
        ((1, 1), [(344, b"n+3\0")], "is not NIfTI: its magic is b'n.3"),
        ((1, 1), [(344, bytes(4))], "no NIfTI magic; it may be ANALYZE 7.5"),
        ((1, 1), [(40, short(0))], "has 0 axes"),
        ((1, 1), [(40, short(2))], "has 2 axes"),
        ((1, 1), [(70, short(32))], r"type complex64 \(colour or complex\)"),
        ((1, 1), [(70, short(128))], r"type RGB \(colour or complex\)"),
        ((1, 1), [(70, short(1536))], r"datatype 1536 \(float128\) are not taken"),
        ((1, 1), [(70, short(1))], r"datatype 1 \(binary\) are not taken"),
        ((1, 1), [(70, short(3))], "unknown NIfTI datatype 3"),
        ((1, 1), [(68, short(3001))], "is CIFTI"),
    ],
)
def test_what_has_no_meaning_is_refused_by_name(
    tmp_path: Path, forms: tuple[int, int], edits: list[tuple[int, bytes]], reason: str
) -> None:
    data = content(1, 1)
    edited(data, (252, struct.pack("<2h", *forms)), *edits)
    with pytest.raises(VolumeError, match=reason):
        read(tmp_path, data)


@pytest.mark.parametrize(("value", "expected"), [(0, 1), (1, 1), (-1, -1), (-2, -1), (0.5, 1)])
def test_the_sign_of_qfac_turns_the_third_axis(tmp_path: Path, value: float, expected: int) -> None:
    affine = affine_to_ras(read(tmp_path, edited(content(1, 0), (PIXDIM, floats(value)))).affine)
    np.testing.assert_allclose(affine[:3, 2], AFFINE[:3, 2] * expected, atol=1e-4)


@pytest.mark.parametrize("excess", [1e-7, 1e-6, 1e-5, 5e-4])
def test_a_quaternion_that_rounding_made_too_long_is_a_half_turn(tmp_path: Path, excess: float) -> None:
    scan = read(tmp_path, edited(content(1, 0), (QUATERNION, floats(0, 0, 1 + excess))))
    sizes = np.linalg.norm(AFFINE[:3, :3], axis=0)
    np.testing.assert_allclose(affine_to_ras(scan.affine)[:3, :3], np.diag(sizes * [-1, -1, 1]), atol=1e-3)
    assert len(scan.notes) == (excess > 2e-7)


def test_metres_and_micrometres_become_mm(tmp_path: Path) -> None:
    for code, factor in ((1, 1e-3), (3, 1e3)):
        image = nibabel.Nifti1Image(VOXELS, np.diag([factor, factor, factor, 1]) @ AFFINE)
        image.set_qform(image.affine, 1)
        data = edited(bytearray(image.to_bytes()), (UNITS, bytes([code])))
        scan = read(tmp_path, data)
        np.testing.assert_allclose(affine_to_ras(scan.affine), AFFINE, atol=1e-4)
        assert "to mm, as the header asks" in scan.notes[-1]


@pytest.mark.parametrize("forms", [(q, s) for q in (1, 2, 3, 4) for s in (1, 2, 3, 4)])
def test_forms_that_disagree_are_told_and_the_option_decides(tmp_path: Path, forms: tuple[int, int]) -> None:
    data = content(*forms, shift=5.0)
    if forms[1] == 1:  # nibabel and SimpleITK agree
        assert_as_written(read(tmp_path, data), "sform and qform place a corner 8.66 mm apart: sform taken")
    else:
        with pytest.raises(VolumeError, match=r"sform and qform place a corner 8\.66 mm apart.*pass --nifti-affine sform or qform"):
            read(tmp_path, data)
    assert_as_written(read(tmp_path, data, believe="sform"), "8.66 mm apart: sform taken")
    scan = read(tmp_path, data, believe="qform")
    np.testing.assert_allclose(affine_to_ras(scan.affine)[:3, 3], AFFINE[:3, 3] + 5, atol=1e-3)
    assert scan.notes == ("qform and sform place a corner 8.66 mm apart: qform taken",)


def test_the_option_is_no_obstacle_where_there_is_no_choice(tmp_path: Path) -> None:
    assert_as_written(read(tmp_path, content(0, 1), believe="qform"), "no qform is set: sform taken")
    assert_as_written(read(tmp_path, content(1, 0), believe="sform"))
    assert_as_written(read(tmp_path, content(1, 1), believe="qform"))
    wrong_size = edited(content(0, 1), (PIXDIM + 4, floats(1.4)))
    assert_as_written(read(tmp_path, wrong_size, believe="sform"), r"sform and voxel sizes \(pixdim\) place .* sform taken")


def test_what_headers_of_masks_say_is_told_once(tmp_path: Path) -> None:
    for class_id, inside in ((1, VOXELS > 0), (2, VOXELS <= 0)):
        mask = nibabel.Nifti1Image(inside.astype(np.uint8), AFFINE)
        (tmp_path / f"{class_id}.nii").write_bytes(edited(bytearray(mask.to_bytes()), (OFFSET, floats(0))))
    grid = LabelMasks({1: tmp_path / "1.nii", 2: tmp_path / "2.nii"}).read(overlap="order", nifti_affine="auto")
    told = [note for note in grid.notes if note.startswith("label: ")]
    assert told == ["label: vox_offset 0 lies within the header: voxels read from byte 352"]


def test_without_the_extension_bytes_the_voxels_follow_the_header_at_once(tmp_path: Path) -> None:
    for offset in (0, 348):
        data = edited(content(), (OFFSET, floats(offset)))
        assert_as_written(read(tmp_path, data[:348] + data[352:]), "voxels read from byte 348")
    with pytest.raises(VolumeError, match=r"begin at byte 0 \(vox_offset\), within the header .* leave 2 bytes between"):
        read(tmp_path, edited(content(), (OFFSET, floats(0)))[:-2])


def test_an_extension_and_a_gap_before_the_voxels_are_skipped(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(VOXELS, AFFINE)
    image.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", b"a long note " * 9))
    assert_as_written(read(tmp_path, image.to_bytes()))
    data = edited(content(), (OFFSET, floats(384)))
    assert_as_written(read(tmp_path, data[:352] + bytes(32) + data[352:]))


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8"])
def test_every_type_in_either_order_of_bytes(tmp_path: Path, order: str, kind: Any, dtype: str) -> None:
    voxels = np.arange(60).reshape(5, 4, 3).astype(dtype)
    image = kind(voxels, AFFINE, header=kind.header_class(endianness=order), dtype=voxels.dtype)
    scan = read(tmp_path, image.to_bytes())
    np.testing.assert_array_equal(scan.voxels[0].T, voxels)
    assert scan.voxels.dtype.kind + str(scan.voxels.dtype.itemsize) == dtype


def test_the_guard_of_nifti_2_tells_a_copy_in_text_mode(tmp_path: Path) -> None:
    data = content(kind=nibabel.Nifti2Image)
    assert_as_written(read(tmp_path, data))
    assert_as_written(read(tmp_path, edited(content(kind=nibabel.Nifti2Image), (8, bytes(4)))), "guard line ends are not set")
    for sent in (data.replace(b"\r\n\x1a\n", b"\n\x1a\n", 1), data.replace(b"\r\n\x1a\n", b"\r\r\n\x1a\r\n", 1)):
        with pytest.raises(VolumeError, match="a copy in text mode has changed line ends"):
            read(tmp_path, sent)


@pytest.mark.parametrize(
    "suffixes", [(".hdr", ".img"), (".HDR", ".IMG"), (".hdr", ".IMG"), (".Hdr", ".img"), (".hdr", ".img.gz"), (".hdr.bz2", ".img.bz2")]
)
def test_pairs_find_each_other_whatever_the_case_of_their_suffixes(tmp_path: Path, suffixes: tuple[str, str]) -> None:
    nibabel.Nifti1Pair(VOXELS, AFFINE).to_filename(tmp_path / "a.hdr")
    pack = {"gz": gzip.compress, "z2": bz2.compress}
    header, image = (
        pack.get(suffix[-2:], bytes)((tmp_path / name).read_bytes()) for suffix, name in zip(suffixes, ("a.hdr", "a.img"), strict=True)
    )
    (tmp_path / "pair").mkdir()
    names = [tmp_path / "pair" / f"Scan.hdr.1{suffix}" for suffix in suffixes]
    for file, data in zip(names, (header, image), strict=True):
        file.write_bytes(data)
    assert_as_written(read_file(names[0]))
    assert files_of(names[0]) == names
    names[1].unlink()
    with pytest.raises(VolumeError, match="its voxels are missing"):
        read_file(names[0])


def test_a_pair_with_an_offset_or_the_magic_of_a_single_file(tmp_path: Path) -> None:
    nibabel.Nifti1Pair(VOXELS, AFFINE).to_filename(tmp_path / "a.hdr")
    header, image = bytearray((tmp_path / "a.hdr").read_bytes()), (tmp_path / "a.img").read_bytes()
    (tmp_path / "a.img").write_bytes(bytes(16) + image)
    assert_as_written(read(tmp_path, edited(bytearray(header), (OFFSET, floats(16))), "a.hdr"))
    (tmp_path / "a.img").write_bytes(image)
    single = edited(bytearray(header), (OFFSET, floats(352)), (344, b"n+1\0"))
    assert_as_written(read(tmp_path, single, "a.hdr"), "magic is that of a single file, the voxels are in the .img")


def test_the_packing_is_what_the_content_says(tmp_path: Path) -> None:
    plain = bytes(content())
    for name in ("a.nii", "a.nii.gz", "a.nii.bz2", "A.NII.GZ"):
        for data in (plain, gzip.compress(plain), bz2.compress(plain)):
            assert_as_written(read(tmp_path, data, name))
        with pytest.raises(VolumeError, match=r"(?i)a\.nii"):
            read(tmp_path, bz2.compress(plain)[:-9], name)
    with pytest.raises(VolumeError, match="is packed by zstd, which is not read; unpack it with `unzstd`"):
        read(tmp_path, b"\x28\xb5\x2f\xfd" + plain, "a.nii.zst")


@pytest.mark.parametrize("value", [1e200, 1e308, -1e308])
def test_lengths_beyond_any_patient_are_refused_without_a_warning(tmp_path: Path, value: float) -> None:
    for at in (400, 408, 416):  # srow_x of NIfTI-2
        with pytest.raises(VolumeError, match="sform"):
            read(tmp_path, edited(content(0, 1, kind=nibabel.Nifti2Image), (at, struct.pack("<d", value))))


def test_the_case_of_qfac_0(shared_cases: Path) -> None:
    for name in ("both", "qonly", "sonly"):
        scan = read_file(shared_cases / f"nifti_qfac_zero/input/{name}.nii.gz")
        voxels = scan.voxels[0]
        assert (voxels.shape, voxels.min(), voxels.max(), voxels.sum()) == ((8, 40, 48), -1000, 747, -7521777)
        assert hashlib.sha256(voxels.astype("<i2").tobytes()).hexdigest().startswith("9e604d6d3ed19bd6")
        expected = [[-0.7, 0, 0, 16], [0, -0.8, 0, 17.5], [0, 0, 3, 100], [0, 0, 0, 1]]
        np.testing.assert_allclose(affine_to_ras(scan.affine), expected, atol=1e-4)
