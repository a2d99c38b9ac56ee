"""Every file that is found is taken, refused or counted as skipped, in every layout; what cannot be read is named."""

from __future__ import annotations

import ctypes
import json
import os
import socket
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from PIL import Image

from augserver.cli import main
from augserver.ingest.layouts import LAYOUTS
from augserver.store import Dataset

AFFINE = np.diag([-0.5, -1.0, 3.0, 1.0])
_CAPBSET_DROP, _DAC_OVERRIDE, _DAC_READ_SEARCH = 24, 1, 2  # of prctl(2) and capabilities(7)


@pytest.fixture
def save() -> Callable[..., None]:
    """save(path, classes=0): a scan, or a label with this many classes."""

    def write(path: Path, classes: int = 0) -> None:
        rng = np.random.default_rng(zlib.crc32(path.as_posix().encode()))
        voxels = rng.integers(0, classes, (9, 7, 5)).astype(np.uint8) if classes else rng.integers(-1000, 2000, (9, 7, 5)).astype(np.int16)
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.name.endswith(".nrrd"):
            import SimpleITK

            SimpleITK.WriteImage(SimpleITK.GetImageFromArray(voxels.T), str(path))
        else:
            nibabel.save(nibabel.Nifti1Image(voxels, AFFINE), path)

    return write


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Callable[..., tuple[int, dict[str, Any]]]:
    """run(source, *options): exit code and the report."""

    def call(source: Path, *options: str) -> tuple[int, dict[str, Any]]:
        with pytest.raises(SystemExit) as stop:
            main(["ingest", str(source), "--out", str(tmp_path / "out.zarr"), "--json", *options])
        return int(stop.value.code or 0), json.loads(capsys.readouterr().out)

    return call


def _numbered(root: Path, save: Any, label: str) -> dict[str, Any]:
    for number in (1, 2):
        save(root / f"volume-{number}.nii.gz")
    save(root / f"{label}-1.nii.gz", 3)
    save(root / f"{label}-9.nii.gz", 3)
    save(root / "stray.nii.gz")
    return {"in": ["volume-1"], "refused": ["volume-2"], "counts": (5, 2, 1, 2), "alone": f"{label}-9"}


def _decathlon(root: Path, save: Any) -> dict[str, Any]:
    for name in ("a", "b"):
        save(root / f"imagesTr/{name}.nii.gz")
    for name in ("a", "z"):
        save(root / f"labelsTr/{name}.nii.gz", 3)
    save(root / "imagesTs/t.nii.gz")
    (root / "imagesTr/readme.md").write_text("x")
    (root / "dataset.json").write_text('{"labels": {"0": "background", "1": "liver", "2": "tumor"}}')
    return {"in": ["a"], "refused": ["b"], "counts": (7, 2, 1, 4), "alone": "z"}


def _nnunet(root: Path, save: Any) -> dict[str, Any]:
    for name in ("a_0000", "a_0001", "b", "c_0000", "c_0002"):
        save(root / f"imagesTr/{name}.nii.gz")
    for name in ("a", "b", "c", "z"):
        save(root / f"labelsTr/{name}.nii.gz", 3)
    (root / "imagesTr/readme.md").write_text("x")
    (root / "dataset.json").write_text('{"labels": {"background": 0, "liver": 1, "tumor": 2}}')
    # b's label is b's by its name, but b has no channel: the label is without a scan
    return {"in": ["a"], "refused": ["b", "c"], "counts": (11, 3, 4, 4), "alone": "z"}


def _kits(root: Path, save: Any) -> dict[str, Any]:
    for case in ("case_00000", "case_00001"):
        save(root / case / "imaging.nii.gz")
    for case in ("case_00000", "case_00002"):
        save(root / case / "segmentation.nii.gz", 3)
    save(root / "case_00000/instances/kidney_instance-1_annotation-1.nii.gz", 2)
    (root / "kits23.json").write_text("[]")
    return {"in": ["case_00000"], "refused": ["case_00001", "case_00002"], "counts": (6, 2, 2, 2), "alone": ""}


