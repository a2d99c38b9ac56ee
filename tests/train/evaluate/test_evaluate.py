"""`augtrain evaluate` from the command line: scores, formats, and what it says to broken input."""

from __future__ import annotations

import csv
import itertools
import json
import shutil
import sys
from pathlib import Path
from subprocess import run as run_process

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from augtrain.cli import main
from augtrain.evaluate import Case, find_cases
from augtrain.evaluate import evaluate as score
from augtrain.label_map import class_names_extension

CLASSES = {0: "background", 1: "liver", 2: "[b]bladder"}
AFFINE = np.diag([-0.5, -1.0, 3.0, 1.0])


def turn_about_z(deg: float) -> np.ndarray:
    cos, sin = np.cos(np.radians(deg)), np.sin(np.radians(deg))
    return np.array([[cos, -sin, 0, 0], [sin, cos, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])


def close(value: object) -> object:
    """Sums are taken in another order."""
    return pytest.approx(value, rel=1e-12) if isinstance(value, float) else value


def labels(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    ids = np.zeros((5, 17, 21), np.uint8)
    ids[1:4, 3:9, 4:12] = 1
    ids[2:5, 11:15, 12:18] = 2
    return np.where(rng.random(ids.shape) < 0.05, 0, ids).astype(np.uint8)


def save(path: Path, ids: np.ndarray, affine: np.ndarray = AFFINE, classes: dict[int, str] | None = None) -> Path:
    path.parent.mkdir(exist_ok=True)
    image = nibabel.Nifti1Image(ids.T, affine)
    if classes:
        image.header.extensions.append(class_names_extension(classes))
    nibabel.save(image, path)
    return path


def evaluate(*args: object) -> int:
    with pytest.raises(SystemExit) as stop:
        main(["evaluate", *map(str, args)])
    return int(stop.value.code or 0)


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Two cases, named classes in the predictions as `augtrain predict` writes them; case b has no bladder in the truth."""
    for seed, name in enumerate("ab"):
        truth = labels(seed)
        truth[truth == (2 if name == "b" else 9)] = 0
        save(tmp_path / "true" / f"{name}.nii.gz", truth)
        save(tmp_path / "predicted" / f"{name}.nii.gz", np.roll(labels(seed + 10), 1, 2), classes=CLASSES)
    return tmp_path / "predicted", tmp_path / "true"


def scores(capsys: pytest.CaptureFixture[str], *args: object) -> dict:
    assert evaluate(*args, "--json") == 0
    out = capsys.readouterr().out
    return json.loads(out, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))


def test_scores_of_two_files_equal_simpleitks(folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    paths = [folder / "a.nii.gz" for folder in folders]
    liver = scores(capsys, *paths)["volumes"]["a"]["classes"]["1"]
    masks = [sitk.ReadImage(str(path)) == 1 for path in paths]
    overlap, hausdorff = sitk.LabelOverlapMeasuresImageFilter(), sitk.HausdorffDistanceImageFilter()
    overlap.Execute(*masks)
    hausdorff.Execute(*map(sitk.LabelContour, masks))
    assert liver["name"] == "liver"
    assert liver["dice"] == pytest.approx(overlap.GetDiceCoefficient(1))
    assert liver["mssd"] == pytest.approx(hausdorff.GetHausdorffDistance(), rel=1e-5)


def test_folders_are_matched_by_name_and_summed_up(folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    found = scores(capsys, *folders)
    assert list(found["volumes"]) == ["a", "b"]
    dices = [found["volumes"][name]["classes"]["1"]["dice"] for name in "ab"]
    summary = found["summary"]["classes"]
    assert summary["1"]["per_case"]["dice"]["mean"] == pytest.approx(np.mean(dices))
    assert summary["1"]["per_case"]["dice"]["std"] == pytest.approx(np.std(dices, ddof=1))
    assert summary["2"]["per_case"]["assd"]["undefined"] == {"absent in truth": 1}
    assert found["volumes"]["b"]["classes"]["2"]["undefined"]["rvd"] == "absent in truth"


def test_a_plain_and_a_packed_file_of_one_name_are_partners(folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    predicted, true = folders
    nibabel.save(nibabel.load(true / "a.nii.gz"), true / "a.nii")
    (true / "a.nii.gz").unlink()
    (true / "notes.txt").write_text("beside the point")
    assert list(scores(capsys, predicted, true)["volumes"]) == ["a", "b"]


def test_text_shows_volumes_classes_totals_and_reasons(folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate(*folders) == 0
    out, err = capsys.readouterr()
    assert err == ""  # the progress bar is for terminals
    for part in ("[b]bladder", "HD95", "global Dice of the organs, 2 volumes pooled: 0.", "weighted IoU", "tolerance 0.187 mm", " ± "):
        assert part in out
    assert "[b]bladder: absent in truth in 1 volume, without a value there: rvd, sensitivity, assd, mssd, rmsd, hd95" in out
    assert "nan" not in out.lower()


def test_csv_has_a_row_per_volume_and_class(folders: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = scores(capsys, *folders, "--csv", tmp_path / "scores.csv")
    with (tmp_path / "scores.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["volume"], row["class"]) for row in rows] == [(name, each) for name in "ab" for each in CLASSES.values()]
    assert float(rows[1]["hd95"]) == found["volumes"]["a"]["classes"]["1"]["hd95"]
    assert (rows[5]["rvd"], rows[5]["dice"]) == ("", "0.0")
    assert "rvd: absent in truth" in rows[5]["undefined"]


@pytest.mark.parametrize(
    ("suffix", "text"), [(".toml", '[classes]\n1 = "Leber"\n2 = "Blase"\n'), (".json", '{"1": "Leber", "2": "Blase"}')]
)
def test_a_file_of_classes_goes_before_the_headers(folders, tmp_path: Path, suffix: str, text: str, capsys) -> None:
    (tmp_path / f"names{suffix}").write_text(text)
    found = scores(capsys, *folders, "--classes", tmp_path / f"names{suffix}")
    assert [each["name"] for each in found["summary"]["classes"].values()] == ["background", "Leber", "Blase"]


def test_without_any_names_classes_are_called_by_their_ids(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = [save(tmp_path / name / "a.nii", labels(seed) * 7) for seed, name in enumerate(("p", "t"))]
    found = scores(capsys, *paths)["volumes"]["a"]["classes"]
    assert {key: each["name"] for key, each in found.items()} == {"0": "background", "7": "class 7", "14": "class 14"}


def test_ignore_and_tolerance_reach_the_scores(folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    predicted, true = folders
    ids = labels(0)
    ids[:, :, :8] = 255
    save(true / "a.nii.gz", ids)
    found = scores(capsys, predicted, true, "--ignore", 255, "--boundary-tolerance-mm", 2.5)["volumes"]["a"]
    assert found["voxels"] == 5 * 17 * 13
    assert found["boundary_tolerance_mm"] == 2.5


def test_a_class_that_is_named_ignore_is_ignored(folders: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    predicted, true = folders
    ids = labels(0)
    ids[:, :, :8] = 9
    save(true / "a.nii.gz", ids)
    classes = tmp_path / "classes.toml"
    classes.write_text('0 = "background"\n1 = "liver"\n2 = "bone"\n9 = "ignore"\n')
    found = scores(capsys, predicted, true, "--classes", classes)["volumes"]["a"]
    assert found["voxels"] == 5 * 17 * 13
    assert "9" not in found["classes"]


def test_a_tilted_scan_of_real_life_is_scored(shared_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    affine = nibabel.load(shared_data / "niivue_mr_oblique" / "shear.nii.gz").affine
    ids = np.zeros((6, 8, 10), np.uint8)
    ids[2, 3, 4] = 1
    paths = [save(tmp_path / name / "a.nii", np.roll(ids, shift, 0), affine) for name, shift in (("p", 2), ("t", 0))]
    found = scores(capsys, *paths)["volumes"]["a"]["classes"]["1"]
    assert found["mssd"] == pytest.approx(2 * np.linalg.norm(affine[:3, 2]), rel=1e-5)


@pytest.mark.parametrize(
    ("affine", "words"),
    [
        (np.diag([-0.5, -1.0, 3.1, 1.0]), "spacing (z,y,x) (3.1, 1, 0.5) against (3, 1, 0.5) mm"),
        (np.diag([0.5, -1.0, 3.0, 1.0]), "turned from SPR to SPL: the prediction lies (-10, 0, 0) mm (x,y,z, LPS) from the truth"),
        (turn_about_z(3.0) @ AFFINE, "axes (z,y,x) point to SPL against SPL, up to 3 degrees apart"),
        (AFFINE + np.eye(4, k=3) * 4, "the prediction lies (-4, 0, 0) mm (x,y,z, LPS) from the truth"),
    ],
)
def test_another_grid_is_refused_with_what_differs(tmp_path: Path, affine: np.ndarray, words: str, capsys) -> None:
    paths = save(tmp_path / "p" / "a.nii", labels(0), affine), save(tmp_path / "t" / "a.nii", labels(0))
    assert evaluate(*paths) == 2
    out = capsys.readouterr().out
    assert "refused a: prediction and truth lie on different grids" in out
    assert words in out
    assert "nearest neighbour" in out


@pytest.mark.parametrize("axes", [*map("".join, itertools.permutations("LPS"))])
@pytest.mark.parametrize("turned", ["prediction", "truth"])
def test_a_file_whose_axes_are_only_exchanged_or_turned_round_has_the_same_scores(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], axes: str, turned: str
) -> None:
    """nibabel turns the file, on a sheared grid at an angle; each axis has steps of another length."""
    affine = turn_about_z(20.0) @ AFFINE
    affine[0, 2] += 0.4
    affine[:3, 3] = 10, -20, 30
    written = {name: save(tmp_path / name / "a.nii", labels(seed), affine, CLASSES) for seed, name in enumerate(("prediction", "truth"))}
    wanted = scores(capsys, *written.values())
    image = nibabel.load(written[turned])
    for ways in itertools.product((False, True), repeat=3):
        names = "".join("RAI"["LPS".index(axis)] if opposite else axis for axis, opposite in zip(axes, ways, strict=True))
        there = nibabel.orientations.ornt_transform(nibabel.io_orientation(affine), nibabel.orientations.axcodes2ornt(names))
        (tmp_path / "turned").mkdir(exist_ok=True)
        nibabel.save(image.as_reoriented(there), tmp_path / "turned" / "a.nii")
        found = scores(capsys, *(written | {turned: tmp_path / "turned" / "a.nii"}).values())
        for name, each in found["volumes"]["a"]["classes"].items():
            assert each == {score: close(value) for score, value in wanted["volumes"]["a"]["classes"][name].items()}
        before, after = (names[::-1], "SPL") if turned == "prediction" else ("SPL", names[::-1])
        said = [f"the prediction's axes are turned from {before} to {after}"]
        assert found["notes"] == ({} if names == "LPS" else {"a": said})


def test_a_case_that_cannot_be_scored_costs_no_other_its_scores(folders: tuple[Path, Path], tmp_path: Path, capsys) -> None:
    predicted, true = folders
    for each in folders:
        for name in ("c", "d", "e", "f"):
            shutil.copy(each / "a.nii.gz", each / f"{name}.nii.gz")
    alone = scores(capsys, *(each / "a.nii.gz" for each in folders))["volumes"]["a"]
    save(predicted / "b.nii.gz", labels(1)[:, :, 1:], classes=CLASSES)
    (true / "c.nii.gz").write_bytes((true / "c.nii.gz").read_bytes()[:-30])
    save(true / "d.nii.gz", labels(0) + np.uint8(3))
    (predicted / "e.nii.gz").unlink()
    (true / "f.nii.gz").write_text("no picture")
    assert evaluate(*folders, "--json", "--csv", tmp_path / "scores.csv") == 3
    found = json.loads(capsys.readouterr().out)
    assert found["volumes"] == {"a": alone}
    assert found["summary"]["volumes"] == 1
    reasons = {
        "b": "shape (Z,Y,X) (5, 17, 20) against (5, 17, 21)",
        "c": "c.nii.gz: is truncated",
        "d": "the truth has ids outside the classes: 3, 4, 5",
        "e": f"e.nii.gz has no prediction in {predicted}",
        "f": "f.nii.gz: is truncated, damaged or not NIfTI",
    }
    assert list(found["refused"]) == list(reasons)
    for name, reason in reasons.items():
        assert reason in found["refused"][name]
    with (tmp_path / "scores.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["volume"] for row in rows] == ["a", "a", "a", *reasons]
    assert [row["undefined"].removeprefix("refused: ") for row in rows[3:]] == list(found["refused"].values())
    assert evaluate(*folders) == 3
    out = capsys.readouterr().out
    assert "liver" in out
    assert "1 of 6 volumes are scored" in out


@pytest.mark.slow
def test_no_damaged_header_costs_the_other_case_its_scores(folders: tuple[Path, Path]) -> None:
    predicted, true = folders
    cases, _ = find_cases(predicted, true)
    nibabel.save(nibabel.load(true / "a.nii.gz"), true / "a.nii")
    whole, damaged = (true / "a.nii").read_bytes(), Case("a", predicted / "a.nii.gz", true / "a.nii")
    rng = np.random.default_rng(20261130)
    refused = 0
    for _ in range(300):
        changed = np.frombuffer(whole, np.uint8).copy()
        changed[rng.integers(0, 352, rng.integers(1, 5))] = rng.choice([0, 1, 127, 128, 255, rng.integers(256)])
        (true / "a.nii").write_bytes(changed.tobytes())
        found = score([damaged, cases[1]])
        assert "b" in found.reports
        assert ("a" in found.reports) != ("a" in found.refused)
        refused += "a" in found.refused
    assert 30 < refused < 270


def test_a_header_that_calls_a_class_otherwise_than_the_others_is_one_bad_case(folders: tuple[Path, Path], capsys) -> None:
    for each in folders:
        shutil.copy(each / "a.nii.gz", each / "c.nii.gz")
    save(folders[0] / "a.nii.gz", labels(0), classes={1: "spleen", 2: "[b]bladder"})  # the first of all to be read
    assert evaluate(*folders, "--json") == 3
    found = json.loads(capsys.readouterr().out)
    assert list(found["volumes"]) == ["b", "c"]
    assert "class 1 is 'spleen' in" in found["refused"]["a"]
    assert "--classes" in found["refused"]["a"]
    assert found["volumes"]["c"]["classes"]["1"]["name"] == "liver"


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_values_that_are_almost_whole_are_rounded_with_a_note(folders: tuple[Path, Path], kind: type, capsys) -> None:
    """1 and 2 as tools of single precision leave them; 0.9995 and 1.0005 are almost as far as it goes."""
    predicted, true = folders
    wanted = scores(capsys, *folders)
    whole = np.asarray(nibabel.load(true / "a.nii.gz").dataobj)
    for value, other, code in ((1, 0.99999994, 0), (2, 2.0000002, 0), (1, 0.9995, 0), (1, 1.0005, 0), (1, 0.9985, 3), (2, 2.0015, 3)):
        ids = whole.astype(kind)
        ids[whole == value] = other
        nibabel.save(nibabel.Nifti1Image(ids, AFFINE), true / "a.nii.gz")
        assert evaluate(predicted, true, "--json") == code
        found = json.loads(capsys.readouterr().out)
        said = f"such as {np.asarray(other, kind):.9g}"
        if code:
            assert said in found["refused"]["a"]
            assert found["volumes"] == {"b": wanted["volumes"]["b"]}
        else:
            assert said in found["notes"]["a"][0]
            assert found["volumes"] == wanted["volumes"]


@pytest.mark.parametrize("name", ["a", "b", "c"])
def test_label_values_almost_whole_of_real_tools(shared_cases: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    """SPM's int16 with a slope, single precision, and 0.9999; the other side is what nibabel reads, rounded."""
    path = shared_cases / "label_values_almost_whole" / "input" / "labelsTr" / f"{name}.nii.gz"
    image = nibabel.load(path)
    whole = np.rint(np.asarray(image.dataobj)).astype(np.uint8)
    assert len(np.unique(whole)) > 1
    nibabel.save(nibabel.Nifti1Image(whole, image.affine), tmp_path / f"{name}.nii.gz")
    found = scores(capsys, tmp_path / f"{name}.nii.gz", path)
    assert found["volumes"][name]["overall"]["accuracy"] == 1.0
    assert "almost whole" in found["notes"][name][0]


def _truncate(predicted: Path, true: Path) -> None:
    path = true / "b.nii.gz"
    path.write_bytes(path.read_bytes()[:-30])


def _make_float(predicted: Path, true: Path) -> None:
    nibabel.save(nibabel.Nifti1Image(labels(0).T * np.float32(0.5), AFFINE), predicted / "a.nii.gz")


def _rename(predicted: Path, true: Path) -> None:
    (predicted / "a.nii.gz").rename(predicted / "a_seg.nii.gz")


def _rename_all(predicted: Path, true: Path) -> None:
    for name in ("a.nii.gz", "b.nii.gz"):
        (predicted / name).rename(predicted / f"pre_{name}")


def _drop(predicted: Path, true: Path) -> None:
    (predicted / "a.nii.gz").unlink()


def _empty(predicted: Path, true: Path) -> None:
    for path in true.iterdir():
        path.rename(path.with_suffix("").with_suffix(".mha"))


def _double(predicted: Path, true: Path) -> None:
    nibabel.save(nibabel.load(true / "a.nii.gz"), true / "a.nii")


def _strange_id(predicted: Path, true: Path) -> None:
    save(true / "a.nii.gz", labels(0) + np.uint8(3))


def _rename_class(predicted: Path, true: Path) -> None:
    save(true / "a.nii.gz", labels(0), classes={1: "spleen"})


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (_truncate, ["refused b: b.nii.gz", "truncated"]),
        (_make_float, ["refused a: a.nii.gz", "not whole", "argmax"]),
        (_rename, ["refused a_seg: a_seg.nii.gz has no truth of the same name", "refused a: a.nii.gz has no prediction in"]),
        (_drop, ["refused a: a.nii.gz has no prediction", "--only-predicted"]),
        (_strange_id, ["refused a: the truth has ids outside the classes: 3, 4, 5", "allowed: 0, 1, 2", "ignore"]),
        (_rename_class, ["refused a: class 1 is 'spleen'", "'liver'", "--classes"]),
    ],
)
def test_a_broken_case_is_one_line_of_the_report(folders, damage, words: list[str], capsys) -> None:
    damage(*folders)
    assert evaluate(*folders) == 3
    out, err = capsys.readouterr()
    assert err == ""
    assert "Overlap" in out
    for word in words:
        assert word in out


