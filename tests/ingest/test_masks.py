"""Masks of a folder per case: which values are masks, who stands where they overlap, and that no class goes without a word."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from augserver.cli import main
from augserver.errors import VolumeError
from augserver.ingest.masks import merge_masks
from augserver.store import Dataset

AFFINE = np.diag([-0.7, -0.8, 3, 1.0])
SHAPE = (6, 9, 12)  # z, y, x


def block(*ranges: tuple[int, int], value: float = 1, dtype: Any = np.uint8) -> np.ndarray:
    voxels = np.zeros(SHAPE, dtype)
    voxels[tuple(slice(*each) for each in ranges)] = value
    return voxels


LIVER = block((1, 4), (2, 6), (3, 9))  # 72 voxels
SPLEEN = block((4, 6), (0, 3), (0, 2))  # 12
BODY = block((0, 6), (0, 9), (0, 12))


@pytest.fixture
def ingest_masks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """ingest_masks(masks by name, *options): exit code, JSON report, dataset or None. Masks may bring an affine: (voxels, affine)."""

    def run(masks: dict[str, Any], *options: str) -> tuple[int, dict[str, Any], Dataset | None]:
        (tmp_path / "src/s1/segmentations").mkdir(parents=True)
        image = np.random.default_rng(0).integers(-1000, 1000, SHAPE).astype(np.int16)
        nibabel.save(nibabel.Nifti1Image(image.T, AFFINE), tmp_path / "src/s1/ct.nii.gz")
        for name, mask in masks.items():
            voxels, affine = mask if isinstance(mask, tuple) else (mask, AFFINE)
            nibabel.save(nibabel.Nifti1Image(voxels.T, affine, dtype=voxels.dtype), tmp_path / f"src/s1/segmentations/{name}.nii.gz")
        with pytest.raises(SystemExit) as stop:
            main(["ingest", str(tmp_path / "src"), "--out", str(tmp_path / "out.zarr"), "--json", *options])
        report = json.loads(capsys.readouterr().out)
        return stop.value.code, report, Dataset.open(tmp_path / "out.zarr") if report["volumes"] else None

    return run


@pytest.mark.parametrize(
    "spleen",
    [
        SPLEEN,
        SPLEEN * 255,
        SPLEEN.astype(np.float32),
        SPLEEN.astype(np.float64) * 255,
        SPLEEN.astype(np.int64),
        SPLEEN.astype(np.int16),
        SPLEEN * np.float32(0.99999994),
        SPLEEN * np.float32(1.0000001),
        SPLEEN.astype(np.float32) - np.float32(1e-6),
    ],
    ids=lambda mask: f"{mask.dtype} {mask.max()!r}",
)
def test_binary_masks_of_every_type_are_taken(ingest_masks: Callable[..., Any], spleen: np.ndarray) -> None:
    code, report, dataset = ingest_masks({"liver": LIVER, "spleen": spleen, "empty": LIVER * 0})
    assert code == 0
    np.testing.assert_array_equal(dataset.read("s1").label, LIVER * 2 + SPLEEN * 3)
    assert dataset.classes == {0: "background", 1: "empty", 2: "liver", 3: "spleen"}
    notes = " ".join(report["volumes"][0]["converted"])
    assert "3 masks merged" in notes
    assert ("mask spleen: 255 marks the inside" in notes) == (spleen.max() == 255)
    assert ("mask spleen: label values that are almost whole were rounded" in notes) == (0 < abs(float(spleen.max()) - 1) < 0.1)
    assert ".nii" not in notes


@pytest.mark.parametrize(
    ("voxels", "message"),
    [
        (np.where(SPLEEN, 0.9, 0.02).astype(np.float32), "values that are no mask: 0.02, 0.9;"),
        (np.where(SPLEEN, np.nan, 0).astype(np.float32), "values that are no mask: nan;"),
        (np.where(SPLEEN, np.inf, 0).astype(np.float32), "values that are no mask: inf;"),
        (-SPLEEN.astype(np.int16), "values that are no mask: -1;"),
        (SPLEEN * 2, "values that are no mask: 0, 2;"),
        (SPLEEN + LIVER * 2, "values that are no mask: 0, 1, 2;"),
        (SPLEEN + LIVER * 255, "values that are no mask: 0, 1, 255;"),
        (SPLEEN * np.int16(256), "values that are no mask: 256;"),
        (SPLEEN * np.float32(254.9), "values that are no mask: 254.9;"),
        (SPLEEN * np.float32(0.998), "values that are no mask: 0.998;"),
        (SPLEEN * np.uint64(2**63), "values that are no mask: 9223372036854775808;"),
    ],
    ids=range(11),
)  # fmt: skip
@pytest.mark.filterwarnings("error")
def test_what_is_no_mask_is_refused_with_its_file_and_values(ingest_masks: Callable[..., Any], voxels: np.ndarray, message: str) -> None:
    code, report, _ = ingest_masks({"liver": LIVER, "spleen": voxels})
    assert code == 2
    assert f"spleen.nii.gz: has {message} allowed: 0 and 1, or 0 and 255" in report["refused"][0]["reason"]


def test_a_class_that_would_vanish_is_refused_with_who_takes_it(ingest_masks: Callable[..., Any]) -> None:
    code, report, _ = ingest_masks({"liver": LIVER, "spleen": SPLEEN, "whole_body": BODY})
    assert code == 2
    reason = report["refused"][0]["reason"]
    assert "spleen, liver would vanish" in reason
    assert "liver loses 72 of its 72 voxels (72 to whole_body)" in reason
    assert "spleen loses 12 of its 12 voxels (12 to whole_body)" in reason
    assert "pass --overlap smallest" in reason


def test_the_smallest_structure_stands_on_demand(ingest_masks: Callable[..., Any]) -> None:
    code, report, dataset = ingest_masks({"liver": LIVER, "spleen": SPLEEN, "whole_body": BODY}, "--overlap", "smallest")
    assert code == 0
    np.testing.assert_array_equal(dataset.read("s1").label, np.where(LIVER, 1, np.where(SPLEEN, 2, 3)))
    assert f"masks overlap: whole_body loses 84 of its {BODY.size} voxels (72 to liver, 12 to spleen)" in report["volumes"][0]["converted"]


def test_by_order_the_highest_id_stands_and_the_losses_are_told(ingest_masks: Callable[..., Any], tmp_path: Path) -> None:
    kidney = block((3, 5), (2, 6), (3, 9))  # 48 voxels, 24 of them in the liver
    code, report, dataset = ingest_masks({"kidney": kidney, "liver": LIVER})
    assert code == 0
    np.testing.assert_array_equal(dataset.read("s1").label, np.where(LIVER, 2, kidney))
    assert "masks overlap: kidney loses 24 of its 48 voxels (24 to liver)" in report["volumes"][0]["converted"]


def test_overlap_is_refused_on_demand(ingest_masks: Callable[..., Any]) -> None:
    code, report, _ = ingest_masks({"kidney": block((3, 5), (2, 6), (3, 9)), "liver": LIVER}, "--overlap", "refuse")
    assert code == 2
    assert "masks overlap: kidney loses 24 of its 48 voxels (24 to liver)" in report["refused"][0]["reason"]


def test_masks_side_by_side_are_no_overlap(ingest_masks: Callable[..., Any]) -> None:
    code, report, _ = ingest_masks({"liver": LIVER, "spleen": SPLEEN}, "--overlap", "refuse")
    assert code == 0
    assert report["volumes"][0]["converted"] == ["2 masks merged"]


def test_three_masks_on_one_voxel_lose_it_to_the_one_that_stands() -> None:
    masks = {1: np.array([[[1, 1, 1, 0]]], bool), 2: np.array([[[0, 1, 1, 1]]], bool), 3: np.array([[[0, 0, 1, 0]]], bool)}
    names = {1: "a", 2: "b", 3: "c"}
    merged, notes = merge_masks(names, masks.__getitem__, overlap="order")
    assert merged.tolist() == [[[1, 2, 3, 2]]]
    assert notes == ("masks overlap: b loses 1 of its 3 voxels (1 to c)", "masks overlap: a loses 2 of its 3 voxels (1 to b, 1 to c)")
    merged, notes = merge_masks(names, masks.__getitem__, overlap="smallest")
    assert merged.tolist() == [[[1, 2, 3, 2]]]  # of a and b, equally large, the higher id
    masks[3][:] = masks[1]
    with pytest.raises(
        VolumeError, match=r"^a would vanish.*a loses 3 of its 3 voxels \(3 to c\).*pass --overlap order, or take a mask out"
    ):
        merge_masks(names, masks.__getitem__, overlap="smallest")


def test_masks_may_be_turned_by_their_headers_but_not_lie_elsewhere(ingest_masks: Callable[..., Any]) -> None:
    flipped = AFFINE @ np.diag([-1, 1, 1, 1.0])
    flipped[:3, 3] = AFFINE[:3, 0] * (SHAPE[2] - 1)
    code, _, dataset = ingest_masks({"liver": LIVER, "spleen": (SPLEEN[:, :, ::-1], flipped)})
    assert code == 0
    np.testing.assert_array_equal(dataset.read("s1").label, LIVER + SPLEEN * 2)


@pytest.mark.parametrize(
    ("voxels", "affine"),
    [(SPLEEN[1:], AFFINE), (SPLEEN, AFFINE * 2), (SPLEEN.transpose(0, 2, 1), AFFINE)],
    ids=["cropped", "scaled", "swapped"],
)
def test_a_mask_on_another_grid_than_the_others_is_refused_by_name(
    ingest_masks: Callable[..., Any], voxels: np.ndarray, affine: np.ndarray
) -> None:
    code, report, _ = ingest_masks({"liver": LIVER, "spleen": (voxels, affine)})
    assert code == 2
    assert "liver.nii.gz: lies on another grid than spleen.nii.gz; masks of a case must share one" in report["refused"][0]["reason"]


def test_masks_that_all_lost_their_geometry_are_refused_or_taken_voxel_for_voxel(ingest_masks: Callable[..., Any], tmp_path: Path) -> None:
    masks = {"liver": (LIVER, np.eye(4)), "spleen": (SPLEEN, np.eye(4))}
    code, report, _ = ingest_masks(masks)
    assert code == 2
    assert "s1: label and image have the same number of voxels in different places" in report["refused"][0]["reason"]
    with pytest.raises(SystemExit):
        main(["ingest", str(tmp_path / "src"), "--out", str(tmp_path / "voxel.zarr"), "--labels-by-voxel"])
    np.testing.assert_array_equal(Dataset.open(tmp_path / "voxel.zarr").read("s1").label, LIVER + SPLEEN * 2)


def test_a_mask_of_the_background_is_left_out(ingest_masks: Callable[..., Any]) -> None:
    code, _, dataset = ingest_masks({"background": 1 - LIVER, "liver": LIVER})
    assert code == 0
    assert dataset.classes == {0: "background", 1: "liver"}
    np.testing.assert_array_equal(dataset.read("s1").label, LIVER)


def test_a_mask_cannot_be_class_0(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, voxels in (("ct", LIVER.astype(np.int16)), ("segmentations/liver", LIVER), ("segmentations/spleen", SPLEEN)):
        path = tmp_path / f"src/s1/{name}.nii.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        nibabel.save(nibabel.Nifti1Image(voxels.T, AFFINE), path)
    (tmp_path / "c.csv").write_text("0,liver\n1,spleen\n")
    with pytest.raises(SystemExit) as stop:
        main(["ingest", str(tmp_path / "src"), "--out", str(tmp_path / "out.zarr"), "--classes", str(tmp_path / "c.csv")])
    assert stop.value.code != 0
    assert "['liver'] have no id 1 to 255 in --classes" in capsys.readouterr().err


def test_one_mask_that_lost_its_geometry_is_refused_by_name_or_taken_voxel_for_voxel(
    ingest_masks: Callable[..., Any], tmp_path: Path
) -> None:
    code, report, _ = ingest_masks({"liver": LIVER, "spleen": (SPLEEN, np.eye(4))})
    assert code == 2
    assert "liver.nii.gz: lies on another grid than spleen.nii.gz" in report["refused"][0]["reason"]
    with pytest.raises(SystemExit):
        main(["ingest", str(tmp_path / "src"), "--out", str(tmp_path / "voxel.zarr"), "--labels-by-voxel"])
    np.testing.assert_array_equal(Dataset.open(tmp_path / "voxel.zarr").read("s1").label, LIVER + SPLEEN * 2)
