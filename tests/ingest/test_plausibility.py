"""A CT whose values cannot be HU is told, and every real CT stays quiet: as it is, cropped, padded, resampled, clipped at air."""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from scipy import ndimage

from augserver.cli import main
from augserver.ingest.plausibility import implausible, odd_slice
from augserver.ingest.readers.formats import read_file
from augserver.ingest.sources import find_sources
from augserver.store import Dataset

REAL = [
    "totalseg/example_ct.nii.gz",
    "totalseg/example_ct_sm.nii.gz",
    "cip_chest64/ct-64.nrrd",
    "elastix_lung/3DCT_lung.mha",
    "elastix_lung/3DCT_lung_baseline_small.mha",
    "innereye/scan_small.nii.gz",
    "ibsi_sts/STS_003_CT_image.nii.gz",
    "ibsi_sts/STS_042_CT_image.nii.gz",
    "crlm_1004/CRLM-CT-1004_ct_1.6x1.6x5.nii.gz",
    "niivue_mr_oblique/shear.nii.gz",
]
ZIPPED = ["crlm_1004/CRLM-CT-1004_dicom.zip", "totalseg/example_ct_dicom.zip", "cip_chest64/ct-64Dicom.zip"]
MR = ["totalseg/example_mr_sm.nii.gz", "ibsi_sts/STS_003_MR_T1_image.nii.gz", "niivue_mr_oblique/FLAIR.nii.gz"]


def torso(*, seed: int = 0, noise: float = 15.0) -> np.ndarray:
    """float64 (Z, Y, X) in HU: fat around muscle, liver, lungs, a spine; noise as a scanner's."""
    z, y, x = np.indices((16, 64, 80), float)
    voxels = np.full(z.shape, -1000.0)
    across = ((y - 32) / 26) ** 2 + ((x - 40) / 34) ** 2
    voxels[across < 1] = -100
    voxels[across < 0.75] = 45
    voxels[((y - 30) / 10) ** 2 + ((x - 24) / 9) ** 2 < 1] = 110
    voxels[(((y - 28) / 12) ** 2 + ((x - 56) / 9) ** 2 < 1) & (z > 7)] = -830
    voxels[((y - 46) / 5) ** 2 + ((x - 40) / 6) ** 2 < 1] = 300
    voxels[((y - 46) / 5) ** 2 + ((x - 40) / 6) ** 2 < 0.3] = 900
    voxels = ndimage.gaussian_filter(voxels, 0.6) + np.random.default_rng(seed).normal(0, noise, z.shape)
    return np.asarray(np.rint(np.maximum(voxels, -1024)))


def told(voxels: np.ndarray, modality: str = "ct") -> str:
    return " | ".join(implausible(np.asarray(voxels)[None], modality=modality, stem="scan"))


WRONG: dict[str, tuple[Callable[[np.ndarray], np.ndarray], str]] = {
    "no intercept": (lambda hu: (hu + 1024).astype(np.uint16), "none is below 0"),
    "no intercept, padded": (lambda hu: np.where(_rim(hu), -2000, hu + 1024).astype(np.int16), "none is below 0"),
    "raised, noise below 0": (lambda hu: hu + 1000, "lie near 1000|is below 0"),
    "lowered": (lambda hu: hu - 1024, "are below -1250|soft tissue lies near -1000"),
    "0 to 1": (lambda hu: (hu - hu.min()) / np.ptp(hu), "span less"),
    "-1 to 1": (lambda hu: np.clip(hu / 1000, -1, 1), "span less"),
    "z-scores": (lambda hu: (hu - hu.mean()) / hu.std(), "span less"),
    "8 bits": (lambda hu: np.clip((hu + 160) / 400 * 255, 0, 255).astype(np.uint8), "none is below"),
    "attenuation per cm": (lambda hu: 0.2 * (1 + hu / 1000), "span less"),
    "constant": (lambda hu: np.full_like(hu, 7), "every voxel has the same value"),
    "constant 0": (lambda hu: np.zeros_like(hu), "every voxel has the same value"),
    "bytes swapped": (lambda hu: hu.astype(np.int16).byteswap(), "beyond 4500|below -1250"),
    "unsigned": (lambda hu: hu.astype(np.int16).view(np.uint16), "none is below 0"),
    "times 10": (lambda hu: hu * 10, "beyond 4500|below -1250"),
    "times 2": (lambda hu: hu * 2, "below -1250"),
    "half": (lambda hu: hu / 2, "where air would be -1000|air was clipped"),
    "a fifth": (lambda hu: hu / 5, "where air would be -1000|air was clipped"),
    "a tenth": (lambda hu: hu / 10, "where air would be -1000|air was clipped"),
    "negated": (lambda hu: -hu, "lie near 1000"),
    "clipped to a window": (lambda hu: np.clip(hu, -200, 300), "air was clipped"),
    "one slice raised": (lambda hu: _slice_by(hu, lambda plane: plane + 1024), "slice 8 of"),
    "one slice blank": (lambda hu: _slice_by(hu, lambda plane: plane * 0), "slice 8 of"),
    "one slice swapped": (lambda hu: _slice_by(hu, lambda plane: plane.astype(np.int16).byteswap()), "slice 8 of"),
    "one slice doubled": (lambda hu: _slice_by(hu, lambda plane: plane * 2), "slice 8 of"),
    "one slice halved": (lambda hu: _slice_by(hu, lambda plane: plane / 2), "slice 8 of"),
    "last slice raised": (lambda hu: np.concatenate([hu[:-1], hu[-1:] + 1024]), "from slice 15 to slice 16"),
    "first slice raised": (lambda hu: np.concatenate([hu[:1] + 1024, hu[1:]]), "from slice 1 to slice 2"),
    "half of the slices raised": (lambda hu: np.concatenate([hu[:8], hu[8:] + 1024]), "from slice 8 to slice 9"),
}


