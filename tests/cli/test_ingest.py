"""`augserver ingest`: reports, exit codes, resuming, and what is left behind when it is stopped."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from augserver.cli import main
from augserver.store import Dataset


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    """src/{a,b,c}.nii.gz with labels src/{a,b,c}_seg.nii.gz, 11 x 7 x 5 voxels (x, y, z)."""
    folder = tmp_path / "src"
    folder.mkdir()
    for seed, name in enumerate("abc"):
        rng = np.random.default_rng(seed)
        affine = np.diag([-0.5, -1.0, 3.0, 1.0])
        nibabel.save(nibabel.Nifti1Image(rng.integers(-1000, 2000, (11, 7, 5)).astype(np.int16), affine), folder / f"{name}.nii.gz")
        nibabel.save(nibabel.Nifti1Image(rng.integers(0, 3, (11, 7, 5)).astype(np.uint8), affine), folder / f"{name}_seg.nii.gz")
    return folder


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """run("ingest", ...): exit code, stdout, stderr."""

    def call(*args: Any) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as stop:
            main([str(arg) for arg in args])
        captured = capsys.readouterr()
        return int(stop.value.code or 0), captured.out, captured.err

    return call


def test_all_in_is_0_and_the_report_says_what_is_in(scans: Path, tmp_path: Path, run: Callable[..., Any]) -> None:
    out = tmp_path / "ds.zarr"
    (tmp_path / "classes.toml").write_text('1 = "liver"\n2 = "bone"')
    code, stdout, stderr = run("ingest", scans, "--out", out, "--labels", "{id}_seg.nii.gz", "--classes", tmp_path / "classes.toml")
    dataset = Dataset.open(out)
    assert (code, stderr) == (0, "")
    assert dataset.volumes == ("a", "b", "c")
    assert dataset.classes == {0: "background", 1: "liver", 2: "bone"}
    assert "1x5x7x11" in stdout
    assert "3, 1, 0.5" in stdout
    assert f"3 volumes, fingerprint {dataset.fingerprint}" in stdout
    assert "3 in, 0 refused" in stdout


def test_some_refused_is_3_and_nothing_usable_is_2(scans: Path, tmp_path: Path, run: Callable[..., Any]) -> None:
    for file in scans.glob("*_seg*"):
        file.unlink()
    (scans / "b.nii.gz").write_bytes((scans / "b.nii.gz").read_bytes()[:-20])
    code, stdout, _ = run("ingest", scans, "--out", tmp_path / "some.zarr")
    assert code == 3
    assert "refused b: b.nii.gz: the packed stream is truncated or corrupt" in stdout
    assert Dataset.open(tmp_path / "some.zarr").volumes == ("a", "c")
    code, stdout, _ = run("ingest", scans / "b.nii.gz", "--out", tmp_path / "none.zarr")
    assert code == 2
    assert "0 in, 1 refused" in stdout
    (tmp_path / "empty").mkdir()
    code, _, stderr = run("ingest", tmp_path / "empty", "--out", tmp_path / "none.zarr")
    assert code == 2
    assert "no scan in" in stderr
    code, stdout, _ = run("ingest", tmp_path / "empty", "--out", tmp_path / "none.zarr", "--json")
    report = json.loads(stdout)
    assert (code, report["volumes"], report["refused"], report["fingerprint"]) == (2, [], [], "")
    assert not (tmp_path / "none.zarr").exists()


def test_json_report(scans: Path, tmp_path: Path, run: Callable[..., Any]) -> None:
    (scans / "broken.nrrd").write_text("no")
    (scans / "notes.txt").write_text("no")
    code, stdout, stderr = run("ingest", scans, "--out", tmp_path / "ds.zarr", "--spacing-mm", "3,2,2", "--json")
    report = json.loads(stdout)
    assert (code, stderr) == (3, "")
    assert [volume["id"] for volume in report["volumes"]] == ["a", "a_seg", "b", "b_seg", "c", "c_seg"]
    assert report["volumes"][0] == {
        "id": "a",
        "shape": [1, 5, 4, 3],
        "dtype": "float32",
        "spacing_mm": [3.0, 2.0, 2.0],
        "class_voxels": {},
        "intensity": report["volumes"][0]["intensity"],
        "notices": [],
        "converted": ["resampled from 3x1x0.5 to 3x2x2 mm"],
        "resumed": False,
    }
    assert report["refused"] == [{"id": "broken", "reason": "broken.nrrd: is no NRRD: its first line is not 'NRRD0001' to 'NRRD0005'"}]
    assert report["skipped_files"] == {".txt": 1}
    assert report["fingerprint"] == Dataset.open(tmp_path / "ds.zarr").fingerprint


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--spacing-mm", "1,2"], 64, "--spacing-mm must be one number or three"),
        (["--spacing-mm", "-3"], 64, "--spacing-mm must be three finite numbers > 0"),
        (["--spacing-mm", "nan"], 64, "--spacing-mm must be three finite numbers > 0"),
        (["--layout", "bids"], 64, "--layout must be one of auto, plain, ct-org"),
        (["--layout", "lits"], 64, "no scan found; wanted files volume-N"),
        (["--layout", "lits", "--labels", "{id}_seg.nii.gz"], 64, "both say where labels are"),
        (["--min-label-cover", "1.5"], 64, "--min-label-cover must be 0 to 1, got 1.5"),
        (["--jobs", "0"], 64, "--jobs and --memory-gb must be positive"),
        (["--memory-gb", "-1"], 64, "--jobs and --memory-gb must be positive"),
        (["--modality", "pet"], 64, "'pet' is not one of 'ct', 'mr'"),
        (["--labels", "nowhere"], 64, "neither a folder nor a pattern"),
        (["--classes", "absent.toml"], 64, "--classes absent.toml: cannot be read"),
    ],
)
def test_options_that_are_not_allowed_are_told_before_any_work(
    scans: Path, tmp_path: Path, run: Callable[..., Any], options: list[str], code: int, message: str
) -> None:
    got, _, stderr = run("ingest", scans, "--out", tmp_path / "ds.zarr", *options)
    assert (got, message in stderr) == (code, True), stderr
    assert not (tmp_path / "ds.zarr").exists()


def test_running_again_reads_nothing_twice_and_changes_nothing(scans: Path, tmp_path: Path, run: Callable[..., Any]) -> None:
    out = tmp_path / "ds.zarr"
    first = run("ingest", scans, "--out", out)
    before = {file: file.stat().st_mtime_ns for file in out.rglob("*/c/*/*/*/*")}
    code, stdout, _ = run("ingest", scans, "--out", out)
    assert code == first[0] == 0
    assert "6 volumes (6 of them from before)" in stdout
    assert {file: file.stat().st_mtime_ns for file in out.rglob("*/c/*/*/*/*")} == before


def test_a_volume_from_other_files_is_not_mistaken_for_the_one_before(scans: Path, tmp_path: Path, run: Callable[..., Any]) -> None:
    out = tmp_path / "ds.zarr"
    run("ingest", scans, "--out", out)
    fingerprint = Dataset.open(out).fingerprint
    shutil.copy(scans / "a.nii.gz", scans / "b.nii.gz")
    code, stdout, _ = run("ingest", scans, "--out", out)
    assert code == 3
    assert "refused b: b: the dataset has a volume 'b' from other files" in stdout
    assert Dataset.open(out).fingerprint == fingerprint


def test_other_settings_are_refused_with_what_differs(scans: Path, tmp_path: Path, run: Callable[..., Any]) -> None:
    run("ingest", scans, "--out", tmp_path / "ds.zarr")
    code, _, stderr = run("ingest", scans, "--out", tmp_path / "ds.zarr", "--spacing-mm", "3")
    assert code == 6
    assert "was written with preprocessing" in stderr


def test_no_path_or_file_name_of_the_source_is_in_the_store(scans: Path, tmp_path: Path, run: Callable[..., Any]) -> None:
    secret = tmp_path / "Jane_Doe_19700101"
    scans.rename(secret)
    run("ingest", secret, "--out", tmp_path / "ds.zarr")
    described = list((tmp_path / "ds.zarr").rglob("*.json"))
    assert len(described) > 3
    for file in described:
        text = file.read_text()
        assert "Jane" not in text
        assert str(tmp_path) not in text
        assert ".nii" not in text


STOPPED = """
import os, signal, sys
from augserver.cli import main
from augserver.store import layout

