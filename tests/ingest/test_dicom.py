"""DICOM series: order, gaps, tilt, rescaling per slice, packing, and nothing of the patient anywhere."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from pydicom.uid import CTImageStorage, JPEG2000Lossless, JPEGLosslessSV1, JPEGLSLossless, RLELossless
from scipy.ndimage import map_coordinates

from augserver.cli import main

PATIENT = {
    "PatientID": "MRN4711",
    "PatientName": "Mustermann^Erika",
    "PatientBirthDate": "19560718",
    "AccessionNumber": "ACC99017",
    "StudyID": "ST-20-77",
}


@pytest.fixture
def voxels() -> np.ndarray:
    return np.random.default_rng(0).integers(-1000, 2000, (6, 36, 40)).astype(np.int16)


@pytest.mark.parametrize("syntax", [None, RLELossless, JPEG2000Lossless, JPEGLSLossless])
def test_packed_slices_come_back_exactly_and_in_order_of_position(
    tmp_path: Path, voxels: np.ndarray, write_series: Callable[..., Any], ingest_all: Callable[..., Any], syntax: str | None
) -> None:
    stored = (voxels + 1000).astype(np.uint16)
    files = write_series(tmp_path / "in", stored, intercepts=(-1000,) * 6, **({} if syntax is None else {"syntax": syntax}))
    for index, file in enumerate(files):  # names in another order than positions
        file.rename(file.with_name(f"{(index * 5) % 6}_again.dcm"))
    [outcome], dataset = ingest_all(tmp_path / "in")
    assert outcome.reason == ""
    volume = dataset.read("in")
    np.testing.assert_array_equal(volume.image[0], voxels)
    np.testing.assert_allclose(volume.info.affine[:3], [[0, 0, 0.5, 10], [0, 1, 0, -20], [3, 0, 0, 30]])


def test_lossless_jpeg_as_simpleitk_writes_it(tmp_path: Path, voxels: np.ndarray, ingest_all: Callable[..., Any]) -> None:
    stored = (voxels[:3] + 1000).astype(np.uint16)
    for index, plane in enumerate(stored):
        file = tmp_path / f"in/{index}.dcm"
        file.parent.mkdir(exist_ok=True)
        writer = sitk.ImageFileWriter()
        writer.SetFileName(str(file))
        writer.SetUseCompression(True)
        writer.SetCompressor("JPEG")
        writer.Execute(sitk.GetImageFromArray(plane[None]))
        data = pydicom.dcmread(file)  # SimpleITK's are captures
        assert data.file_meta.TransferSyntaxUID == JPEGLosslessSV1
        data.SOPClassUID, data.Modality, data.SeriesInstanceUID, data.StudyInstanceUID = CTImageStorage, "CT", "1.2.3", "1.2"
        data.ImageOrientationPatient, data.ImagePositionPatient, data.PixelSpacing = [1, 0, 0, 0, 1, 0], [0, 0, 2 * index], [1, 1]
        data.save_as(file)
    [outcome], dataset = ingest_all(tmp_path / "in")
    assert outcome.reason == ""
    np.testing.assert_array_equal(dataset.read("in").image[0], stored)


def test_every_slice_is_rescaled_by_its_own_slope_and_intercept(
    tmp_path: Path, voxels: np.ndarray, write_series: Callable[..., Any], ingest_all: Callable[..., Any]
) -> None:
    slopes, intercepts = (1, 2, 0.5, 1, 3, 0.25), (0, -10, 5, -1024, 0, 0.5)
    write_series(tmp_path / "in", voxels, slopes=slopes, intercepts=intercepts)
    _, dataset = ingest_all(tmp_path / "in")
    expected = voxels * np.reshape(slopes, (6, 1, 1)) + np.reshape(intercepts, (6, 1, 1))
    np.testing.assert_array_equal(dataset.read("in").image[0], expected.astype(np.float32))


@pytest.mark.parametrize(
    ("leave_out", "repeat", "message"),
    [
        ([3], None, r"between slice 3 of 5 \(instance 3, at 36\.00 mm\) and slice 4 of 5 \(instance 5, at 42\.00 mm\) are 6\.000 mm"),
        ([], 2, r"slice 3 of 7 \(instance 3, at 36\.00 mm\) and slice 4 of 7 \(instance 3, at 36\.00 mm\) lie in the same place"),
        ([1, 2, 3, 4], None, r"has 2 slice\(s\), too few for a volume: at least 3"),
    ],
)
def test_gaps_and_duplicates_are_named_by_number_and_place(
    tmp_path: Path,
    voxels: np.ndarray,
    write_series: Callable[..., Any],
    ingest_all: Callable[..., Any],
    leave_out: list[int],
    repeat: int | None,
    message: str,
) -> None:
    files = write_series(tmp_path / "in", voxels)
    for index in leave_out:
        files[index].unlink()
    if repeat is not None:
        again = bytearray(files[repeat].read_bytes())
        again[-1] ^= 1  # else it is an exact copy, which is left out
        (tmp_path / "in/again.dcm").write_bytes(again)
    [outcome], _ = ingest_all(tmp_path / "in")
    assert re.search(message, outcome.reason)


@pytest.mark.parametrize("tilt_deg", [-20.0, 14.0])
def test_a_tilted_gantry_is_straightened_and_every_point_keeps_its_hu(
    tmp_path: Path, write_series: Callable[..., Any], ingest_all: Callable[..., Any], tilt_deg: float
) -> None:
    z, y, x = np.indices((12, 36, 40))
    smooth = (300 * np.sin(z / 4) + 12 * y - 7 * x).astype(np.int16)
    shift = 3 * np.tan(np.radians(tilt_deg))
    write_series(tmp_path / "in", smooth, step_mm=(0.0, round(shift, 4), 3.0))
    [outcome], dataset = ingest_all(tmp_path / "in")
    assert f"sheared by {abs(tilt_deg):.1f} degrees" in outcome.notes[0]
    volume = dataset.read("in")
    affine = volume.info.affine[:3, :3]
    np.testing.assert_allclose((affine.T @ affine)[np.triu_indices(3, 1)], 0, atol=1e-9)
    stored = np.indices(volume.image.shape[1:]).reshape(3, -1)
    lps = affine @ stored + volume.info.affine[:3, 3:]
    # Where a voxel lies in the tilted series, from its header alone.
    plane = (lps[2] - 30) / 3
    places = np.stack([plane, lps[1] + 20 - plane * round(shift, 4), (lps[0] - 10) / 0.5])
    inside = ((places > -1e-6) & (places < np.array([[12], [36], [40]]) - 1 + 1e-6)).all(axis=0)
    assert inside.sum() > 0.9 * smooth.size
    expected = map_coordinates(smooth.astype(np.float64), places[:, inside], order=1, mode="nearest")
    np.testing.assert_allclose(volume.image[0].ravel()[inside], expected, atol=0.05)
    outside = ((places < -0.51) | (places > np.array([[12], [36], [40]]) - 0.49)).any(axis=0)
    assert (volume.image[0].ravel()[outside] == -1000).all()


@pytest.mark.parametrize("ids", ["auto", "hashed"])
def test_nothing_of_the_patient_reaches_store_report_or_log(
    tmp_path: Path, voxels: np.ndarray, write_series: Callable[..., Any], capsys: pytest.CaptureFixture[str], ids: str
) -> None:
    source = tmp_path / "Mustermann_Erika_MRN4711"
    write_series(source / "good", voxels, patient=PATIENT, name="erika_mustermann_")
    for name, kept in (("gap", [0, 1, 2, 4, 5]), ("cut", [0, 1, 2, 3, 4])):
        files = write_series(source / name, voxels, patient=PATIENT, series=f"1.9.{len(name)}.{kept[3]}", name="MRN4711_")
        for index in set(range(6)) - set(kept):
            files[index].unlink()
        if name == "cut":
            files[2].write_bytes(files[2].read_bytes()[:-50])
    out = tmp_path / "ds.zarr"
    outputs = []
    for options in (["--json"], []):
        with pytest.raises(SystemExit) as stop:
            main(["ingest", str(source), "--out", str(out), "--ids", ids, *options])
        assert stop.value.code == 3
        captured = capsys.readouterr()
        outputs.append(captured.out + captured.err)
    report = json.loads(outputs[0])
    assert (len(report["volumes"]), len(report["refused"])) == (1, 2)
    assert re.fullmatch(r"scan-[0-9a-f]{12}", report["volumes"][0]["id"])
    stored = [file.read_bytes() for file in out.rglob("*") if file.is_file()]
    names = [str(file.relative_to(out)).encode() for file in out.rglob("*")]
    words = ["MRN4711", "Mustermann", "Erika", "19560718", "ACC99017", "ST-20-77"]
    for text in [*stored, *names, *(output.encode() for output in outputs)]:
        for word in words:
            assert word.lower().encode() not in text.lower()


def test_names_that_are_not_the_patients_are_kept_unless_hashes_are_asked_for(
    tmp_path: Path, voxels: np.ndarray, write_series: Callable[..., Any], ingest_all: Callable[..., Any]
) -> None:
    write_series(tmp_path / "case_1", voxels, patient=PATIENT)
    ids = [ingest_all(tmp_path / "case_1", ids=ids, out=f"{ids}.zarr")[0][0].id for ids in ("auto", "names", "hashed")]
    assert ids[:2] == ["case_1", "case_1"]
    assert re.fullmatch(r"scan-[0-9a-f]{12}", ids[2])
    write_series(tmp_path / "elsewhere", voxels, patient=PATIENT)
    assert ingest_all(tmp_path / "elsewhere", ids="hashed", out="again.zarr")[0][0].id == ids[2]  # a hash of the content alone


def test_the_same_content_twice_is_one_volume_where_ids_are_hashes(
    tmp_path: Path, write_scan: Callable[..., Path], ingest_all: Callable[..., Any]
) -> None:
    for name in ("a", "b"):
        write_scan(tmp_path / "in" / name / "head.mha")
    outcomes, dataset = ingest_all(tmp_path / "in", ids="hashed")
    assert len(dataset.volumes) == 1
    assert outcomes[1].reason == "has the same content as scan 1; a volume is taken once"
