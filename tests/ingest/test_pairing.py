"""Ids from names, labels from patterns and folders, classes from files."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

from augserver.cli import main
from augserver.errors import ConfigError, NotFoundError
from augserver.ingest import LabelRule, find_sources, read_classes, select_scans
from augserver.ingest.names import volume_ids
from augserver.store import Dataset


@pytest.mark.parametrize(
    ("names", "ids"),
    [
        ([("data", "a"), ("data", "b")], ["a", "b"]),
        ([("data", "s1", "ct"), ("data", "s2", "ct"), ("data", "other")], ["s1_ct", "s2_ct", "other"]),
        ([("d", "x", "s", "ct"), ("d", "y", "s", "ct")], ["x_s_ct", "y_s_ct"]),
        ([("d", "scan"), ("d", "scan")], ["scan", "scan-2"]),
        ([("d", "Scan"), ("d", "scan")], ["d_Scan", "d_scan-2"]),
        ([("d", "scan"), ("d", "scan"), ("d", "scan-2")], ["scan", "scan-3", "scan-2"]),
        ([("d", "Müller, Hans (2)")], ["M_ller_Hans_2_"]),
        ([("d", "..")], ["volume"]),
        ([("d", "-x.")], ["x"]),
        ([("d", "y" * 300)], ["y" * 100]),
        ([("d", "a b"), ("d", "a?b")], ["d_a_b", "d_a_b-2"]),
    ],
)
def test_ids_are_stems_told_apart_by_folders_then_numbers(names: list[tuple[str, ...]], ids: list[str]) -> None:
    assert volume_ids(names) == ids
    assert volume_ids(names[::-1]) == ids[::-1] or len(set(names)) < len(names)


def _label() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 3, (5, 7, 11)).astype(np.uint8)


@pytest.fixture
def tree(tmp_path: Path, write_scan: Callable[..., Path]) -> Path:
    """src/imagesTr/{a,b}.nii.gz, src/labelsTr/{a,b}.nrrd, src/c/ct.mha, src/c/ct_seg.mha, and things that are no scans."""
    for name in ("imagesTr/a.nii.gz", "imagesTr/b.nii.gz", "c/ct.mha"):
        write_scan(tmp_path / "src" / name)
    label = sitk.GetImageFromArray(_label())
    label.SetSpacing((0.5, 1.0, 3.0))
    label.SetOrigin((10.0, -20.0, 30.0))
    for name in ("labelsTr/a.nrrd", "labelsTr/b.nrrd", "c/ct_seg.mha"):
        write_scan(tmp_path / "src" / name, label)
    (tmp_path / "src/readme.txt").write_text("x")
    (tmp_path / "src/.hidden.nii").write_text("x")
    return tmp_path / "src"


def test_search_finds_scans_at_any_depth_in_order_and_counts_the_rest(tree: Path) -> None:
    found = find_sources([tree])
    assert [source.path.relative_to(tree).as_posix() for source in found.sources] == [
        "c/ct.mha",
        "c/ct_seg.mha",
        "imagesTr/a.nii.gz",
        "imagesTr/b.nii.gz",
        "labelsTr/a.nrrd",
        "labelsTr/b.nrrd",
    ]
    assert found.skipped == {".txt": 1}
    assert len(find_sources([tree, tree / "c/ct.mha"]).sources) == 6
    with pytest.raises(NotFoundError, match="nothing at"):
        find_sources([tree / "absent"])


def test_links_to_files_are_followed_and_those_to_folders_or_nothing_are_reported(tree: Path) -> None:
    (tree / "file.nii.gz").symlink_to(tree / "imagesTr/a.nii.gz")
    (tree / "more").symlink_to(tree / "imagesTr", target_is_directory=True)
    (tree / "gone.nii.gz").symlink_to(tree / "absent.nii.gz")
    found = find_sources([tree])
    assert [source.path.name for source in found.sources if source.path.is_symlink()] == ["file.nii.gz"]
    assert len(found.sources) == 7
    assert found.skipped == {".txt": 1, "link to a folder": 1, "broken link": 1}
    assert len(find_sources([tree / "more"]).sources) == 2  # named by the user


@pytest.mark.parametrize(
    ("labels", "scans", "with_label"),
    [
        ("labelsTr/{id}.nrrd", ["ct", "ct_seg", "a", "b"], ["a", "b"]),
        ("labelsTr", ["ct", "ct_seg", "a", "b"], ["a", "b"]),
        ("{id}_seg.mha", ["ct", "a", "b", "labelsTr_a", "labelsTr_b"], ["ct"]),
    ],
)
def test_labels_by_pattern_and_folder(
    tree: Path, ingest_all: Callable[..., Any], labels: str, scans: list[str], with_label: list[str]
) -> None:
    outcomes, dataset = ingest_all(tree, labels=labels)
    assert sorted(dataset.volumes) == sorted(with_label)
    assert all(dataset.info(name).has_label for name in dataset.volumes)
    assert dataset.class_voxels == {key: len(with_label) * int((_label() == key).sum()) for key in range(3)}
    refused = [outcome for outcome in outcomes if outcome.info is None]
    assert len(outcomes) == len(scans)
    assert all("no label found; looked for" in outcome.reason for outcome in refused)


def test_two_labels_of_one_stem_are_refused(tree: Path, write_scan: Callable[..., Path], ingest_all: Callable[..., Any]) -> None:
    write_scan(tree / "labelsTr/a.nii.gz")
    outcomes, _ = ingest_all(tree / "imagesTr", labels=str(tree / "labelsTr"))
    assert [outcome.reason for outcome in outcomes] == ["a: has several labels, a.nii.gz and a.nrrd; leave one", ""]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.array([0, 256, 300], np.int16), r"no class ids: 256, 300; allowed: whole numbers 0 to 255"),
        (np.array([0, -1, 2], np.int16), r"no class ids: -1;"),
        (np.array([0, 1.5, 2], np.float32), r"no class ids: 1\.5;"),
        (np.array([0, np.nan, 2], np.float32), r"no class ids: nan;"),
        (np.arange(300, 330).astype(np.int32), r"no class ids: 300, 301, 302, 303, 304, 305, 306, 307, \.\.\.;"),
    ],
)
@pytest.mark.filterwarnings("error")
def test_values_that_are_no_class_ids_are_refused(
    tmp_path: Path, write_scan: Callable[..., Path], ingest_all: Callable[..., Any], values: np.ndarray, message: str
) -> None:
    write_scan(tmp_path / "in/scan.mha")
    label = sitk.GetImageFromArray(np.resize(values, (5, 7, 11)))
    label.SetOrigin((10.0, -20.0, 30.0))
    write_scan(tmp_path / "in/scan_seg.mha", label)
    [outcome], dataset = ingest_all(tmp_path / "in", labels="{id}_seg.mha")
    assert dataset is None
    assert re.search(message, outcome.reason)


def test_float_labels_with_whole_values_are_taken_and_labels_elsewhere_refused(
    tmp_path: Path, write_scan: Callable[..., Path], scan_image: Callable[..., sitk.Image], ingest_all: Callable[..., Any]
) -> None:
    for name, shift in (("near", 0.0), ("far", 1000.0)):
        write_scan(tmp_path / f"in/{name}.mha")
        label = scan_image(3) > 500
        label = sitk.Cast(label, sitk.sitkFloat64) * 255
        label.SetOrigin((10.0 + shift, -20.0, 30.0))
        write_scan(tmp_path / f"in/{name}_seg.mha", label)
    outcomes, dataset = ingest_all(tmp_path / "in", labels="{id}_seg.mha")
    assert dataset.volumes == ("near",)
    np.testing.assert_array_equal(dataset.read("near").label, sitk.GetArrayFromImage(scan_image(3) > 500) * 255)
    assert "far: label and image have the same number of voxels in different places" in outcomes[0].reason


@pytest.mark.parametrize("text", ["absent_folder", "../{id}.nii.gz", "/x/{id}.nii.gz", "{id}.nii.gz", "{id}_seg", "{id}_seg.png"])
def test_label_rules_without_meaning_are_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match="--labels"):
        LabelRule.parse(text, [tmp_path])


@pytest.mark.parametrize("place", ["", "sub", "sub/.."])
def test_a_folder_of_labels_that_holds_the_scans_is_refused_with_a_pattern(tmp_path: Path, place: str) -> None:
    (tmp_path / "sub").mkdir()
    with pytest.raises(ConfigError, match=r"holds the scans too.*'\{id\}_seg.nii.gz' or '\{id\}.seg.nrrd'"):
        LabelRule.parse(str(tmp_path), [tmp_path / place])


def test_a_dicom_series_finds_its_label_by_the_name_of_its_folder(
    unzip: Callable[[str], Path], shared_data: Path, ingest_all: Callable[..., Any]
) -> None:
    folder = unzip("cip_chest64/ct-64Dicom.zip")
    (folder / "ct-64Dicom_seg.nrrd").symlink_to(shared_data / "cip_chest64/wholeLung-64.nrrd")
    outcomes, dataset = ingest_all(folder, labels="{id}_seg.nrrd")
    assert [outcome.reason for outcome in outcomes] == [""]
    lungs = dataset.read("ct-64Dicom")
    assert lungs.info.class_voxels == {0: 79 * 64 * 64 - 65624, 1: 65624}
    assert lungs.image[0][lungs.label == 1].mean() < -700  # air, not the chest wall: the grids meet


def test_a_folder_of_labels_serves_a_dicom_series_that_is_the_root_itself(
    unzip: Callable[[str], Path], shared_data: Path, tmp_path: Path, ingest_all: Callable[..., Any]
) -> None:
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels/ct-64Dicom.nrrd").symlink_to(shared_data / "cip_chest64/wholeLung-64.nrrd")
    _, dataset = ingest_all(unzip("cip_chest64/ct-64Dicom.zip"), labels=f"{tmp_path}/labels/../labels")
    assert dataset.info("ct-64Dicom").class_voxels[1] == 65624


def test_labels_are_no_scans(tree: Path) -> None:
    rule = LabelRule.parse("labelsTr", [tree])
    assert [scan.stem for scan in select_scans(find_sources([tree]).sources, rule)] == ["ct", "ct_seg", "a", "b"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("c.toml", '1 = "liver"\n2 = "bone"'),
        ("c.toml", '[classes]\n1 = "liver"\n2 = "bone"'),
        ("c.json", '{"1": "liver", "2": "bone"}'),
        ("c.json", '{"classes": {"1": "liver", "2": "bone"}}'),
        ("c.csv", "id,name\n1,liver\n2,bone\n"),
        ("c.csv", "\ufeff1,liver\r\n2,bone"),
    ],
)
def test_class_names_from_every_format(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert read_classes(tmp_path / name) == {1: "liver", 2: "bone"}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("c.toml", '0 = "air"\n255 = "Leber, \\"A\\": 肺\u2028x"'),
        ("c.json", '{"0": "air", "255": "Leber, \\"A\\": 肺\u2028x"}'),
        ("c.csv", '0,air\r\n255,"Leber, ""A"": 肺\u2028x"\r\n'),
    ],
)
def test_class_names_with_anything_in_them_for_ids_0_to_255(
    tmp_path: Path, name: str, text: str, write_scan: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    odd = 'Leber, "A": 肺\u2028x'
    assert read_classes(tmp_path / name) == {0: "air", 255: odd}
    write_scan(tmp_path / "in/scan.mha")
    label = sitk.GetImageFromArray(np.resize(np.array([0, 255, 7], np.uint8), (5, 7, 11)))
    label.CopyInformation(sitk.ReadImage(str(tmp_path / "in/scan.mha")))
    write_scan(tmp_path / "in/scan_seg.mha", label)
    options = ["--labels", "{id}_seg.mha", "--classes", str(tmp_path / name)]
    with pytest.raises(SystemExit) as stop:
        main(["ingest", str(tmp_path / "in"), "--out", str(tmp_path / "out.zarr"), *options])
    assert stop.value.code == 0
    assert Dataset.open(tmp_path / "out.zarr").classes == {0: "air", 7: "class_7", 255: odd}
    assert "converted scan: label values that the classes do not name, each called class_N: 7" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("c.toml", "1 = 2", "the name of id 1 is 2"),
        ("c.toml", "1 = ", "cannot be read"),
        ("c.json", '{"liver": "1"}', "id 'liver' is not a whole number"),
        ("c.json", '{"256": "x"}', "id '256'"),
        ("c.json", "[1]", "one table"),
        ("c.json", "{", "cannot be read"),
        ("c.csv", "1,a,b", "two columns"),
        ("c.csv", "1,a\n1,b", "id 1 is there twice"),
        ("c.csv", "1,", "the name of id 1 is ''"),
        ("c.csv", "1,liver\n2, liver ", "ids 1 and 2 are both called 'liver'; names must differ"),
        ("c.json", '{"-1": "x"}', "id '-1' is not a whole number 0 to 255"),
        ("c.txt", "1 a", "suffix '.txt' is not known; allowed: .toml, .json, .csv"),
        ("c.csv", "id;name\n\xff", "two columns|cannot be read"),
    ],
)
def test_class_files_without_meaning_are_refused(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_bytes(text.encode("latin-1"))
    with pytest.raises(ConfigError, match=message):
        read_classes(tmp_path / name)
    with pytest.raises(ConfigError, match="cannot be read"):
        read_classes(tmp_path / "absent.toml")