count, original = 0, layout.flush_tree

def interrupt(folder):
    global count
    count += 1
    if count == 2:
        for _ in range(int(sys.argv[2])):
            os.kill(os.getpid(), getattr(signal, sys.argv[1]))
    original(folder)

layout.flush_tree = interrupt
main(sys.argv[3:])
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "times", "code", "kept", "clean"),
    [
        ("SIGINT", 1, 130, ["a", "b"], True),  # the volume in hand is finished
        ("SIGTERM", 1, 143, ["a", "b"], True),
        ("SIGINT", 2, 130, ["a"], True),  # or given up
        ("SIGKILL", 1, -9, ["a"], False),
    ],
)
def test_a_stopped_ingest_leaves_whole_volumes_and_resumes_to_the_same_fingerprint(
    scans: Path, tmp_path: Path, run: Callable[..., Any], name: str, times: int, code: int, kept: list[str], clean: bool
) -> None:
    out = tmp_path / "ds.zarr"
    arguments = ["ingest", str(scans), "--out", str(out), "--labels", "{id}_seg.nii.gz", "--jobs", "1"]
    stopped = subprocess.run(
        [sys.executable, "-P", "-c", STOPPED, name, str(times), *arguments], capture_output=True, timeout=120, check=False
    )
    assert stopped.returncode == code, stopped.stderr.decode()
    left = sorted(os.listdir(out))
    assert left == ([".statistics", *kept, "zarr.json"] if clean else [".augserver.lock", ".partial-b", ".statistics", *kept, "zarr.json"])
    if clean and times == 1:
        assert "stopped; 2 of 3 volumes stay in" in stopped.stderr.decode()
    assert run(*arguments)[0] == 0
    arguments[3] = str(tmp_path / "undisturbed.zarr")
    assert run(*arguments)[0] == 0
    assert Dataset.open(out).fingerprint == Dataset.open(tmp_path / "undisturbed.zarr").fingerprint
    assert sorted(os.listdir(out)) == [".statistics", "a", "b", "c", "zarr.json"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.slow
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_lets_all_volumes_in_hand_be_finished_and_begins_no_other(
    scans: Path, tmp_path: Path, run: Callable[..., Any], name: str
) -> None:
    for number in range(5):
        shutil.copy(scans / "a.nii.gz", scans / f"more{number}.nii.gz")
    out = tmp_path / "ds.zarr"
    arguments = ["ingest", str(scans), "--out", str(out), "--jobs", "2"]
    stopped = subprocess.run([sys.executable, "-P", "-c", STOPPED, name, "1", *arguments], capture_output=True, timeout=120, check=False)
    assert stopped.returncode == 128 + getattr(signal, name), stopped.stderr.decode()
    kept = sorted(path.name for path in out.iterdir() if path.is_dir() and path.name != ".statistics")
    assert 2 <= len(kept) <= 5
    assert f"stopped; {len(kept)} of 11 volumes stay in" in stopped.stderr.decode()
    assert [path.name for path in out.glob(".*")] == [".statistics"]
    assert sorted(path.stem for path in (out / ".statistics").iterdir()) == kept
    assert run(*arguments)[0] == 0
    arguments[3] = str(tmp_path / "undisturbed.zarr")
    assert run(*arguments[:-1], "1")[0] == 0
    assert Dataset.open(out).fingerprint == Dataset.open(tmp_path / "undisturbed.zarr").fingerprint


def test_the_report_is_the_same_whatever_the_number_of_jobs_and_the_memory(scans: Path, tmp_path: Path, run: Callable[..., Any]) -> None:
    (scans / "broken.nrrd").write_text("no")
    reports, statistics = [], []
    for number, options in enumerate((["--jobs", "1"], ["--jobs", "4"], ["--jobs", "3", "--memory-gb", "0.000001"])):
        code, stdout, _ = run("ingest", scans, "--out", tmp_path / f"{number}.zarr", "--spacing-mm", "2", "--json", *options)
        report = json.loads(stdout)
        assert (code, len(report.pop("dataset")) > 0) == (3, True)
        reports.append(report)
        statistics.append({file.name: file.read_bytes() for file in (tmp_path / f"{number}.zarr/.statistics").iterdir()})
    assert reports[0] == reports[1] == reports[2]
    assert statistics[0] == statistics[1] == statistics[2]
    assert len(reports[0]["volumes"]) == len(statistics[0]) == 6


def test_the_table_says_how_scans_were_converted(scans: Path, tmp_path: Path, run: Callable[..., Any]) -> None:
    affine = np.array([[0.5, 0, 0, 0], [0, 1.0, 0.75, 0], [0, 0, 3.0, 0], [0, 0, 0, 1]])
    image = nibabel.Nifti1Image(np.arange(11 * 7 * 5, dtype=np.int16).reshape(11, 7, 5), affine)
    image.header.set_slope_inter(2, -1024)
    nibabel.save(image, scans / "tilted.nii")
    code, stdout, _ = run("ingest", scans, "--out", tmp_path / "ds.zarr", "--spacing-mm", "1")
    assert code == 0
    assert "converted tilted: scaled by slope 2, intercept -1024; axes turned from RAS to LPS; sheared by 14.0 degrees: " in stdout
    assert "resampled from 3x1x0.5 to 1x1x1 mm" in stdout


def test_hashed_ids_keep_names_of_files_out_of_report_and_store(scans: Path, tmp_path: Path, run: Callable[..., Any]) -> None:
    source = tmp_path / "Ward_7"
    source.mkdir()
    for name, origin in (("Jane_Doe", "a"), ("Jon_Doe", "b"), ("Jim_Doe", "c")):
        shutil.copy(scans / f"{origin}.nii.gz", source / f"{name}.nii.gz")
        shutil.copy(scans / f"{origin}_seg.nii.gz", source / f"{name}_seg.nii.gz")
    (source / "Jon_Doe.nii.gz").write_bytes((source / "Jon_Doe.nii.gz").read_bytes()[:-40])
    (source / "Jim_Doe_seg.nii.gz").unlink()
    options = ["--out", tmp_path / "ds.zarr", "--ids", "hashed", "--labels", "{id}_seg.nii.gz"]
    for extra in ([], ["--json"]):
        code, stdout, stderr = run("ingest", source, *options, *extra)
        assert code == 3
        assert "Doe" not in stdout + stderr
    [volume] = Dataset.open(tmp_path / "ds.zarr").volumes
    assert volume.startswith("scan-")
    assert not [file for file in (tmp_path / "ds.zarr").rglob("*.json") if "Doe" in file.read_text()]


@pytest.mark.parametrize(("option", "shift", "note"), [("sform", 0, "sform and qform"), ("qform", 40, "qform and sform")])
def test_the_affine_of_nifti_files_is_chosen_where_their_two_disagree(
    tmp_path: Path, run: Callable[..., tuple[int, str, str]], option: str, shift: float, note: str
) -> None:
    affine = np.diag([-1.0, -1, 2, 1])
    (tmp_path / "in").mkdir()
    for name, seed in (("a.nii.gz", 0), ("a_seg.nii.gz", 1)):
        voxels = np.random.default_rng(seed).integers(0, 2 if seed else 900, (6, 5, 4)).astype(np.int16)
        image = nibabel.Nifti1Image(voxels, None)
        image.header.set_sform(affine, 2)
        image.header.set_qform(affine + 40 * np.eye(4)[:, [2]] @ np.eye(4)[[3]], 1)
        nibabel.save(image, tmp_path / "in" / name)
    arguments = ["ingest", tmp_path / "in", "--labels", "{id}_seg.nii.gz", "--out"]
    code, stdout, _ = run(*arguments, tmp_path / "refused.zarr")
    assert code == 2
    assert "place a corner 40.00 mm apart, and programs differ in which they believe; pass --nifti-affine" in " ".join(stdout.split())
    code, stdout, _ = run(*arguments, tmp_path / "ds.zarr", "--nifti-affine", option, "--json")
    assert code == 0
    assert f"{note} place a corner 40.00 mm apart: {option} taken" in stdout
    volume = Dataset.open(tmp_path / "ds.zarr").read("a")
    assert volume.info.affine[2, 3] == shift
    assert volume.info.class_voxels[1] == np.random.default_rng(1).integers(0, 2, (6, 5, 4)).sum()