def _brats(root: Path, save: Any) -> dict[str, Any]:
    for case, names in {"A": ("t1", "t1ce", "t2", "flair", "seg"), "B": ("t1", "t2", "seg"), "C": ("seg",)}.items():
        for name in names:
            save(root / f"HGG/{case}/{case}_{name}.nii.gz", 3 if name == "seg" else 0)
    (root / "survival.csv").write_text("x")
    save(root / "HGG/A/other.nii.gz")
    return {"in": ["A"], "refused": ["B", "C"], "counts": (11, 5, 4, 2), "alone": ""}


def _amos(root: Path, save: Any) -> dict[str, Any]:
    return _decathlon(root, save)


def _btcv(root: Path, save: Any) -> dict[str, Any]:
    for number in ("0001", "0002"):
        save(root / f"Training/img/img{number}.nii.gz")
    for number in ("0001", "0009"):
        save(root / f"Training/label/label{number}.nii.gz", 3)
    save(root / "Testing/img/img0061.nii.gz")
    return {"in": ["img0001"], "refused": ["img0002"], "counts": (5, 2, 1, 2), "alone": "label0009"}


def _flare(root: Path, save: Any) -> dict[str, Any]:
    for number in ("0001", "0002"):
        save(root / f"images/FLARE22_Tr_{number}_0000.nii.gz")
    for number in ("0001", "0009"):
        save(root / f"labels/FLARE22_Tr_{number}.nii.gz", 3)
    (root / "labels/notes.txt").write_text("x")
    return {"in": ["FLARE22_Tr_0001"], "refused": ["FLARE22_Tr_0002"], "counts": (5, 2, 1, 2), "alone": "FLARE22_Tr_0009"}


def _acdc(root: Path, save: Any) -> dict[str, Any]:
    for name in ("frame01", "frame12"):
        save(root / f"training/patient001/patient001_{name}.nii.gz")
    for name in ("frame01_gt", "frame30_gt"):
        save(root / f"training/patient001/patient001_{name}.nii.gz", 3)
    save(root / "training/patient001/patient001_4d.nii.gz")
    (root / "training/patient001/Info.cfg").write_text("ED: 1")
    return {"in": ["patient001_frame01"], "refused": ["patient001_frame12"], "counts": (6, 2, 1, 3), "alone": "patient001_frame30_gt"}


def _csv(root: Path, save: Any) -> dict[str, Any]:
    save(root / "a.nii.gz")
    save(root / "b.nii.gz")
    save(root / "seg.nii.gz", 3)
    (root / "pairs.csv").write_text("id,image,label\nA,a.nii.gz,seg.nii.gz\nB,b.nii.gz,gone.nii.gz\n")
    return {"in": ["A"], "refused": ["B"], "counts": (3, 2, 1, 0), "alone": "", "source": "pairs.csv"}


def _totalsegmentator(root: Path, save: Any) -> dict[str, Any]:
    save(root / "s1/ct.nii.gz")
    save(root / "s2/ct.nrrd")
    save(root / "s4/ct.nii.gz")
    for case in ("s1", "s3"):
        save(root / case / "segmentations/liver.nii.gz", 2)
    (root / "meta.csv").write_text("x")
    save(root / "s1/statistics.nii.gz", 2)
    return {"in": ["s1"], "refused": ["s2", "s3", "s4"], "counts": (7, 2, 3, 2), "alone": ""}


def _chaos(root: Path, save: Any, write_series: Any) -> dict[str, Any]:
    for number, modality in ((1, "CT"), (2, "CT"), (3, "MR")):
        place = root / f"{modality}/{number}"
        write_series(place / "DICOM_anon", np.zeros((4, 9, 12), np.int16) + number, modality=modality, series=f"1.2.{number}")
        (place / "Ground").mkdir()
        for index in range(4):
            if number != 2:
                Image.fromarray(np.zeros((9, 12), np.uint8)).save(place / f"Ground/{index}.png")
    (root / "CT/9/Ground").mkdir(parents=True)
    Image.fromarray(np.zeros((9, 12), np.uint8)).save(root / "CT/9/Ground/0.png")
    (root / "notes.txt").write_text("x")
    return {"in": ["CT_1"], "refused": ["CT_2"], "counts": (22, 8, 4, 10), "alone": "0.png"}


