"""What a dataset, a header, a JSON or a name says of the modality is believed against the default, and told against the user."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from augserver.cli import main
from augserver.ingest.layouts.dataset_json import DatasetJson

AFFINE = np.diag([-1.0, -1.0, 3.0, 1.0])


def _voxels(kind: str) -> np.ndarray:
    rng = np.random.default_rng(len(kind))
    if kind in ("label", "mask"):
        return rng.integers(0, 3 if kind == "label" else 2, (9, 7, 5)).astype(np.uint8)
    return rng.normal(-200, 300, (9, 7, 5)).astype(np.int16)


def _save(path: Path, kind: str = "scan", description: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nibabel.Nifti1Image(_voxels(kind), AFFINE)
    image.header["descrip"] = description
    nibabel.save(image, path)
    return path


def _msd(root: Path, content: dict[str, Any]) -> None:
    _save(root / "imagesTr/a.nii.gz")
    _save(root / "labelsTr/a.nii.gz", "label")
    (root / "dataset.json").write_text(json.dumps({"labels": {"0": "background", "1": "x", "2": "y"}} | content))


def _nnunet(root: Path, content: dict[str, Any]) -> None:
    _save(root / "imagesTr/a_0000.nii.gz")
    _save(root / "labelsTr/a.nii.gz", "label")
    (root / "dataset.json").write_text(json.dumps({"labels": {"background": 0, "x": 1, "y": 2}} | content))


def _itk(path: Path, key: str, value: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(sitk.GetImageFromArray(_voxels("scan").T), str(path))
    content = path.read_bytes()
    if path.suffix == ".mha":
        content = content.replace(b"ElementDataFile", f"{key} = {value}\nElementDataFile".encode())
    else:
        head, _, voxels = content.partition(b"\n\n")
        content = head + f"\n{key}:={value}\n\n".encode() + voxels
    path.write_bytes(content)


def _sidecar(root: Path, modality: str) -> None:
    _save(root / "x.nii.gz")
    (root / "x.json").write_text(json.dumps({"Modality": modality}))


def _brats(root: Path) -> None:
    for name in ("t1", "t1ce", "t2", "flair"):
        _save(root / f"A/A_{name}.nii.gz")
    _save(root / "A/A_seg.nii.gz", "label")


def _totalsegmentator(root: Path, stem: str) -> None:
    _save(root / f"s1/{stem}.nii.gz")
    _save(root / "s1/segmentations/liver.nii.gz", "mask")


SURE: dict[str, tuple[Callable[[Path], Any], str]] = {  # builder, modality that it says
    "decathlon MRI": (lambda root: _msd(root, {"modality": {"0": "MRI"}}), "mr"),
    "decathlon list": (lambda root: _msd(root, {"modality": ["FLAIR"]}), "mr"),
    "decathlon text": (lambda root: _msd(root, {"modality": "MR"}), "mr"),
    "decathlon T2": (lambda root: _msd(root, {"modality": {"0": "T2"}}), "mr"),
    "decathlon CT": (lambda root: _msd(root, {"modality": {"0": "CT"}}), "ct"),
    "nnunet T1": (lambda root: _nnunet(root, {"channel_names": {"0": "T1"}}), "mr"),
    "nnunet T1w": (lambda root: _nnunet(root, {"channel_names": {"0": "T1w"}}), "mr"),
    "nnunet CT": (lambda root: _nnunet(root, {"channel_names": {"0": "CT"}}), "ct"),
    "totalsegmentator mri": (lambda root: _totalsegmentator(root, "mri"), "mr"),
    "totalsegmentator ct": (lambda root: _totalsegmentator(root, "ct"), "ct"),
    "brats": (_brats, "mr"),
    "metaimage": (lambda root: _itk(root / "x.mha", "Modality", "MET_MOD_MR"), "mr"),
    "nrrd": (lambda root: _itk(root / "x.nrrd", "modality", "MR"), "mr"),
    "diffusion nrrd": (lambda root: _itk(root / "x.nrrd", "modality", "DWMRI"), "mr"),
    "sidecar": (lambda root: _sidecar(root, "MR"), "mr"),
    "echo time": (lambda root: _save(root / "x.nii", description="TE=2.4;Time=101010.1"), "mr"),
}
SILENT: dict[str, Callable[[Path], Any]] = {
    "decathlon that says nothing": lambda root: _msd(root, {}),
    "nnunet noNorm": lambda root: _nnunet(root, {"channel_names": {"0": "noNorm"}}),
    "nnunet CT and a map": lambda root: _nnunet(root, {"channel_names": {"0": "CT"}}),
    "sidecar of CT": lambda root: _sidecar(root, "CT"),
    "a plain file": lambda root: _save(root / "direct.nii.gz"),
    "actor": lambda root: _save(root / "actor_mrs_smith.nii.gz"),
}


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Callable[..., tuple[int, dict[str, Any]]]:
    def call(source: Path, *options: str) -> tuple[int, dict[str, Any]]:
        with pytest.raises(SystemExit) as stop:
            main(["ingest", str(source), "--out", str(tmp_path / "out.zarr"), "--json", *options])
        return int(stop.value.code or 0), json.loads(capsys.readouterr().out)

    return call


@pytest.mark.parametrize("name", SURE)
def test_what_is_said_refuses_against_the_default_and_is_told_against_the_user(tmp_path: Path, run: Any, name: str) -> None:
    build, says = SURE[name]
    build(tmp_path / "src")
    code, report = run(tmp_path / "src")
    if says == "ct":
        assert code == 0
    else:
        assert code != 0
        assert [refused["reason"].count("is MR and not CT") for refused in report["refused"]] == [1]
        assert "pass --modality mr" in report["refused"][0]["reason"]
    other = {"ct": "mr", "mr": "ct"}[says]
    for modality in ("ct", "mr"):
        code, report = run(tmp_path / "src", "--modality", modality, "--out", str(tmp_path / f"{modality}.zarr"))
        assert code == 0
        told = [notice for volume in report["volumes"] for notice in volume["notices"] if "may be" in notice]
        assert len(told) == (modality == other)


@pytest.mark.parametrize("name", SILENT)
def test_where_nothing_is_said_nothing_is_told(tmp_path: Path, run: Any, name: str) -> None:
    SILENT[name](tmp_path / "src")
    code, report = run(tmp_path / "src")
    assert code == 0
    assert not [notice for volume in report["volumes"] for notice in volume["notices"] if "may be" in notice]


@pytest.mark.parametrize("name", ["mri.nii.gz", "sub-01_T1w.nii.gz", "brain_flair.nii"])
def test_a_name_is_told_and_refuses_with_strict(tmp_path: Path, run: Any, name: str) -> None:
    _save(tmp_path / "src" / name)
    code, report = run(tmp_path / "src")
    assert code == 0
    assert "may be MR and not CT: its name says so" in report["volumes"][0]["notices"]
    assert run(tmp_path / "src", "--strict", "--out", str(tmp_path / "strict.zarr"))[0] != 0


def test_the_collections_that_a_layout_is_called_after(tmp_path: Path, run: Any) -> None:
    for case in ("case_00000", "case_00001"):
        _save(tmp_path / "src" / case / "imaging.nii.gz")
        _save(tmp_path / "src" / case / "segmentation.nii.gz", "label")
    code, report = run(tmp_path / "src", "--layout", "kits", "--modality", "mr")
    assert code == 0
    assert ["may be CT and not MR: --layout kits holds CT" in volume["notices"] for volume in report["volumes"]] == [True, True]
    assert run(tmp_path / "src", "--modality", "mr", "--out", str(tmp_path / "auto.zarr"))[1]["volumes"][0]["notices"] == []


@pytest.mark.parametrize(
    ("content", "modality"),
    [
        ({"modality": {"0": "MRI"}}, "mr"),
        ({"modality": {"0": "FLAIR", "1": "T1w", "2": "t1gd", "3": "T2w"}}, "mr"),
        ({"modality": {"0": "ADC", "1": "T2"}}, "mr"),
        ({"modality": {"0": "CT"}}, "ct"),
        ({"modality": {"0": "CT", "1": "PET"}}, "ct"),
        ({"channel_names": {"0": "CBCT"}}, "ct"),
        ({"channel_names": {"0": "cineMRI"}}, "mr"),
        ({"channel_names": {"0": "zscore"}}, ""),
        ({"channel_names": {"0": "CT", "1": "MR"}}, ""),
        ({"modality": 3}, ""),
        ({}, ""),
    ],
)
def test_the_words_of_dataset_json(content: dict[str, Any], modality: str) -> None:
    assert DatasetJson(content).modality[0] == modality


def test_the_shared_case(tmp_path: Path, run: Any) -> None:
    case = Path("../shared/cases/ingest/modality_contradicted_by_the_dataset/input")
    if not case.is_dir():
        pytest.skip("the real scans of shared/data are not here")
    for name in ("msd", "totalsegmentator_mri"):
        code, report = run(case / name, "--out", str(tmp_path / f"{name}.zarr"))
        assert (code != 0, report["volumes"]) == (True, [])