def _rim(hu: np.ndarray) -> np.ndarray:
    _, y, x = np.indices(hu.shape, float)
    height, width = hu.shape[1:]
    return np.asarray(((y - height / 2) / height) ** 2 + ((x - width / 2) / width) ** 2 > 0.25)


def _slice_by(hu: np.ndarray, change: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    changed = hu.copy()
    changed[7] = change(hu[7])
    return changed


@pytest.mark.parametrize("name", WRONG)
@pytest.mark.parametrize("noise", [4.0, 15.0, 40.0])
def test_values_that_cannot_be_hu_are_told(name: str, noise: float) -> None:
    change, message = WRONG[name]
    found = told(change(torso(noise=noise)))
    assert re.search(message, found), found


RIGHT: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "as it is": lambda hu: hu,
    "int16": lambda hu: hu.astype(np.int16),
    "padded with -2000": lambda hu: np.where(_rim(hu), -2000, hu),
    "padded with -3024 and resampled": lambda hu: ndimage.zoom(np.where(_rim(hu), -3024, hu), 0.7, order=1),
    "padded with -1024": lambda hu: np.where(_rim(hu), -1024, hu),
    "metal": lambda hu: np.where(np.random.default_rng(1).random(hu.shape) < 0.005, 12000, hu),
    "contrast": lambda hu: np.where(hu > 80, hu + 250, hu),
    "clipped at air": lambda hu: np.clip(hu, -1000, 3071),
    "clipped from air to bone": lambda hu: np.clip(hu, -1000, 400),
    "turned upside down": lambda hu: hu[::-1, ::-1],
    "cropped to the body": lambda hu: hu[:, 18:46, 16:40],
    "cropped to the liver": lambda hu: hu[:, 22:38, 16:30],
    "blank slices at the ends": lambda hu: np.concatenate([np.full_like(hu[:2], -1024), hu, np.full_like(hu[:2], -1024)]),
    "one slice": lambda hu: hu[7:8],
    "two slices": lambda hu: hu[7:9],
    "mostly air": lambda hu: np.pad(hu, ((0, 0), (150, 150), (150, 150)), constant_values=-1000),
}


@pytest.mark.parametrize("name", RIGHT)
@pytest.mark.parametrize("noise", [4.0, 15.0, 40.0])
def test_right_values_stay_quiet(name: str, noise: float) -> None:
    assert told(RIGHT[name](torso(noise=noise))) == ""


def _real(shared_data: Path, name: str) -> np.ndarray:
    return np.asarray(read_file(shared_data / name).voxels[0], np.float64)


@pytest.mark.parametrize("name", REAL)
def test_real_scans_stay_quiet_whole_and_cropped(shared_data: Path, name: str) -> None:
    hu = _real(shared_data, name)
    assert told(hu) == ""
    rng = np.random.default_rng(0)
    quiet = tried = 0
    for _ in range(40):
        size = [min(length, int(rng.integers(12, 64))) for length in hu.shape]
        start = [int(rng.integers(0, length - part + 1)) for length, part in zip(hu.shape, size, strict=True)]
        crop = hu[tuple(slice(begin, begin + part) for begin, part in zip(start, size, strict=True))]
        if (np.abs(crop) < 200).mean() > 0.2:  # with the body in it
            tried += 1
            quiet += told(crop) == ""
    assert tried >= 3
    assert quiet >= 0.97 * tried, f"{tried - quiet} of {tried}"


@pytest.mark.parametrize("name", ZIPPED)
def test_real_series_stay_quiet(shared_data: Path, tmp_path: Path, name: str) -> None:
    with zipfile.ZipFile(shared_data / name) as archive:
        archive.extractall(tmp_path / "series")
    [source] = find_sources([tmp_path / "series"]).sources
    assert told(source.read("ct").voxels[0]) == ""