def _plain(root: Path, save: Any) -> dict[str, Any]:
    save(root / "case1/imaging.nii.gz")
    save(root / "case1/segmentation.nii.gz", 3)
    save(root / "case2/imaging.nii.gz")
    save(root / "case3/segmentation.nii.gz", 3)
    (root / "notes.txt").write_text("x")
    (root / "case1/lost.raw").write_bytes(b"x")
    (root / "case4").mkdir()
    nibabel.save(nibabel.Nifti1Pair(np.zeros((9, 7, 5), np.int16), AFFINE), root / "case4/imaging.hdr")
    return {
        "in": ["case1_imaging"],
        "refused": ["case2_imaging", "case4_imaging"],
        "counts": (8, 2, 3, 3),
        "alone": "segmentation",
        "options": ("--labels", "segmentation.nii.gz"),
    }


BUILDERS: dict[str, Callable[..., dict[str, Any]]] = {
    "plain": _plain,
    "ct-org": lambda root, save: _numbered(root, save, "labels"),
    "lits": lambda root, save: _numbered(root, save, "segmentation"),
    "decathlon": _decathlon,
    "nnunet": _nnunet,
    "kits": _kits,
    "brats": _brats,
    "amos": _amos,
    "btcv": _btcv,
    "flare": _flare,
    "acdc": _acdc,
    "csv": _csv,
    "totalsegmentator": _totalsegmentator,
    "chaos": _chaos,
}


def test_every_layout_is_counted_here() -> None:
    assert set(LAYOUTS) == {"auto", *BUILDERS}


@pytest.mark.parametrize("layout", BUILDERS)
def test_every_file_is_taken_refused_or_skipped(
    tmp_path: Path, save: Any, run: Any, write_series: Any, request: pytest.FixtureRequest, layout: str
) -> None:
    root = tmp_path / "src"
    root.mkdir()
    extra = (write_series,) if layout == "chaos" else ()
    expected = BUILDERS[layout](root, save, *extra)
    modality = "mr" if layout in ("brats", "acdc") else "ct"
    source = root / expected.get("source", "")
    code, report = run(source, "--layout", layout, "--modality", modality, *expected.get("options", ()))
    assert code == 3
    assert [volume["id"] for volume in report["volumes"]] == expected["in"]
    assert sorted(refused["id"] for refused in report["refused"]) == sorted(expected["refused"])
    files = report["files"]
    assert (files["found"], files["taken"], files["refused"], files["skipped"]) == expected["counts"]
    assert files["found"] == files["taken"] + files["refused"] + files["skipped"]
    assert sum(report["skipped_files"].values()) == files["skipped"]
    if layout != "csv":
        assert files["found"] == sum(file.is_file() for file in root.rglob("*"))
    if expected["alone"]:
        assert any("no scan" in notice and expected["alone"] in notice for notice in report["notices"])
        assert report["skipped_files"]["label without its scan"] >= 1


def test_names_of_labels_without_scans_are_kept_where_ids_are_hashed(tmp_path: Path, save: Any, run: Any) -> None:
    root = tmp_path / "src"
    _decathlon(root, save)
    (root / "labelsTr/z.nii.gz").rename(root / "labelsTr/Muster_Max.nii.gz")
    code, report = run(root, "--layout", "decathlon", "--ids", "hashed")
    assert code == 3
    assert "1 label has no scan" in report["notices"]
    assert "Muster" not in json.dumps(report)


def _make_odd_things(folder: Path) -> socket.socket:
    folder.mkdir()
    os.mkfifo(folder / "pipe.nii.gz")
    (folder / "gone.nii.gz").symlink_to(folder / "absent.nii.gz")
    (folder / "round.nii.gz").symlink_to(folder / "round.nii.gz")
    (folder / "up").symlink_to(folder.parent, target_is_directory=True)
    (folder / "empty.nii.gz").write_bytes(b"")
    (folder / "empty.dcm").write_bytes(b"")
    (folder / "empty").write_bytes(b"")
    (folder / ".hidden.nii.gz").write_bytes(b"")
    server = socket.socket(socket.AF_UNIX)
    here = os.getcwd()
    os.chdir(folder)  # a socket's path has at most 107 letters
    try:
        server.bind("socket.nii.gz")
    finally:
        os.chdir(here)
    return server


