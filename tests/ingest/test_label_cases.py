"""The labels of ../shared/cases/ingest end as their README files say."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from augserver.cli import main
from augserver.store import Dataset


@pytest.fixture
def case(shared_cases: Path) -> Callable[[str], Path]:
    """case(name): the input of a case."""
    return lambda name: shared_cases / name / "input"


@pytest.fixture
def ingest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """ingest(*arguments): exit code, JSON report, dataset or None."""

    def run(*arguments: Any) -> tuple[int, dict[str, Any], Dataset | None]:
        with pytest.raises(SystemExit) as stop:
            main(["ingest", *map(str, arguments), "--out", str(tmp_path / "out.zarr"), "--json"])
        report = json.loads(capsys.readouterr().out)
        return stop.value.code, report, Dataset.open(tmp_path / "out.zarr") if report["volumes"] else None

    return run


def test_same_voxels_with_lost_geometry_are_refused(case: Callable[[str], Path], ingest: Callable[..., Any]) -> None:
    folder = case("label_same_voxels_lost_geometry")
    code, report, _ = ingest(folder / "im", "--labels", folder / "lb")
    assert code == 2
    assert len(report["refused"]) == 4
    for refused in report["refused"]:
        assert "the label has 48x40x8 voxels of 1x1x1 mm from (0, 0, 0) mm" in refused["reason"]
        assert "the image 48x40x8 voxels of 0.7x" in refused["reason"]
        assert "--labels-by-voxel" in refused["reason"]


def test_same_voxels_are_taken_voxel_for_voxel(case: Callable[[str], Path], ingest: Callable[..., Any]) -> None:
    folder = case("label_same_voxels_lost_geometry")
    code, _, dataset = ingest(folder / "im", "--labels", folder / "lb", "--labels-by-voxel")
    assert code == 0
    assert len(dataset.volumes) == 4
    for name in dataset.volumes:
        image = np.asarray(nibabel.load(folder / f"im/{name}.nii.gz").dataobj).T
        label = np.asarray(nibabel.load(folder / f"lb/{name}.nii.gz").dataobj).T
        volume = dataset.read(name)
        for key in np.unique(label):  # wherever ingest turned the voxels to, each class has the image values that it was drawn on
            np.testing.assert_array_equal(np.sort(volume.image[0][volume.label == key]), np.sort(image[label == key]))


def test_segments_have_one_id_per_name(case: Callable[[str], Path], ingest: Callable[..., Any]) -> None:
    code, report, dataset = ingest(case("seg_nrrd_segment_names"), "--labels", "{id}.seg.nrrd")
    assert code == 0
    assert dataset.classes == {0: "background", 1: "lung", 2: "bone"}
    assert [volume["class_voxels"] for volume in report["volumes"]] == [{"0": 8040, "1": 7048, "2": 272}] * 2
    volume = dataset.read("case2")
    assert volume.image[0][volume.label == 1].mean() < -900


def test_segmentations_are_no_scans(case: Callable[[str], Path], ingest: Callable[..., Any]) -> None:
    code, report, dataset = ingest(case("seg_nrrd_segment_names"))
    assert code == 3
    assert dataset.volumes == ("case1", "case2")
    assert all("is a segmentation of 3D Slicer" in refused["reason"] for refused in report["refused"])


def test_masks_that_are_none_are_refused(case: Callable[[str], Path], ingest: Callable[..., Any]) -> None:
    code, report, dataset = ingest(case("mask_folder_soft_masks"))
    assert code == 3
    assert dataset.classes == {0: "background", 1: "bone", 2: "lung"}
    assert {name: dataset.info(name).class_voxels for name in dataset.volumes} == {"s1": {0: 8040, 1: 272, 2: 7048}}
    reasons = [refused["reason"] for refused in report["refused"]]
    for reason, values in zip(reasons, ("0.02, 0.9", "nan", "-1"), strict=True):
        assert f"lung.nii.gz: has values that are no mask: {values};" in reason


def test_almost_whole_values_are_taken(case: Callable[[str], Path], ingest: Callable[..., Any]) -> None:
    folder = case("label_values_almost_whole")
    code, report, dataset = ingest(folder / "imagesTr", "--labels", folder / "labelsTr")
    assert code == 0
    assert dataset.volumes == ("a", "b", "c")
    for volume in report["volumes"]:
        drawn = np.rint(np.asarray(nibabel.load(folder / f"labelsTr/{volume['id']}.nii.gz").dataobj)).astype(int)
        assert volume["class_voxels"] == {str(key): int((drawn == key).sum()) for key in np.unique(drawn)}
        assert any("almost whole were rounded: " in note for note in volume["converted"])
