"""Segmentations of 3D Slicer: class ids go by the names of segments, whatever their values, layers and files are called."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from augserver.cli import main
from augserver.store import Dataset

SHAPE = (6, 9, 12)  # z, y, x
AFFINE = np.diag([-0.7, -0.8, 3, 1.0])
LUNG, BONE = np.zeros((2, *SHAPE), np.uint8)
LUNG[1:4, 2:6, 3:9] = 1
BONE[4:6, 0:3, 0:2] = 1


def write_seg(
    path: Path, layers: np.ndarray, segments: Sequence[dict[str, Any]], *, lines: Sequence[str] = (), encoding: str = "gzip"
) -> Path:
    """Write (L, Z, Y, X) layers, or (Z, Y, X) voxels, as Slicer does: the layer is the fastest axis."""
    path.parent.mkdir(parents=True, exist_ok=True)
    layered = layers.ndim == 4
    voxels = np.moveaxis(layers, 0, -1) if layered else layers
    kind = {1: "unsigned char", 2: "unsigned short", 4: "float"}[voxels.itemsize]
    header = [
        "NRRD0004",
        f"type: {kind}",
        f"dimension: {voxels.ndim}",
        "space: left-posterior-superior",
        f"sizes: {' '.join(map(str, voxels.shape[::-1]))}",
        f"space directions: {'none ' if layered else ''}(0.7,0,0) (0,0.8,0) (0,0,3)",
        f"kinds: {'list ' if layered else ''}domain domain domain",
        "endian: little",
        f"encoding: {encoding}",
        "space origin: (0,0,0)",
    ]
    for number, segment in enumerate(segments):
        header += [f"Segment{number}_{key}:={value}" for key, value in ({"ID": f"Segment_{number + 1}"} | segment).items()]
    header += ["Segmentation_MasterRepresentation:=Binary labelmap", *lines]
    data = voxels.tobytes()
    path.write_bytes("\n".join([*header, "", ""]).encode() + (gzip.compress(data) if encoding == "gzip" else data))
    return path


def segment(name: str, value: int | str = 1, layer: int | str = 0) -> dict[str, Any]:
    return {"Name": name, "LabelValue": value, "Layer": layer}


@pytest.fixture
def ingest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """ingest(*options): exit code, JSON report and dataset of tmp_path/src, where each .seg.nrrd gets a scan of its stem."""

    def run(*options: str, labels: str | None = "{id}.seg.nrrd", out: str = "out.zarr") -> tuple[int, dict[str, Any], Dataset | None]:
        for path in (tmp_path / "src").glob("*.seg.nrrd"):
            image = np.random.default_rng(0).integers(-1000, 1000, SHAPE).astype(np.int16)
            nibabel.save(nibabel.Nifti1Image(image.T, AFFINE), path.with_name(path.name.replace(".seg.nrrd", ".nii.gz")))
        where = ["--labels", labels] if labels else []
        with pytest.raises(SystemExit) as stop:
            main(["ingest", str(tmp_path / "src"), "--out", str(tmp_path / out), "--json", *options, *where])
        written = capsys.readouterr()
        report = json.loads(written.out) if written.out else {"volumes": [], "error": written.err}
        return stop.value.code, report, Dataset.open(tmp_path / out) if report["volumes"] else None

    return run


def test_one_name_has_one_id_in_every_volume_whatever_its_value(ingest: Callable[..., Any], tmp_path: Path) -> None:
    write_seg(tmp_path / "src/case1.seg.nrrd", LUNG + BONE * 2, [segment("lung", 1), segment("bone", 2)])
    write_seg(tmp_path / "src/case2.seg.nrrd", BONE + LUNG * 2, [segment("bone", 1), segment("lung", 2)])
    write_seg(tmp_path / "src/case3.seg.nrrd", (BONE * np.uint16(700)).astype(np.uint16), [segment("bone", 700)], encoding="raw")
    write_seg(tmp_path / "src/case4.seg.nrrd", LUNG + BONE * 2, [segment("tumour  core", 1), segment("LUNG ", 2)])
    code, report, dataset = ingest()
    assert (code, report["refused"]) == (0, [])
    assert dataset.classes == {0: "background", 1: "lung", 2: "bone", 3: "tumour  core"} | {1: dataset.classes[1]}
    assert dataset.classes[1].casefold() == "lung"
    for name, expected in (("case1", LUNG + BONE * 2), ("case2", LUNG + BONE * 2), ("case3", BONE * 2), ("case4", LUNG * 3 + BONE)):
        np.testing.assert_array_equal(dataset.read(name).label, expected)
    assert "segments by name: lung is 1, bone is 2" in report["volumes"][1]["converted"]


def test_names_in_any_script_with_anything_in_them(ingest: Callable[..., Any], tmp_path: Path) -> None:
    names = ["Leber-Gefäß", "肺", 'left lung: upper, lobe = "A"', "a\\\\b"]  # a backslash is written as two
    layers = np.zeros(SHAPE, np.uint8)
    for value in range(1, 5):
        layers[value] = value
    write_seg(tmp_path / "src/a.seg.nrrd", layers, [segment(name, value) for value, name in enumerate(names, 1)])
    write_seg(tmp_path / "src/b.seg.nrrd", layers, [segment("Leber-Gefa\u0308ß", 4), *(segment(n, v) for v, n in enumerate(names[1:], 1))])
    code, _, dataset = ingest()
    assert code == 0
    assert list(dataset.classes.values())[2:] == ["肺", 'left lung: upper, lobe = "A"', "a\\b"]
    np.testing.assert_array_equal(dataset.read("b").label, np.array([0, 2, 3, 4, 1], np.uint8)[layers])


def test_layers_are_merged_and_overlaps_told(ingest: Callable[..., Any], tmp_path: Path) -> None:
    body = np.ones(SHAPE, np.uint8)
    segments = [segment("lung", 1, 0), segment("bone", 2, 0), segment("body", 1, 1)]
    write_seg(tmp_path / "src/a.seg.nrrd", np.stack([LUNG + BONE * 2, body]), segments)
    code, report, _ = ingest()
    assert code == 2
    assert "bone, lung would vanish, as masks overlap" in report["refused"][0]["reason"]
    code, report, dataset = ingest("--overlap", "smallest")
    assert code == 0
    np.testing.assert_array_equal(dataset.read("a").label, np.where(LUNG, 1, np.where(BONE, 2, 3)))
    [volume] = report["volumes"]
    assert "2 layers merged" in volume["converted"]
    assert f"masks overlap: body loses 84 of its {body.size} voxels (72 to lung, 12 to bone)" in volume["converted"]
    assert ingest("--overlap", "refuse", out="refused.zarr")[0] == 2


def test_a_file_of_old_slicer_has_a_layer_of_0_and_1_per_segment(ingest: Callable[..., Any], tmp_path: Path) -> None:
    write_seg(tmp_path / "src/a.seg.nrrd", np.stack([LUNG, BONE]), [{"Name": "lung"}, {"Name": "bone"}])
    write_seg(tmp_path / "src/b.seg.nrrd", BONE, [{"Name": "bone"}])
    code, _, dataset = ingest("--overlap", "refuse")
    assert code == 0
    np.testing.assert_array_equal(dataset.read("a").label, LUNG + BONE * 2)
    np.testing.assert_array_equal(dataset.read("b").label, BONE * 2)


def test_segments_of_one_name_are_one_class(ingest: Callable[..., Any], tmp_path: Path) -> None:
    write_seg(tmp_path / "src/a.seg.nrrd", LUNG + BONE * 2, [segment("lesion", 1), segment("lesion", 2)])
    write_seg(tmp_path / "src/b.seg.nrrd", np.stack([LUNG, LUNG + BONE]), [segment("lesion", 1, 0), segment("lesion", 1, 1)])
    code, report, dataset = ingest("--overlap", "refuse")
    assert code == 0
    assert dataset.classes == {0: "background", 1: "lesion"}
    for name in ("a", "b"):
        np.testing.assert_array_equal(dataset.read(name).label, LUNG + BONE)
    assert "several segments are called lesion: taken for one class each" in report["volumes"][0]["converted"]


def test_given_classes_number_the_names(ingest: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "c.csv").write_text("0,nothing\n7,Bone\n9,lung\n11,never seen\n")
    write_seg(tmp_path / "src/a.seg.nrrd", LUNG + BONE * 2, [segment("lung", 1), segment("bone", 2)])
    write_seg(tmp_path / "src/b.seg.nrrd", LUNG + BONE * 2, [segment("lung", 1), segment("tumour", 2)])
    code, report, dataset = ingest("--classes", str(tmp_path / "c.csv"))
    assert code == 3
    assert dataset.classes == {0: "nothing", 7: "Bone", 9: "lung", 11: "never seen"}
    np.testing.assert_array_equal(dataset.read("a").label, LUNG * 9 + BONE * 7)
    assert "b: its segment 'tumour' has no class id: the classes are called Bone, lung, never seen" in report["refused"][0]["reason"]


def test_named_and_unnamed_labels_do_not_mix_unless_classes_are_given(ingest: Callable[..., Any], tmp_path: Path) -> None:
    write_seg(tmp_path / "src/a.seg.nrrd", BONE, [segment("bone", 1)])
    write_seg(tmp_path / "src/b.seg.nrrd", LUNG, [])
    text = (tmp_path / "src/b.seg.nrrd").read_bytes().replace(b"Segmentation_MasterRepresentation:=Binary labelmap\n", b"")
    (tmp_path / "src/b.seg.nrrd").write_bytes(text)  # a label map by a script: values alone
    code, report, dataset = ingest()
    assert code == 3
    assert dataset.volumes == ("a",)
    assert "b: some labels of this dataset are segmentations of Slicer, whose classes have names" in report["refused"][0]["reason"]
    (tmp_path / "c.csv").write_text("1,lung\n2,bone\n")
    code, _, dataset = ingest("--classes", str(tmp_path / "c.csv"), out="named.zarr")
    assert code == 0
    np.testing.assert_array_equal(dataset.read("a").label, BONE * 2)
    np.testing.assert_array_equal(dataset.read("b").label, LUNG)


@pytest.mark.parametrize(
    ("layers", "segments", "message"),
    [
        (LUNG + BONE * 2, [segment("lung", 1)], "layer 0 has values that are no segment's: 2; its segments have [1]"),
        (LUNG * np.float32(0.5), [segment("lung", 1)], "values that are no segment's: 0.5"),
        (LUNG, [segment("lung", 1), segment("bone", 1)], "segment 'bone' has LabelValue 1 in layer 0, which another segment has too"),
        (LUNG, [segment("lung", 0)], "LabelValue 0 in layer 0, which the background has"),
        (LUNG, [segment("lung", 1, 1)], "segment 'lung' has LabelValue 1 and Layer 1, the file 1 layer(s)"),
        (LUNG, [{"Name": "lung"}, {"Name": "bone"}], "segment 'lung' has LabelValue None and Layer None"),
        (LUNG, [segment("lung", "one")], "Segment0_LabelValue is 'one', must be a whole number"),
        (LUNG, [segment("lung", -1)], "Segment0_LabelValue is '-1', must be a whole number"),
        (LUNG, [{"Name": "", "ID": "", "LabelValue": 1, "Layer": 0}], "Segment0 has neither Name nor ID"),
    ],
)  # fmt: skip
def test_headers_that_do_not_say_what_is_whose_are_refused(
    ingest: Callable[..., Any], tmp_path: Path, layers: np.ndarray, segments: list[dict[str, Any]], message: str
) -> None:
    write_seg(tmp_path / "src/a.seg.nrrd", layers, segments)
    code, report, _ = ingest()
    assert code == 2
    assert message in report["refused"][0]["reason"]
    assert "a.seg.nrrd" in report["refused"][0]["reason"]


def test_a_segmentation_is_no_scan(ingest: Callable[..., Any], tmp_path: Path) -> None:
    write_seg(tmp_path / "src/a.seg.nrrd", LUNG, [segment("lung", 1)])
    write_seg(tmp_path / "src/empty.seg.nrrd", LUNG * 0, [])
    write_seg(tmp_path / "src/other.nrrd", np.stack([LUNG, BONE]), [segment("lung", 1, 0), segment("bone", 1, 1)])
    code, report, dataset = ingest(labels=None)
    assert code == 3
    assert dataset.volumes == ("a", "empty")
    reasons = {refused["id"]: refused["reason"] for refused in report["refused"]}
    assert "a.seg.nrrd: is a segmentation of 3D Slicer (lung), no scan; name it as a label: --labels '{id}.seg.nrrd'" in reasons["a.seg"]
    assert "(no segments)" in reasons["empty.seg"]
    assert "other.nrrd: is a segmentation of 3D Slicer (lung, bone), no scan" in reasons["other"]


@pytest.mark.parametrize("layered", [False, True])
def test_a_segmentation_that_slicer_cropped_is_background_beyond_its_box(ingest: Callable[..., Any], tmp_path: Path, layered: bool) -> None:
    box = (slice(1, 4), slice(2, 6), slice(3, 9))  # of the lung
    stored = np.stack([LUNG[box], LUNG[box] * 0]) if layered else LUNG[box]
    path = tmp_path / "src/case1.seg.nrrd"
    segments = [segment("lung")] + ([segment("bone", 1, 1)] if layered else [])
    write_seg(path, stored, segments, lines=["Segmentation_ReferenceImageExtentOffset:=3 2 1"])
    path.write_bytes(path.read_bytes().replace(b"space origin: (0,0,0)", b"space origin: (2.1,1.6,3)", 1))
    code, report, dataset = ingest()
    assert (code, report["refused"]) == (0, [])
    np.testing.assert_array_equal(dataset.read("case1").label, LUNG)
    covers = "covers 11.1% of the image: the rest is background, as it was cropped to its segments"
    assert covers in " ".join(report["volumes"][0]["converted"])


def test_a_segmentation_that_does_not_say_so_must_cover_its_scan(ingest: Callable[..., Any], tmp_path: Path) -> None:
    write_seg(tmp_path / "src/case1.seg.nrrd", LUNG[:3], [segment("lung")])
    code, report, _ = ingest()
    assert (code, report["volumes"]) == (2, [])
    assert "the label's grid covers 50% of the image" in report["refused"][0]["reason"]


def test_a_segmentation_without_segments_is_a_label_of_background(ingest: Callable[..., Any], tmp_path: Path) -> None:
    write_seg(tmp_path / "src/a.seg.nrrd", LUNG, [segment("lung", 1)])
    write_seg(tmp_path / "src/empty.seg.nrrd", LUNG * 0, [])
    code, _, dataset = ingest()
    assert code == 0
    assert dataset.info("empty").class_voxels == {0: LUNG.size}


@pytest.mark.parametrize("name", ["a.seg.nrrd", "a.nrrd"])
def test_a_folder_of_segmentations_pairs_by_stem(ingest: Callable[..., Any], tmp_path: Path, name: str) -> None:
    image = np.random.default_rng(0).integers(-1000, 1000, SHAPE).astype(np.int16)
    (tmp_path / "src").mkdir()
    nibabel.save(nibabel.Nifti1Image(image.T, AFFINE), tmp_path / "src/a.nii.gz")
    write_seg(tmp_path / "segs" / name, BONE * 3, [segment("bone", 3)])
    code, report, dataset = ingest(labels=str(tmp_path / "segs"))
    assert (code, report["refused"]) == (0, [])
    assert dataset.classes == {0: "background", 3: "bone"}
    np.testing.assert_array_equal(dataset.read("a").label, BONE * 3)


def test_a_csv_of_pairs_takes_segmentations(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = np.random.default_rng(0).integers(-1000, 1000, SHAPE).astype(np.int16)
    rows = ["image,label"]
    for number, (first, second) in enumerate((("lung", "bone"), ("bone", "lung"))):
        nibabel.save(nibabel.Nifti1Image(image.T, AFFINE), tmp_path / f"scan{number}.nii.gz")
        write_seg(tmp_path / f"Segmentation_{number}.seg.nrrd", LUNG + BONE * 2, [segment(first, 1), segment(second, 2)])
        rows.append(f"scan{number}.nii.gz,Segmentation_{number}.seg.nrrd")
    (tmp_path / "pairs.csv").write_text("\n".join(rows))
    with pytest.raises(SystemExit) as stop:
        main(["ingest", str(tmp_path / "pairs.csv"), "--out", str(tmp_path / "out.zarr")])
    assert stop.value.code == 0, capsys.readouterr()
    dataset = Dataset.open(tmp_path / "out.zarr")
    np.testing.assert_array_equal(dataset.read("scan0").label, LUNG + BONE * 2)
    np.testing.assert_array_equal(dataset.read("scan1").label, LUNG * 2 + BONE)


def test_names_keep_their_ids_when_more_scans_come(ingest: Callable[..., Any], tmp_path: Path) -> None:
    write_seg(tmp_path / "src/m.seg.nrrd", LUNG, [segment("lung", 1)])
    ingest()
    write_seg(tmp_path / "src/a.seg.nrrd", BONE + LUNG * 2, [segment("bone", 1), segment("lung", 2)])
    code, _, dataset = ingest()
    assert code == 0
    assert dataset.classes == {0: "background", 1: "lung", 2: "bone"}
    np.testing.assert_array_equal(dataset.read("m").label, LUNG)
    np.testing.assert_array_equal(dataset.read("a").label, LUNG + BONE * 2)


def test_named_labels_do_not_join_a_dataset_of_unnamed_ones(ingest: Callable[..., Any], tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(-1000, 1000, SHAPE).astype(np.int16)
    (tmp_path / "src").mkdir()
    nibabel.save(nibabel.Nifti1Image(image.T, AFFINE), tmp_path / "src/old.nii.gz")
    nibabel.save(nibabel.Nifti1Image(LUNG.T, AFFINE), tmp_path / "src/old_seg.nii.gz")
    assert ingest(labels="{id}_seg.nii.gz")[0] == 0
    for file in (tmp_path / "src").iterdir():
        file.unlink()
    write_seg(tmp_path / "src/new.seg.nrrd", BONE, [segment("bone", 1)])
    code, report, _ = ingest()
    assert code == 2
    assert "ingest the two kinds into datasets of their own" in report["refused"][0]["reason"]


def test_names_that_slicer_made_up_are_doubted(ingest: Callable[..., Any], tmp_path: Path) -> None:
    write_seg(tmp_path / "src/a.seg.nrrd", LUNG + BONE * 2, [segment("Segment_1", 1), segment("bone", 2)])
    code, report, _ = ingest()
    assert code == 0
    told = "Slicer made up names of segments, which may be something else in other volumes: Segment_1"
    assert told in report["volumes"][0]["notices"]
    code, report, _ = ingest("--strict", out="strict.zarr")
    assert code == 2
    assert told in report["refused"][0]["reason"]


def test_unnamed_labels_do_not_take_the_names_of_a_dataset_of_segmentations(ingest: Callable[..., Any], tmp_path: Path) -> None:
    write_seg(tmp_path / "src/first.seg.nrrd", BONE, [segment("bone", 1)])
    assert ingest()[0] == 0
    (tmp_path / "src/first.seg.nrrd").unlink()
    image = np.random.default_rng(0).integers(-1000, 1000, SHAPE).astype(np.int16)
    for name, value in (("one", 1), ("two", 2)):
        nibabel.save(nibabel.Nifti1Image(image.T, AFFINE), tmp_path / f"src/{name}.nii.gz")
        nibabel.save(nibabel.Nifti1Image(LUNG.T * np.uint8(value), AFFINE), tmp_path / f"src/{name}_seg.nii.gz")
    code, report, dataset = ingest(labels="{id}_seg.nii.gz")
    assert code == 3
    reasons = {refused["id"]: refused["reason"] for refused in report["refused"]}
    assert "one_seg.nii.gz: has the value 1, which other labels of the dataset call 'bone'" in reasons["one"]
    assert dataset.classes == {0: "background", 1: "bone", 2: "class_2"}
    assert dataset.volumes == ("first", "two")


@pytest.mark.parametrize("ids", ["names", "hashed"])
def test_a_layout_pairs_segmentations_too_and_takes_its_own_names(tmp_path: Path, capsys: pytest.CaptureFixture[str], ids: str) -> None:
    image = np.random.default_rng(0).integers(-1000, 1000, SHAPE).astype(np.int16)
    (tmp_path / "src/imagesTr").mkdir(parents=True)
    for name, first in (("anna", "lung"), ("bert", "tumour")):
        nibabel.save(nibabel.Nifti1Image(image.T, AFFINE), tmp_path / f"src/imagesTr/{name}.nii.gz")
        image = image + 1
        write_seg(tmp_path / f"src/labelsTr/{name}.seg.nrrd", LUNG + BONE * 2, [segment(first, 1), segment("bone", 2)])
    labels = {"background": 0, "bone": 1, "lung": 2}
    content = {"labels": {str(value): name for name, value in labels.items()}, "modality": {"0": "CT"}}
    (tmp_path / "src/dataset.json").write_text(json.dumps(content))
    with pytest.raises(SystemExit) as stop:
        main(["ingest", str(tmp_path / "src"), "--out", str(tmp_path / "out.zarr"), "--layout", "decathlon", "--ids", ids])
    written = capsys.readouterr()
    assert stop.value.code == 3, written
    dataset = Dataset.open(tmp_path / "out.zarr")
    assert dataset.classes == {0: "background", 1: "bone", 2: "lung"}
    [name] = dataset.volumes
    np.testing.assert_array_equal(dataset.read(name).label, LUNG * 2 + BONE)
    assert "its segment 'tumour' has no class id: the classes are called bone, lung" in written.out
    assert (ids == "hashed") == ("bert" not in written.out)