@pytest.mark.parametrize("layout", ["auto", "plain"])
def test_pipes_links_and_empty_files_are_counted(tmp_path: Path, save: Any, run: Any, layout: str) -> None:
    root = tmp_path / "src"
    save(root / "a.nii.gz")
    with _make_odd_things(root / "odd"):
        code, report = run(root, "--layout", layout)
    assert code == 3
    assert [volume["id"] for volume in report["volumes"]] == ["a"]
    assert sorted(refused["id"] for refused in report["refused"]) == ["empty", "odd"]  # the DICOM file is called after its folder
    assert report["skipped_files"] == {"pipe": 1, "socket": 1, "broken link": 2, "link to a folder": 1, "no suffix": 1}
    assert report["files"] == {"found": 9, "taken": 1, "refused": 2, "skipped": 6}
    notices = " ".join(report["notices"])
    assert "broken link odd/gone.nii.gz: No such file" in notices
    assert "broken link odd/round.nii.gz: Too many levels" in notices


def test_a_broken_link_alone_ends_with_3(tmp_path: Path, save: Any, run: Any) -> None:
    root = tmp_path / "src"
    save(root / "a.nii.gz")
    (root / "gone.nii.gz").symlink_to(root / "absent.nii.gz")
    assert run(root)[0] == 3


