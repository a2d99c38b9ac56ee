"""`--orientation lps` turns every scan and its label, `file` turns none; either way each voxel keeps its position in mm."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from augtrain.fit.training_run import _is_turned

from augserver.cli import main
from augserver.store import Dataset

LETTERS = ("LPS", "RAS", "LAS", "RPI", "PIR", "SAL", "ASR", "IPL")
_RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    def call(*args: Any) -> tuple[int, str]:
        with pytest.raises(SystemExit) as stop:
            main([str(arg) for arg in args])
        return int(stop.value.code or 0), capsys.readouterr().out

    return call


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    """src/LETTERS.nii.gz with src/LETTERS_seg.nii.gz, 11 x 7 x 5 voxels along the axes of the letters."""
    rng = np.random.default_rng(0)
    (tmp_path / "src").mkdir()
    for letters in LETTERS:
        start = nibabel.orientations.io_orientation(np.eye(4))
        wanted = nibabel.orientations.axcodes2ornt(tuple(letters))
        affine = nibabel.orientations.inv_ornt_aff(nibabel.orientations.ornt_transform(start, wanted), (11, 7, 5))
        affine = affine @ np.diag([0.5, 1.0, 3.0, 1.0])
        affine[:3, 3] += (10, -20, 30)
        assert "".join(nibabel.aff2axcodes(affine)) == letters
        voxels, ids = rng.integers(-1000, 2000, (11, 7, 5)).astype(np.int16), rng.integers(0, 3, (11, 7, 5)).astype(np.uint8)
        nibabel.save(nibabel.Nifti1Image(voxels, affine), tmp_path / f"src/{letters}.nii.gz")
        nibabel.save(nibabel.Nifti1Image(ids, affine), tmp_path / f"src/{letters}_seg.nii.gz")
    return tmp_path / "src"


@pytest.mark.parametrize("orientation", ["lps", "file"])
def test_voxels_keep_their_positions(scans: Path, tmp_path: Path, run: Any, orientation: str) -> None:
    code, printed = run(
        "ingest", scans, "--out", tmp_path / "ds.zarr", "--labels", "{id}_seg.nii.gz", "--orientation", orientation, "--json"
    )
    report = json.loads(printed)
    assert code == 0
    assert report["turned"] == ({} if orientation == "file" else {letters: 1 for letters in LETTERS if letters != "LPS"})
    dataset = Dataset.open(tmp_path / "ds.zarr")
    assert sorted(dataset.volumes) == sorted(LETTERS)
    for letters in LETTERS:
        volume = dataset.read(letters)
        assert volume.label is not None
        for stored, name in ((volume.image[0], letters), (volume.label, f"{letters}_seg")):
            original: Any = nibabel.load(scans / f"{name}.nii.gz")
            voxels = np.asarray(original.dataobj)
            if orientation == "file":
                np.testing.assert_array_equal(stored, voxels.T)
            index = np.minimum((3, 4, 2), np.subtract(stored.shape, 1))
            lps = volume.info.affine @ [*index, 1]
            back = np.rint(np.linalg.inv(_RAS_TO_LPS @ original.affine) @ lps)[:3].astype(int)
            assert stored[tuple(index)] == voxels[tuple(back)]
        assert _is_turned(volume.info.affine) is (orientation == "lps" or letters == "LPS")


def test_the_report_says_in_one_line_what_was_turned(scans: Path, tmp_path: Path, run: Any) -> None:
    _, printed = run("ingest", scans, "--out", tmp_path / "ds.zarr", "--labels", "{id}_seg.nii.gz")
    [line] = [line for line in printed.splitlines() if "were turned to LPS" in line]
    assert line.startswith("7 of 8 scans were turned to LPS (1 from ASR, 1 from IPL")
    assert "--orientation file" in line


def test_resampling_and_resuming_keep_the_orientation_apart(scans: Path, tmp_path: Path, run: Any) -> None:
    out = tmp_path / "ds.zarr"
    options = ("--labels", "{id}_seg.nii.gz", "--spacing-mm", "1.5")
    assert run("ingest", scans, "--out", out, "--orientation", "file", *options)[0] == 0
    info = Dataset.open(out).info("SAL")
    assert info.spacing_mm == pytest.approx((1.5, 1.5, 1.5))
    assert not _is_turned(info.affine)
    assert run("ingest", scans, "--out", out, *options)[0] != 0  # other axes


def test_organs_are_found_in_turned_axes_alone(scans: Path, tmp_path: Path, run: Any) -> None:
    out = tmp_path / "ds.zarr"
    assert run("ingest", scans / "RAS.nii.gz", "--out", out, "--orientation", "file", "--organs", "lungs")[0] == 64
    assert run("ingest", scans / "RAS.nii.gz", "--out", out, "--orientation", "file")[0] == 0
    assert run("label", out, "--organs", "lungs")[0] == 64
