"""KiTS, BraTS, AMOS, WORD, BTCV, FLARE, ACDC: each label lies on its scan, channels are in order, and names come by --layout alone."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from augserver.cli import main
from augserver.ingest.layouts.case_folders import ACDC, BRATS_2018, BRATS_2023, KITS
from augserver.ingest.layouts.image_sets import AMOS, WORD
from augserver.ingest.layouts.paired_folders import BTCV, FLARE_2021, FLARE_2022
from augserver.store import Dataset

AFFINE = np.diag([-0.5, -1.0, 3.0, 1.0])
_CASES = Path("../shared/cases/ingest")


def scan(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(-1000, 1500, (9, 7, 5)).astype(np.int16)


def label(seed: int, ids: tuple[int, ...] = (0, 1, 2)) -> np.ndarray:
    return np.random.default_rng(seed + 1000).choice(ids, (9, 7, 5)).astype(np.uint8)


def save(path: Path, voxels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(voxels, AFFINE), path)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Callable[..., tuple[int, dict[str, Any], Dataset | None]]:
    """run(source, *options): exit code, report and dataset."""
    count = 0

    def call(source: Path, *options: str) -> tuple[int, dict[str, Any], Dataset | None]:
        nonlocal count
        count += 1
        out = tmp_path / f"out{count}.zarr"
        with pytest.raises(SystemExit) as stop:
            main(["ingest", str(source), "--out", str(out), "--json", *options])
        report = json.loads(capsys.readouterr().out)
        return int(stop.value.code or 0), report, Dataset.open(out) if report["volumes"] else None

    return call


def assert_pairs(dataset: Dataset | None, seeds: Mapping[str, tuple[int, ...]], ids: tuple[int, ...] = (0, 1, 2)) -> None:
    """Each volume has the channels made of its seeds, in order, and the label of its first."""
    assert dataset is not None
    assert sorted(dataset.volumes) == sorted(seeds)
    for name, channels in seeds.items():
        volume = dataset.read(name)
        np.testing.assert_array_equal(volume.image, np.stack([scan(seed).T for seed in channels]))
        np.testing.assert_array_equal(volume.label, label(channels[0], ids).T)


def assert_names(dataset: Dataset | None, names: Mapping[int, str]) -> None:
    assert dataset is not None
    assert {key: name for key, name in dataset.classes.items() if key} == names


def _unnamed(ids: tuple[int, ...]) -> dict[int, str]:
    return {key: f"class_{key}" for key in ids if key}


@pytest.mark.parametrize("stem", ["segmentation", "aggregated_MAJ_seg"])
def test_kits(tmp_path: Path, run: Any, stem: str) -> None:
    for number in range(2):
        save(tmp_path / f"src/data/case_{number:05}/imaging.nii.gz", scan(number))
        save(tmp_path / f"src/data/case_{number:05}/{stem}.nii.gz", label(number))
        save(tmp_path / f"src/data/case_{number:05}/instances/tumor_instance-1_annotation-1.nii.gz", label(9))
    seeds = {"case_00000": (0,), "case_00001": (1,)}
    code, report, dataset = run(tmp_path / "src")
    assert (code, report["layout"], report["skipped_files"]) == (0, "kits", {"mask of one instance": 2})
    assert_pairs(dataset, seeds)
    assert_names(dataset, _unnamed((1, 2)))
    code, _, dataset = run(tmp_path / "src", "--layout", "kits")
    assert code == 0
    assert_pairs(dataset, seeds)
    assert_names(dataset, KITS)


BRATS = {
    "2018": ("Brats18_CBICA_AAB_1", "_", ("t1", "t1ce", "t2", "flair"), (0, 1, 2, 4), BRATS_2018, "HGG/"),
    "2020": ("BraTS20_Training_001", "_", ("t1", "t1ce", "t2", "flair"), (0, 1, 2, 4), BRATS_2018, ""),
    "2021": ("BraTS2021_00000", "_", ("t1", "t1ce", "t2", "flair"), (0, 1, 2, 4), BRATS_2018, ""),
    "2023": ("BraTS-GLI-00000-000", "-", ("t1n", "t1c", "t2w", "t2f"), (0, 1, 2, 3), BRATS_2023, ""),
}


@pytest.mark.parametrize("year", BRATS)
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_brats(tmp_path: Path, run: Any, year: str, suffix: str) -> None:
    case, join, names, ids, classes, place = BRATS[year]
    seeds: dict[str, tuple[int, ...]] = {}
    for number in range(2):
        stem = case[:-1] + str(number + 1)
        seeds[stem] = tuple(10 * number + channel for channel in range(4))
        for channel, name in enumerate(names):
            save(tmp_path / f"src/{place}{stem}/{stem}{join}{name}{suffix}", scan(10 * number + channel))
        save(tmp_path / f"src/{place}{stem}/{stem}{join}seg{suffix}", label(10 * number, ids))
    code, report, dataset = run(tmp_path / "src", "--modality", "mr")
    assert (code, report["layout"]) == (0, "brats")
    assert_pairs(dataset, seeds, ids)
    assert_names(dataset, _unnamed(ids))
    code, _, dataset = run(tmp_path / "src", "--modality", "mr", "--layout", "brats")
    assert_pairs(dataset, seeds, ids)
    assert_names(dataset, classes)


def test_brats_of_two_notations_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for year in ("2020", "2023"):
        case, join, names, _, _, _ = BRATS[year]
        for name in (*names, "seg"):
            save(tmp_path / f"src/{case}/{case}{join}{name}.nii.gz", scan(0))
    with pytest.raises(SystemExit):
        main(["ingest", str(tmp_path / "src"), "--out", str(tmp_path / "out.zarr"), "--modality", "mr"])
    assert "ingest them one after the other" in capsys.readouterr().err


@pytest.mark.parametrize(("scan_stem", "label_stem"), [("img{}", "label{}"), ("{}", "{}"), ("img{}", "{}")])
@pytest.mark.parametrize("place", ["", "RawData/Training/"])
def test_btcv(tmp_path: Path, run: Any, scan_stem: str, label_stem: str, place: str) -> None:
    seeds: dict[str, tuple[int, ...]] = {}
    for number in (1, 2, 35):
        save(tmp_path / f"src/{place}img/{scan_stem.format(f'{number:04}')}.nii.gz", scan(number))
        save(tmp_path / f"src/{place}label/{label_stem.format(f'{number:04}')}.nii.gz", label(number))
        seeds[scan_stem.format(f"{number:04}")] = (number,)
    code, report, dataset = run(tmp_path / "src")
    assert (code, report["layout"]) == (0, "btcv")
    assert_pairs(dataset, seeds)
    assert_names(dataset, _unnamed((1, 2)))
    _, _, dataset = run(tmp_path / "src", "--layout", "btcv")
    assert_pairs(dataset, seeds)
    assert_names(dataset, BTCV)


@pytest.mark.parametrize(
    ("images", "labels", "stem", "classes"),
    [
        ("images", "labels", "FLARE22_Tr_{}", FLARE_2022),
        ("imagesTr2200", "labelsTr2200", "FLARE23_{}", FLARE_2022),
        ("TrainingImg", "TrainingMask", "train_{}", FLARE_2021),
    ],
)
def test_flare(tmp_path: Path, run: Any, images: str, labels: str, stem: str, classes: dict[int, str]) -> None:
    seeds: dict[str, tuple[int, ...]] = {}
    for number in (1, 2):
        name = stem.format(f"{number:04}")
        save(tmp_path / f"src/{images}/{name}_0000.nii.gz", scan(number))
        save(tmp_path / f"src/{labels}/{name}.nii.gz", label(number))
        seeds[name] = (number,)
    code, report, dataset = run(tmp_path / "src")
    assert (code, report["layout"]) == (0, "flare")
    assert_pairs(dataset, seeds)
    assert_names(dataset, _unnamed((1, 2)))
    _, _, dataset = run(tmp_path / "src", "--layout", "flare")
    assert_pairs(dataset, seeds)
    assert_names(dataset, classes)


def test_acdc(tmp_path: Path, run: Any) -> None:
    seeds: dict[str, tuple[int, ...]] = {}
    for patient, frames in (("patient001", (1, 12)), ("patient002", (1, 9))):
        folder = tmp_path / "src/training" / patient
        for frame in frames:
            name = f"{patient}_frame{frame:02}"
            seed = len(seeds)
            save(folder / f"{name}.nii.gz", scan(seed))
            save(folder / f"{name}_gt.nii.gz", label(seed, (0, 1, 2, 3)))
            seeds[name] = (seed,)
        save(folder / f"{patient}_4d.nii.gz", np.zeros((9, 7, 5, 30), np.int16))
        (folder / "Info.cfg").write_text("ED: 1\n")
    code, report, dataset = run(tmp_path / "src", "--modality", "mr")
    assert (code, report["layout"], report["skipped_files"]) == (0, "acdc", {"4-D series": 2, ".cfg": 2})
    assert_pairs(dataset, seeds, (0, 1, 2, 3))
    assert_names(dataset, _unnamed((1, 2, 3)))
    _, _, dataset = run(tmp_path / "src", "--modality", "mr", "--layout", "acdc")
    assert_names(dataset, ACDC)
    code, report, _ = run(tmp_path / "src")
    assert all("pass --modality mr" in refused["reason"] for refused in report["refused"])
    assert len(report["refused"]) == 4


def _image_set(root: Path, stems: dict[str, int], labels: dict[str, int], content: dict[str, Any] | None) -> None:
    for stem, seed in stems.items():
        save(root / f"imagesTr/{stem}.nii.gz", scan(seed))
    for stem, seed in labels.items():
        save(root / f"labelsTr/{stem}.nii.gz", label(seed))
    if content is not None:
        (root / "dataset.json").write_text(json.dumps(content))


OLD = {"modality": {"0": "CT"}, "labels": {"0": "background", "1": "x", "2": "y"}}
NEW = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "x": 1, "y": 2}}


@pytest.mark.parametrize(
    ("stems", "labels", "content", "layout", "expected"),
    [
        (["amos_0001", "amos_0507"], ["amos_0001", "amos_0507"], OLD, "decathlon", {"amos_0001": (0,), "amos_0507": (1,)}),
        (["word_0000", "word_0001"], ["word_0000", "word_0001"], OLD, "decathlon", {"word_0000": (0,), "word_0001": (1,)}),
        (["word_0000"], ["word_0000"], OLD, "decathlon", {"word_0000": (0,)}),
        (["a_0000", "b_0000"], ["a", "b"], OLD, "nnunet", {"a": (0,), "b": (1,)}),
        (["a_0000", "b_0000"], ["a", "b"], NEW, "nnunet", {"a": (0,), "b": (1,)}),
        (["c_0001_0000", "c_0002_0000"], ["c_0001", "c_0002"], NEW, "nnunet", {"c_0001": (0,), "c_0002": (1,)}),
        (["c_0001_0000", "c_0001_0001"], ["c_0001"], NEW, "nnunet", {"c_0001": (0, 1)}),
    ],
)
def test_four_digits_are_channels_only_where_labels_and_dataset_json_say_so(
    tmp_path: Path, run: Any, stems: list[str], labels: list[str], content: dict[str, Any], layout: str, expected: dict[str, Any]
) -> None:
    seeds = {stem: index for index, stem in enumerate(stems)}
    first = {name: channels[0] for name, channels in expected.items()}
    _image_set(tmp_path / "src", seeds, {name: first[name] for name in labels}, content)
    code, report, dataset = run(tmp_path / "src")
    assert (code, report["layout"]) == (0, layout)
    assert_pairs(dataset, expected)
    assert_names(dataset, {1: "x", 2: "y"})


@pytest.mark.parametrize(("prefix", "classes"), [("amos", AMOS), ("word", WORD)])
def test_amos_and_word_without_a_dataset_json(tmp_path: Path, run: Any, prefix: str, classes: dict[int, str]) -> None:
    seeds = {f"{prefix}_0001": 1, f"{prefix}_0004": 4}
    _image_set(tmp_path / "src", seeds, seeds, None)
    code, _, dataset = run(tmp_path / "src", "--layout", "amos")
    assert code == 0
    assert_pairs(dataset, {name: (seed,) for name, seed in seeds.items()})
    assert_names(dataset, classes)


def test_amos_tells_its_mr_scans_by_their_numbers(tmp_path: Path, run: Any) -> None:
    seeds = {"amos_0500": 0, "amos_0507": 1}
    _image_set(tmp_path / "src", seeds, seeds, OLD)
    code, report, _ = run(tmp_path / "src", "--layout", "amos")
    assert code == 0
    told = {volume["id"]: [notice for notice in volume["notices"] if "may be MR" in notice] for volume in report["volumes"]}
    assert (len(told["amos_0500"]), len(told["amos_0507"])) == (0, 1)


REGIONS = {"channel_names": {"0": "T1", "1": "T2"}, "labels": {"background": 0, "whole": [1, 2], "core": [2]}}
UNREADABLE = {"labels": "see the paper"}


@pytest.mark.parametrize("content", [REGIONS, UNREADABLE, {}, {"labels": {"0": "background", "first": "x"}}, None])
def test_classes_takes_the_place_of_a_dataset_json_that_cannot_be_read(
    tmp_path: Path, run: Any, capsys: pytest.CaptureFixture[str], content: dict[str, Any] | None
) -> None:
    _image_set(tmp_path / "src", {"c_0000": 0, "c_0001": 1, "d_0000": 2, "d_0001": 3}, {"c": 0, "d": 2}, content)
    (tmp_path / "classes.toml").write_text('1 = "edema"\n2 = "core"\n')
    options = ("--layout", "nnunet", "--modality", "mr")
    with pytest.raises(SystemExit) as stop:
        main(["ingest", str(tmp_path / "src"), "--out", str(tmp_path / "no.zarr"), *options])
    assert stop.value.code == 64
    assert "--classes FILE" in capsys.readouterr().err
    code, _, dataset = run(tmp_path / "src", *options, "--classes", str(tmp_path / "classes.toml"))
    assert code == 0
    assert_pairs(dataset, {"c": (0, 1), "d": (2, 3)})
    assert_names(dataset, {1: "edema", 2: "core"})


def test_a_fixed_name_per_folder(tmp_path: Path, run: Any) -> None:
    root = tmp_path / "src"
    for number in range(2):
        save(root / f"p{number}/a/ct.nii.gz", scan(number))
    save(root / "p0/a/segmentation.nii.gz", label(0))
    save(root / "p1/segmentation.nii.gz", label(1))  # above the scan
    save(root / "p2/ct.nii.gz", scan(2))
    save(root / "segmentation.nii.gz", label(9))  # serves nobody
    code, report, dataset = run(root, "--labels", "segmentation.nii.gz")
    assert code == 3
    assert_pairs(dataset, {"p0_a_ct": (0,), "p1_a_ct": (1,)})
    assert [refused["id"] for refused in report["refused"]] == ["p2_ct"]
    assert report["notices"] == ["1 label has no scan: segmentation.nii.gz"]
    code, report, dataset = run(root / "p0/a", "--labels", "segmentation.nii.gz")
    assert code == 0
    assert_pairs(dataset, {"ct": (0,)})


def test_a_fixed_name_in_a_folder_below(tmp_path: Path, run: Any) -> None:
    for number in range(2):
        save(tmp_path / f"src/p{number}/ct.nii.gz", scan(number))
        save(tmp_path / f"src/p{number}/masks/organs.nii.gz", label(number))
    code, _, dataset = run(tmp_path / "src", "--labels", "masks/organs.nii.gz")
    assert code == 0
    assert_pairs(dataset, {"p0_ct": (0,), "p1_ct": (1,)})


@pytest.mark.parametrize(
    ("ids", "refused"),
    [(("A", "A", "B"), ["A", "A-2"]), (("A", "a", "B"), None), (("x y", "x_y", "B"), None), (("A", "B", "C"), [])],
)
def test_rows_of_a_csv_with_the_same_id_are_refused(tmp_path: Path, run: Any, ids: tuple[str, ...], refused: list[str] | None) -> None:
    for number in range(3):
        save(tmp_path / f"scan{number}.nii.gz", scan(number))
        save(tmp_path / f"label{number}.nii.gz", label(number))
    rows = "".join(f"{name},scan{number}.nii.gz,label{number}.nii.gz\n" for number, name in enumerate(ids))
    (tmp_path / "pairs.csv").write_text("id,image,label\n" + rows)
    code, report, dataset = run(tmp_path / "pairs.csv")
    if refused == []:
        assert code == 0
        assert_pairs(dataset, {name: (number,) for number, name in enumerate(ids)})
        return
    assert code == 3
    assert_pairs(dataset, {"B": (2,)})
    assert len(report["refused"]) == 2
    assert all("lines 2, 3 of pairs.csv have this id" in each["reason"] for each in report["refused"])
    if refused is not None:
        assert [each["id"] for each in report["refused"]] == refused


def test_an_image_without_an_id_is_taken_once(tmp_path: Path, run: Any) -> None:
    for place in ("p1", "p2"):
        save(tmp_path / place / "ct.nii.gz", scan(len(place)))
    save(tmp_path / "label.nii.gz", label(2))
    (tmp_path / "pairs.csv").write_text("image,label\n" + "".join(f"{each}/ct.nii.gz,label.nii.gz\n" for each in ("p1", "p2", "p1")))
    code, report, dataset = run(tmp_path / "pairs.csv")
    assert code == 3
    assert dataset.volumes == ("p2_ct",)
    assert ["lines 2, 4 of pairs.csv" in refused["reason"] for refused in report["refused"]] == [True, True]


@pytest.mark.parametrize(
    ("case", "options", "volumes", "channels"),
    [
        ("folder_per_case_layouts/input/kits23", (), 2, 1),
        ("folder_per_case_layouts/input/brats", ("--modality", "mr"), 2, 4),
        ("folder_per_case_layouts/input/btcv", (), 2, 1),
        ("four_digit_case_numbers/input/amos", (), 4, 1),
        ("four_digit_case_numbers/input/word", (), 4, 1),
        ("nnunet_region_labels/input/ds", ("--modality", "mr", "--classes", str(_CASES / "nnunet_region_labels/input/classes.toml")), 2, 2),
    ],
)
def test_the_shared_cases(run: Any, case: str, options: tuple[str, ...], volumes: int, channels: int) -> None:
    if not (_CASES / case).is_dir():
        pytest.skip("the real scans of shared/data are not here")
    code, report, dataset = run(_CASES / case, *options)
    assert code == 0
    assert len(report["volumes"]) == volumes
    for name in dataset.volumes:
        assert dataset.info(name).shape[0] == channels
        assert dataset.info(name).has_label


def test_dataset_json_may_name_the_labels(tmp_path: Path, run: Any) -> None:
    listed = [{"image": f"imagesTr/img{number:04}.nii.gz", "label": f"labelsTr/label{number:04}.nii.gz"} for number in (1, 2)]
    _image_set(tmp_path / "src", {"img0001": 1, "img0002": 2}, {"label0001": 1, "label0002": 2}, OLD | {"training": listed})
    code, report, dataset = run(tmp_path / "src")
    assert (code, report["layout"]) == (0, "decathlon")
    assert_pairs(dataset, {"img0001": (1,), "img0002": (2,)})


def test_btcv_in_folders_of_the_decathlon(tmp_path: Path, run: Any) -> None:
    _image_set(tmp_path / "src", {"img0001": 1, "img0002": 2}, {"label0001": 1, "label0002": 2}, None)
    code, report, dataset = run(tmp_path / "src")
    assert (code, report["layout"]) == (0, "btcv")
    assert_pairs(dataset, {"img0001": (1,), "img0002": (2,)})


def test_lits_with_labels_in_another_folder(tmp_path: Path, run: Any) -> None:
    for number in (0, 7):
        save(tmp_path / f"src/volume_pt1/volume-{number}.nii", scan(number))
        save(tmp_path / f"src/segmentations/segmentation-{number}.nii", label(number))
    code, report, dataset = run(tmp_path / "src")
    assert (code, report["layout"]) == (0, "lits")
    assert_pairs(dataset, {"volume-0": (0,), "volume-7": (7,)})
    save(tmp_path / "src/volume_pt2/volume-7.nii", scan(8))  # whose is segmentation-7 now?
    code, report, dataset = run(tmp_path / "src")
    assert code == 3
    assert_pairs(dataset, {"volume-0": (0,)})
    assert len(report["refused"]) == 2
    assert report["notices"] == ["1 label has no scan: segmentations/segmentation-7.nii"]


def test_totalsegmentator_at_any_depth(tmp_path: Path, run: Any) -> None:
    for place in ("part1/s1", "part2/deep/s2"):
        save(tmp_path / f"src/{place}/ct.nii.gz", scan(1 + len(place)))
        for name in ("liver", "spleen"):
            save(tmp_path / f"src/{place}/segmentations/{name}.nii.gz", (label(3) == (1 if name == "liver" else 2)).astype(np.uint8))
    for source, names in (("src", ["s1", "s2"]), ("src/part1", ["s1"]), ("src/part1/s1", ["s1"])):
        code, report, dataset = run(tmp_path / source)
        assert (code, report["layout"], sorted(dataset.volumes)) == (0, "totalsegmentator", names)
        assert dataset.classes == {0: "background", 1: "liver", 2: "spleen"}


def test_where_two_layouts_fit_none_is_taken_and_the_report_says_so(tmp_path: Path, run: Any) -> None:
    save(tmp_path / "src/case_00000/imaging.nii.gz", scan(0))
    save(tmp_path / "src/case_00000/segmentation.nii.gz", label(0))
    save(tmp_path / "src/volume-1.nii.gz", scan(1))
    save(tmp_path / "src/labels-1.nii.gz", label(1))
    _, report, _ = run(tmp_path / "src")
    assert report["layout"] == "plain"
    assert report["notices"] == ["looks like ct-org and like kits, so it was read as plain files: pass --layout for the one that it is"]