def test_a_name_that_is_no_text_is_printed(tmp_path: Path, save: Any, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "src"
    save(root / "a.nii.gz")
    Path(os.fsdecode(os.fsencode(root) + b"/b\xff.nii.gz")).write_bytes(b"no")
    Path(os.fsdecode(os.fsencode(root) + b"/c\xff.nii.gz")).symlink_to(root / "absent")
    with pytest.raises(SystemExit) as stop:
        main(["ingest", str(root), "--out", str(tmp_path / "out.zarr")])
    assert stop.value.code == 3
    printed = capsys.readouterr().out
    assert "refused b_: b\\udcff" in printed
    assert "broken link c\\udcff" in printed


def _obey_permissions() -> None:
    """Let root, after the next exec, be held up by permissions as every other user is."""
    libc = ctypes.CDLL(None, use_errno=True)
    for capability in (_DAC_OVERRIDE, _DAC_READ_SEARCH):
        if libc.prctl(_CAPBSET_DROP, capability, 0, 0, 0):
            raise OSError(ctypes.get_errno(), "prctl(PR_CAPBSET_DROP)")


def _ingest_as_user(source: Path, out: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """`augserver ingest` by a user who may not read everything, whoever runs the tests."""
    command = [sys.executable, "-P", "-c", "from augserver.cli import main; main()", "ingest", str(source), "--out", str(out), *options]
    drop = _obey_permissions if os.geteuid() == 0 else None
    environment = os.environ | {"PYTHONPATH": ":".join(filter(None, sys.path))}
    return subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment, preexec_fn=drop, check=False)


@pytest.mark.parametrize("mode", [0o000, 0o444, 0o111])
@pytest.mark.parametrize("layout", ["auto", "plain"])
def test_an_unreadable_folder_is_named_and_ends_with_3(tmp_path: Path, save: Any, mode: int, layout: str) -> None:
    for case in ("p1", "p2"):
        save(tmp_path / f"src/{case}/ct.nii.gz")
    (tmp_path / "src/p2").chmod(mode)
    try:
        done = _ingest_as_user(tmp_path / "src", tmp_path / "ds.zarr", "--layout", layout)
    finally:
        (tmp_path / "src/p2").chmod(0o755)
    assert "Traceback" not in done.stderr
    assert "1 x unreadable folder" in done.stdout, done.stdout + done.stderr
    assert "unreadable folder p2: Permission denied" in done.stdout
    assert "1 in, 0 refused" in done.stdout
    assert "2 files: 1 taken, 0 refused, 1 skipped" in done.stdout
    assert done.returncode == 3


def test_the_named_folder_itself_may_be_unreadable(tmp_path: Path, save: Any) -> None:
    save(tmp_path / "src/ct.nii.gz")
    (tmp_path / "src").chmod(0o000)
    try:
        done = _ingest_as_user(tmp_path / "src", tmp_path / "ds.zarr")
        below = _ingest_as_user(tmp_path / "src/ct.nii.gz", tmp_path / "ds.zarr")
    finally:
        (tmp_path / "src").chmod(0o755)
    for each in (done, below):
        assert "Traceback" not in each.stderr
        assert "not readable" in each.stderr or "Permission denied" in each.stderr
        assert each.returncode not in (0, 1, 3)


def test_a_layout_that_finds_nothing_says_what_it_could_not_look_at(tmp_path: Path, save: Any) -> None:
    _acdc(tmp_path / "src", save)
    (tmp_path / "src/training").chmod(0o000)
    try:
        done = _ingest_as_user(tmp_path / "src", tmp_path / "ds.zarr", "--layout", "acdc")
    finally:
        (tmp_path / "src/training").chmod(0o755)
    assert "1 could not be looked at (unreadable folder: Permission denied)" in done.stderr
    assert done.returncode not in (0, 1)


def test_unreadable_files_are_refused_or_counted(tmp_path: Path, save: Any, write_series: Any) -> None:
    root = tmp_path / "src"
    for name in ("a.nii.gz", "b.nii.gz"):
        save(root / name)
    voxels = np.random.default_rng(0).integers(-1000, 900, (5, 6, 7)).astype(np.int16)
    files = write_series(root / "series", voxels)
    last = files[-1].rename(files[-1].with_suffix(""))
    (root / "notes.txt").write_text("x")
    for file in (root / "b.nii.gz", last, root / "notes.txt"):
        file.chmod(0o000)
    done = _ingest_as_user(root, tmp_path / "ds.zarr", "--json")
    assert "Traceback" not in done.stderr
    assert done.returncode == 3
    report = json.loads(done.stdout)
    assert [volume["id"] for volume in report["volumes"]] == ["a"]
    reasons = {refused["id"]: refused["reason"] for refused in report["refused"]}
    assert "cannot be read" in reasons["b"]
    assert "1 of 5 DICOM files of this folder cannot be read or lack their pixels" in reasons["series"]
    assert report["skipped_files"] == {"unreadable file": 1}
    assert report["files"] == {"found": 8, "taken": 1, "refused": 6, "skipped": 1}


@pytest.mark.parametrize("layout", [name for name in BUILDERS if name not in ("csv", "plain")])
def test_an_unreadable_folder_in_every_layout(tmp_path: Path, save: Any, write_series: Any, layout: str) -> None:
    root = tmp_path / "src"
    root.mkdir()
    extra = (write_series,) if layout == "chaos" else ()
    expected = BUILDERS[layout](root, save, *extra)
    (root / "locked").mkdir()
    save(root / "locked/ct.nii.gz")
    (root / "locked").chmod(0o000)
    try:
        modality = "mr" if layout in ("brats", "acdc") else "ct"
        done = _ingest_as_user(root, tmp_path / "ds.zarr", "--layout", layout, "--modality", modality, "--json")
    finally:
        (root / "locked").chmod(0o755)
    assert "Traceback" not in done.stderr, done.stderr
    report = json.loads(done.stdout)
    assert [volume["id"] for volume in report["volumes"]] == expected["in"]
    assert report["skipped_files"]["unreadable folder"] == 1
    assert any("unreadable folder locked: Permission denied" in notice for notice in report["notices"])
    assert done.returncode == 3


def test_a_resumed_ingest_counts_the_same(tmp_path: Path, save: Any, run: Any) -> None:
    root = tmp_path / "src"
    _decathlon(root, save)
    first = run(root, "--layout", "decathlon")
    second = run(root, "--layout", "decathlon")
    assert first[1]["files"] == second[1]["files"]
    assert Dataset.open(tmp_path / "out.zarr").volumes == ("a",)