@pytest.mark.parametrize("name", [each for each in REAL if "shear" not in each])
@pytest.mark.parametrize(
    "wrong", ["no intercept", "lowered", "0 to 1", "bytes swapped", "times 10", "clipped to a window", "one slice raised"]
)
def test_real_scans_that_were_spoilt_are_told(shared_data: Path, name: str, wrong: str) -> None:
    assert told(WRONG[wrong][0](_real(shared_data, name)))


@pytest.mark.parametrize("name", MR)
def test_mr_taken_for_ct_is_told_and_mr_is_not(shared_data: Path, name: str) -> None:
    voxels = _real(shared_data, name)
    assert told(voxels, "mr") == ""
    if voxels.min() >= 0:
        assert "not a CT in HU" in told(voxels)


def test_a_slice_is_odd_by_what_lies_beside_it() -> None:
    hu = torso()
    assert odd_slice(hu) == ""
    assert odd_slice(hu[:, 20:44, 24:48]) == ""
    assert "slice 8 of 16 differs" in odd_slice(_slice_by(hu, lambda plane: plane + 1024))


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Callable[..., tuple[int, str]]:
    """run("ingest" or "info", ...): exit code and what was printed on stdout."""

    def call(*args: Any) -> tuple[int, str]:
        with pytest.raises(SystemExit) as stop:
            main([str(arg) for arg in args])
        return int(stop.value.code or 0), capsys.readouterr().out

    return call


def _save(path: Path, voxels: np.ndarray) -> None:
    path.parent.mkdir(exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(np.asarray(voxels, np.float32).T, np.diag([-1.0, -1, 3, 1])), path)


def test_the_report_and_info_show_range_and_notices_and_strict_refuses(tmp_path: Path, run: Any) -> None:
    _save(tmp_path / "src/right.nii.gz", torso())
    _save(tmp_path / "src/wrong.nii.gz", torso() + 1024)
    code, printed = run("ingest", tmp_path / "src", "--out", tmp_path / "ds.zarr")
    assert code == 0
    assert "notice wrong: values 0 to" in printed
    assert "notice right" not in printed
    for _ in range(2):  # the second is resumed
        code, printed = run("ingest", tmp_path / "src", "--out", tmp_path / "ds.zarr", "--json")
        report = {volume["id"]: volume for volume in json.loads(printed)["volumes"]}
        assert report["right"]["notices"] == []
        assert "none is below 0" in report["wrong"]["notices"][0]
    [range_] = report["right"]["intensity"]
    hu = torso()
    assert (range_["low"], range_["high"]) == (hu.min(), hu.max())
    for key, percentile in (("p1", 1), ("p50", 50), ("p99", 99)):
        assert range_[key] == pytest.approx(np.percentile(hu, percentile), abs=1)
    code, printed = run("info", tmp_path / "ds.zarr", "--json")
    shown = {volume["id"]: volume for volume in json.loads(printed)["volumes"]}
    assert shown["right"]["intensity"] == [range_]
    assert shown["wrong"]["notices"] == report["wrong"]["notices"]
    code, printed = run("info", tmp_path / "ds.zarr")
    assert f"{hu.min():.5g} .. {hu.max():.5g}" in printed
    assert "notice wrong: values 0 to" in printed
    code, printed = run("ingest", tmp_path / "src", "--out", tmp_path / "strict.zarr", "--strict")
    assert code != 0
    assert "1 in, 1 refused" in printed
    assert "none is below 0" in printed
    assert Dataset.open(tmp_path / "strict.zarr").volumes == ("right",)


def test_a_label_map_named_as_a_scan_is_told(tmp_path: Path, run: Any) -> None:
    _save(tmp_path / "src/ct.nii.gz", torso())
    _save(tmp_path / "src/organs.nii.gz", (torso(noise=0) > 0) * 1 + (torso(noise=0) > 250) * 1)
    code, printed = run("ingest", tmp_path / "src", "--out", tmp_path / "ds.zarr")
    assert (code, "notice organs: looks like a label map" in printed) == (0, True)
    code, printed = run("ingest", tmp_path / "src", "--out", tmp_path / "strict.zarr", "--strict")
    assert code != 0
    assert "refused organs: organs: looks like a label map" in printed


def test_the_shared_case(shared_cases: Path, tmp_path: Path, run: Any) -> None:
    _, printed = run("ingest", shared_cases / "ct_that_is_not_in_hu/input", "--out", tmp_path / "ds.zarr")
    for name in ("dicom_without_rescale", "constant", "plus1024", "unit01"):
        assert f"notice {name}: values " in printed