@pytest.mark.parametrize(
    ("damage", "code", "words"),
    [
        (_empty, 4, ["no label map (.nii.gz, .nii)", "convert"]),
        (_double, 64, ["a.nii and a.nii.gz", "leave one"]),
        (_rename_all, 4, ["no file in", "pre_a.nii.gz, pre_b.nii.gz against a.nii.gz, b.nii.gz", "rename"]),
    ],
)
def test_folders_that_cannot_be_paired_are_one_line_and_an_exit_code(folders, damage, code: int, words: list[str], capsys) -> None:
    damage(*folders)
    assert evaluate(*folders) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("augtrain: ")
    assert err.count("\n") == 1
    for word in words:
        assert word in err


def test_only_predicted_leaves_the_others_out(folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    _drop(*folders)
    assert list(scores(capsys, *folders, "--only-predicted")["volumes"]) == ["b"]


def test_paths_that_make_no_pair_are_named(folders: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    predicted, true = folders
    for args, code, words in (
        ((predicted, tmp_path / "nowhere"), 4, "truth: there is nothing at"),
        ((predicted, true / "a.nii.gz"), 64, "give two files, or two folders"),
        ((true, true), 64, "score itself perfectly"),
        ((predicted / "a.nii.gz", predicted / "a.nii.gz"), 64, "score itself perfectly"),
        ((predicted, true, "--classes", tmp_path / "none.toml"), 4, "there is no file"),
        ((predicted, true, "--csv", tmp_path / "none" / "scores.csv"), 64, "cannot be written"),
        ((predicted, true, "--boundary-tolerance-mm", "-1"), 64, "boundary_tolerance_mm must be"),
    ):
        assert evaluate(*args) == code
        assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.toml", "1 = ", "no readable TOML"),
        ("a.json", "[1, 2]", "must hold a table"),
        ("a.toml", "", "must hold a table"),
        ("a.toml", 'liver = "1"', "no id from 0 to 65535"),
        ("a.toml", "1 = 2", "no id from 0 to 65535"),
        ("a.json", '{"1": " "}', "with a name"),
        ("a.json", '{"classes": {"70000": "liver"}}', "no id from 0 to 65535"),
    ],
)
def test_a_broken_file_of_classes_is_named(folders, tmp_path: Path, name: str, text: str, words: str, capsys) -> None:
    (tmp_path / name).write_text(text)
    assert evaluate(*folders, "--classes", tmp_path / name) == 64
    assert words in capsys.readouterr().err


def test_empty_masks_have_reasons_and_no_scores(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = [save(tmp_path / name / "a.nii", labels(0) * 0, classes=CLASSES) for name in ("p", "t")]
    found = scores(capsys, *paths)["volumes"]["a"]
    assert found["overall"]["dice"] is None
    assert found["overall"]["undefined"]["dice"] == "absent in truth and prediction"
    assert found["classes"]["1"]["undefined"]["hd95"] == "absent in truth and prediction"
    assert evaluate(*paths) == 0
    assert "2 named classes are in no volume" in capsys.readouterr().out


@pytest.mark.slow
def test_the_installed_command_runs(folders: tuple[Path, Path]) -> None:
    command = [sys.executable, "-P", "-c", "from augtrain.cli import main; main()", "evaluate", *map(str, folders)]
    done = run_process(command, capture_output=True, text=True, check=True)
    assert "Overlap, mean over 2 volumes" in done.stdout
    assert done.stderr == ""
