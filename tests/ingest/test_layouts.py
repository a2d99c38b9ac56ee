"""Layouts of public collections, built from shared scans or toys: found by looking, pairs right, classes named."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from PIL import Image

from augserver.cli import main
from augserver.store import Dataset

AFFINE = np.diag([-0.5, -1.0, 3.0, 1.0])
SHAPE = (11, 7, 5)  # x, y, z


@pytest.fixture
def save() -> Callable[..., np.ndarray]:
    """save(path, seed, classes=0, channels=1): the (Z, Y, X) voxels (or (C, Z, Y, X)) of a NIfTI file that it writes."""

    def write(path: Path, seed: int, *, classes: int = 0, channels: int = 1) -> np.ndarray:
        rng = np.random.default_rng(seed)
        shape = SHAPE if channels == 1 else (*SHAPE, channels)
        voxels = rng.integers(0, classes, shape).astype(np.uint8) if classes else rng.integers(-1000, 2000, shape).astype(np.int16)
        path.parent.mkdir(parents=True, exist_ok=True)
        nibabel.save(nibabel.Nifti1Image(voxels, AFFINE), path)
        return voxels.T

    return write


@pytest.fixture
def ingest_layout(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[dict[str, Any], Dataset | None]]:
    """ingest_layout(source, *options): the JSON report, and the dataset if there is one."""

    def run(source: Path, *options: str) -> tuple[dict[str, Any], Dataset | None]:
        with pytest.raises(SystemExit):
            main(["ingest", str(source), "--out", str(tmp_path / "out.zarr"), "--json", *options])
        report = json.loads(capsys.readouterr().out)
        return report, Dataset.open(tmp_path / "out.zarr") if report["volumes"] else None

    return run


def assert_holds(dataset: Dataset, name: str, image: np.ndarray, label: np.ndarray) -> None:
    volume = dataset.read(name)
    np.testing.assert_array_equal(volume.image, image if image.ndim == 4 else image[None])
    np.testing.assert_array_equal(volume.label, label)


@pytest.mark.parametrize(
    ("layout", "label", "suffix", "classes"),
    [
        ("ct-org", "labels", ".nii.gz", {0: "background", 1: "liver", 2: "bladder", 3: "lungs", 4: "kidneys", 5: "bone", 6: "brain"}),
        ("lits", "segmentation", ".nii", {0: "background", 1: "liver", 2: "tumor"}),
    ],
)
@pytest.mark.parametrize("options", [(), ("named",)])
def test_numbered_volumes(
    tmp_path: Path, save: Any, ingest_layout: Any, layout: str, label: str, suffix: str, classes: dict[int, str], options: tuple[str, ...]
) -> None:
    expected = {}
    for number in (0, 1, 10):
        folder = tmp_path / "src" / ("batch1" if number else "batch0")
        expected[f"volume-{number}"] = (
            save(folder / f"volume-{number}{suffix}", number),
            save(folder / f"{label}-{number}.nii.gz", number + 100, classes=3),
        )
    save(tmp_path / "src/batch0/volume-7.nii.gz", 7)
    report, dataset = ingest_layout(tmp_path / "src", *(("--layout", layout) if options else ()))
    assert report["layout"] == layout
    assert dataset.classes == (classes if options else {0: "background", 1: "class_1", 2: "class_2"})
    assert report["unnamed_classes"] == ("" if options else f"looks like {layout}: pass --layout {layout} for its class names")
    assert dataset.volumes == ("volume-0", "volume-1", "volume-10")
    for name, (image, ids) in expected.items():
        assert_holds(dataset, name, image, ids)
    [refused] = report["refused"]
    assert refused["id"] == "volume-7"
    assert f"no label found; looked for one {label}-7" in refused["reason"]


def test_decathlon_with_channels_in_a_fourth_axis(tmp_path: Path, save: Any, ingest_layout: Any) -> None:
    root = tmp_path / "Task01"
    images = {name: save(root / f"imagesTr/{name}.nii.gz", seed, channels=2) for seed, name in enumerate(("BRATS_001", "BRATS_002"))}
    labels = {name: save(root / f"labelsTr/{name}.nii.gz", seed + 9, classes=4) for seed, name in enumerate(images)}
    save(root / "imagesTs/BRATS_003.nii.gz", 5, channels=2)
    (root / "imagesTr/._BRATS_001.nii.gz").write_text("what macOS leaves behind")
    (root / "dataset.json").write_text(json.dumps({"labels": {"0": "background", "1": "edema", "2": "core", "3": "rim"}}))
    report, dataset = ingest_layout(root, "--modality", "mr")
    assert (report["layout"], report["refused"]) == ("decathlon", [])
    assert dataset.classes == {0: "background", 1: "edema", 2: "core", 3: "rim"}
    for name, image in images.items():
        assert_holds(dataset, name, image, labels[name])


def test_nnunet_with_a_file_per_channel(tmp_path: Path, save: Any, ingest_layout: Any) -> None:
    root = tmp_path / "Dataset001"
    image = np.stack([save(root / f"imagesTr/case_a_000{channel}.nii.gz", channel) for channel in range(3)])
    label = save(root / "labelsTr/case_a.nii.gz", 9, classes=3)
    save(root / "imagesTr/case_b_0000.nii.gz", 0)
    save(root / "imagesTr/case_b_0002.nii.gz", 0)
    save(root / "labelsTr/case_b.nii.gz", 0, classes=3)
    (root / "dataset.json").write_text(json.dumps({"labels": {"background": 0, "liver": 1, "tumor": 2, "ignore": 255}}))
    report, dataset = ingest_layout(root)
    assert report["layout"] == "nnunet"
    assert_holds(dataset, "case_a", image, label)
    assert dataset.classes == {0: "background", 1: "liver", 2: "tumor", 255: "ignore"}
    assert [refused["reason"] for refused in report["refused"]] == ["case_b: has the channels [0, 2], must be 0 to 1; add the missing ones"]


def test_a_csv_of_pairs(tmp_path: Path, save: Any, ingest_layout: Any) -> None:
    first, label = save(tmp_path / "scans/one.nii.gz", 0), save(tmp_path / "masks/odd name.nii.gz", 1, classes=3)
    second, other = save(tmp_path / "scans/two.nii", 2), save(tmp_path / "masks/two.nii.gz", 3, classes=2)
    (tmp_path / "pairs.csv").write_text(
        "id, image, label\nA,scans/one.nii.gz,masks/odd name.nii.gz\n"
        "B,scans/two.nii;scans/one.nii.gz,masks/two.nii.gz\nC,scans/absent.nii,masks/two.nii.gz\nD,scans/two.nii,masks/absent.nii\n"
    )
    report, dataset = ingest_layout(tmp_path / "pairs.csv")
    assert report["layout"] == "csv"
    assert_holds(dataset, "A", first, label)
    assert_holds(dataset, "B", np.stack([second, first]), other)
    reasons = {refused["id"]: refused["reason"] for refused in report["refused"]}
    assert "line 4 names absent.nii" in reasons["C"]
    assert "line 5 of pairs.csv names absent.nii" in reasons["D"]


@pytest.mark.parametrize("text", ["image\nscans/one.nii.gz\n", "a,b\n1,2\n", "image,label\nx.nii,\n"])
def test_a_csv_without_the_columns_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str) -> None:
    (tmp_path / "pairs.csv").write_text(text)
    with pytest.raises(SystemExit) as stop:
        main(["ingest", str(tmp_path / "pairs.csv"), "--out", str(tmp_path / "out.zarr")])
    assert stop.value.code == 64
    assert "needs the columns image and label, filled" in capsys.readouterr().err


def test_totalsegmentator_masks_are_merged(tmp_path: Path, shared_data: Path, ingest_layout: Any) -> None:
    root = tmp_path / "Totalsegmentator"
    segmentation = nibabel.load(shared_data / "totalseg/example_seg.nii.gz")
    ids = np.asarray(segmentation.dataobj)
    names = {1: "spleen", 5: "liver", 11: "lung_left"}
    for case in ("s0001", "s0002"):
        folder = root / case / "segmentations"
        folder.mkdir(parents=True)
        (root / case / "ct.nii.gz").symlink_to(shared_data / "totalseg/example_ct_sm.nii.gz")
        for key, name in names.items():
            if (case, name) != ("s0002", "spleen"):
                mask = nibabel.Nifti1Image((ids == key).astype(np.uint8), segmentation.affine)
                nibabel.save(mask, folder / f"{name}.nii.gz")
    (root / "s0003").mkdir()
    (root / "s0003/ct.nii.gz").symlink_to(shared_data / "totalseg/example_ct_sm.nii.gz")
    report, dataset = ingest_layout(root)
    assert report["layout"] == "totalsegmentator"
    assert dataset.classes == {0: "background", 1: "liver", 2: "lung_left", 3: "spleen"}
    counts = {name: int((ids == key).sum()) for key, name in names.items()}
    assert dataset.info("s0001").class_voxels == {
        0: ids.size - sum(counts.values()),
        1: counts["liver"],
        2: counts["lung_left"],
        3: counts["spleen"],
    }
    assert 3 not in dataset.info("s0002").class_voxels
    volume = dataset.read("s0001")
    assert volume.image[0][volume.label == 2].mean() < -500  # the lung lies where the air is
    assert "s0003: no masks found" in report["refused"][0]["reason"]


@pytest.mark.parametrize("modality", ["ct", "mr"])
def test_chaos_pictures_follow_their_slices(
    tmp_path: Path, write_series: Callable[..., list[Path]], ingest_layout: Any, modality: str
) -> None:
    rng = np.random.default_rng(0)
    voxels = rng.integers(0, 900, (4, 9, 12)).astype(np.uint16)
    greys = {0: 0, 255: 1} if modality == "ct" else {0: 0, 63: 1, 126: 2, 189: 3, 252: 4}
    pictures = rng.choice(list(greys), (4, 9, 12)).astype(np.uint8)
    places = {"ct": ["CT/1/DICOM_anon"], "mr": ["MR/1/T1DUAL/DICOM_anon/InPhase", "MR/1/T2SPIR/DICOM_anon"]}
    for number, place in enumerate((*places["ct"], *places["mr"])):
        kind = place[:2]
        # The first file by name is the uppermost slice: order of names against order of positions.
        write_series(tmp_path / place, voxels + number, step_mm=(0, 0, -3.0), modality=kind, series=f"1.2.{number + 1}")
        ground = tmp_path / place.split("DICOM_anon")[0] / "Ground"
        ground.mkdir()
        for index, picture in enumerate(pictures if kind.lower() == modality else pictures[:0]):
            Image.fromarray(picture).save(ground / f"liver_GT_{index:03}.png")
    report, dataset = ingest_layout(tmp_path, "--modality", modality)
    assert report["layout"] == "chaos"
    assert report["refused"] == []
    expected = {"ct": ["CT_1"], "mr": ["MR_1_T1DUAL_InPhase", "MR_1_T2SPIR"]}[modality]
    assert list(dataset.volumes) == expected
    assert sum(report["skipped_files"].values()) >= 1
    table = np.zeros(256, np.uint8)
    table[list(greys)] = list(greys.values())
    for name in expected:
        volume = dataset.read(name)
        np.testing.assert_array_equal(volume.label, table[pictures][::-1])
        np.testing.assert_array_equal(np.diff(volume.image[0].astype(int), axis=2), np.diff(voxels[::-1].astype(int), axis=2))


def test_chaos_pictures_that_do_not_fit_are_refused(tmp_path: Path, write_series: Callable[..., list[Path]], ingest_layout: Any) -> None:
    for case, (count, size, grey) in enumerate([(3, (9, 12), 255), (4, (8, 12), 255), (4, (9, 12), 17)]):
        write_series(tmp_path / f"CT/{case}/DICOM_anon", np.zeros((4, 9, 12), np.uint16), series=f"1.2.{case + 1}")
        (tmp_path / f"CT/{case}/Ground").mkdir()
        for index in range(count):
            Image.fromarray(np.full(size, grey, np.uint8)).save(tmp_path / f"CT/{case}/Ground/{index}.png")
    report, _ = ingest_layout(tmp_path)
    reasons = [refused["reason"] for refused in report["refused"]]
    assert "3 label pictures for 4 slices" in reasons[0]
    assert "is (12, 8) pixels (x, y), its slice (12, 9)" in reasons[1]
    assert "grey values that are no class; allowed: [0, 1, 255]" in reasons[2]


def test_names_of_files_alone_name_no_class(tmp_path: Path, save: Any, capsys: pytest.CaptureFixture[str]) -> None:
    save(tmp_path / "own/volume-1.nii.gz", 0)
    save(tmp_path / "own/labels-1.nii.gz", 1, classes=7)
    (tmp_path / "names.csv").write_text("1,femur\n2,tibia\n")
    for options, first, told in (
        ([], "class_1", True),
        (["--layout", "ct-org"], "liver", False),
        (["--classes", str(tmp_path / "names.csv")], "femur", False),
    ):
        out = tmp_path / f"{first}.zarr"
        with pytest.raises(SystemExit) as stop:
            main(["ingest", str(tmp_path / "own"), "--out", str(out), *options])
        assert stop.value.code == 0
        assert Dataset.open(out).classes[1] == first
        assert ("looks like ct-org: pass --layout ct-org for its class names" in capsys.readouterr().out) == told


def test_a_folder_of_no_known_layout_stays_plain(tmp_path: Path, save: Any, ingest_layout: Any) -> None:
    save(tmp_path / "src/imagesTr/a.nii.gz", 0)
    save(tmp_path / "src/labelsTr/a.nii.gz", 1, classes=2)
    report, dataset = ingest_layout(tmp_path / "src")
    assert report["layout"] == "plain"
    assert dataset.volumes == ("imagesTr_a", "labelsTr_a")
