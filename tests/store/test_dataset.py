"""What is written comes back, at the right place, in the right type, as valid OME-Zarr; and is named by its content alone."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from ome_zarr_models.v05.image import Image
from ome_zarr_models.v05.image_label import ImageLabel
from ome_zarr_models.v05.labels import Labels

from augserver.errors import ConfigError, GeometryError, NotFoundError, RequestError, StoreError, VolumeError
from augserver.store import Dataset, DatasetWriter


def test_a_volume_comes_back_with_voxels_label_geometry_and_counts(make_dataset: Callable[..., Path], volume: Callable[..., Any]) -> None:
    dataset = Dataset.open(make_dataset())
    written = volume(1)
    got = dataset.read("a")
    assert dataset.volumes == ("a", "b")
    assert got.image.dtype == np.int16
    assert got.label is not None
    np.testing.assert_array_equal(got.image, written["image"])
    np.testing.assert_array_equal(got.label, written["label"])
    np.testing.assert_array_equal(got.info.affine, written["affine"])
    assert got.info.spacing_mm == dataset.spacing_mm == (3.0, 1.0, 0.5)
    assert got.info.class_voxels == {value: int((written["label"] == value).sum()) for value in range(3)}
    assert dataset.classes == {0: "background", 1: "liver", 2: "class_2"}
    assert sum(dataset.class_voxels.values()) == 2 * 5 * 7 * 11
    assert got.image.flags.c_contiguous
    assert not got.image.flags.writeable
    assert not got.label.flags.writeable


@pytest.mark.parametrize(
    ("image", "dtype"),
    [
        (np.array([-32768.0, 32767.0]), "int16"),
        (np.array([-32769, 5]), "float32"),
        (np.array([32768], np.uint16), "float32"),
        (np.array([0.5, 1.0], np.float32), "float32"),
        (np.array([7, 8], ">i2"), "int16"),
        (np.array([1.25, -2.0], ">f4"), "float32"),
        (np.array([True, False]).astype(np.uint8), "int16"),
    ],
)
def test_storage_is_int16_exactly_where_that_loses_nothing(tmp_path: Path, image: np.ndarray, dtype: str) -> None:
    with DatasetWriter(tmp_path / "ds.zarr", modality="mr") as writer:
        writer.write("v", image.reshape(1, 1, 1, -1), None, (1, 1, 1), np.diag([1.0, 1, 1, 1]))
        writer.finish()
    got = Dataset.open(tmp_path / "ds.zarr").read("v")
    assert got.image.dtype == np.dtype(dtype)
    assert got.label is None
    np.testing.assert_array_equal(got.image.ravel(), image.astype(np.float64))


def test_channels_larger_than_a_chunk_come_back(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(-9, 9, (3, 70, 33, 303)).astype(np.int16)
    with DatasetWriter(tmp_path / "ds.zarr", modality="mr") as writer:
        writer.write("v", image, None, (1, 1, 1), np.eye(4))
        writer.finish()
    np.testing.assert_array_equal(Dataset.open(tmp_path / "ds.zarr").read("v").image, image)


def test_volumes_are_valid_ome_zarr_with_sizes_and_places_in_mm(make_dataset: Callable[..., Path]) -> None:
    path = make_dataset()
    image = Image.from_zarr(zarr.open_group(path / "a", mode="r")).ome_attributes.multiscales[0]
    label_group = zarr.open_group(path / "a/labels/classes", mode="r")
    label = ImageLabel.from_zarr(label_group).ome_attributes
    assert Labels.from_zarr(zarr.open_group(path / "a/labels", mode="r")).ome_attributes.labels == ["classes"]
    assert [(axis.name, axis.unit) for axis in image.axes] == [("c", None), ("z", "millimeter"), ("y", "millimeter"), ("x", "millimeter")]
    scale, translation = image.datasets[0].coordinateTransformations
    assert scale.scale == [1.0, 3.0, 1.0, 0.5]
    assert translation.translation == [0.0, -30.0, 20.0, 11.0]
    assert label.multiscales[0].datasets[0].coordinateTransformations[0].scale == [3.0, 1.0, 0.5]
    assert label.image_label.source.image == "../../"
    assert label_group["0"].dtype == np.uint8
    assert zarr.open_array(path / "a/0", mode="r").metadata.dimension_names == ("c", "z", "y", "x")


def test_a_volume_is_seven_files_whatever_its_size(make_dataset: Callable[..., Path], tmp_path: Path) -> None:
    with DatasetWriter(tmp_path / "big.zarr", modality="ct") as writer:
        writer.write("v", np.zeros((1, 100, 300, 300), np.int16), np.zeros((100, 300, 300), np.uint8), (1, 1, 1), np.eye(4))
    assert len([file for file in (tmp_path / "big.zarr/v").rglob("*") if file.is_file()]) == 7
    assert len([file for file in (make_dataset() / "a").rglob("*") if file.is_file()]) == 7


def test_fingerprint_is_of_content_not_of_place_order_time_or_provenance(
    make_dataset: Callable[..., Path], tmp_path: Path, volume: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = Dataset.open(make_dataset("one.zarr", {"a": 1, "b": 2})).fingerprint
    monkeypatch.setattr("augserver.store.writer.CHUNK", (2, 3, 4))
    with DatasetWriter(tmp_path / "elsewhere/two.zarr", modality="ct", classes={1: "liver"}, preprocessing={"x": 1}) as writer:
        writer.write("b", **volume(2), provenance={"format": "dicom"})
        writer.write("a", **volume(1))
        assert writer.finish() == first
    shutil.move(tmp_path / "elsewhere/two.zarr", tmp_path / "moved.zarr")
    assert Dataset.open(tmp_path / "moved.zarr").fingerprint == first


@pytest.mark.parametrize("change", ["voxel", "label", "affine", "id", "class name", "modality", "no label"])
def test_fingerprint_changes_with_every_part_of_the_content(
    make_dataset: Callable[..., Path], tmp_path: Path, volume: Callable[..., Any], change: str
) -> None:
    first = Dataset.open(make_dataset("one.zarr", {"a": 1})).fingerprint
    given, name = volume(1), "a"
    options: dict[str, Any] = {"modality": "ct", "classes": {1: "liver"}}
    match change:
        case "voxel":
            given["image"][0, 4, 6, 10] += 1
        case "label":
            given["label"][4, 6, 10] ^= 3
        case "affine":
            given["affine"] = given["affine"] + np.array([[0, 0, 0, 1e-9], [0] * 4, [0] * 4, [0] * 4])
        case "id":
            name = "A"
        case "class name":
            options["classes"] = {1: "Liver"}
        case "modality":
            options["modality"] = "mr"
        case "no label":
            given["label"] = None
    with DatasetWriter(tmp_path / "two.zarr", **options) as writer:
        writer.write(name, **given)
        assert writer.finish() != first


def test_threads_that_read_at_once_get_their_own_volumes(make_dataset: Callable[..., Path], volume: Callable[..., Any]) -> None:
    dataset = Dataset.open(make_dataset(ids={f"v{seed}": seed for seed in range(4)}))
    with ThreadPoolExecutor(8) as pool:
        for seed, got in zip([*range(4)] * 8, pool.map(lambda seed: dataset.read(f"v{seed}"), [*range(4)] * 8), strict=True):
            np.testing.assert_array_equal(got.image, volume(seed)["image"])


def test_an_unknown_id_names_the_nearest(make_dataset: Callable[..., Path]) -> None:
    dataset = Dataset.open(make_dataset(ids={"case_01": 1, "other": 2}))
    with pytest.raises(NotFoundError, match=r"no volume 'case_1' .* nearest id is 'case_01'"):
        dataset.read("case_1")


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../a", "a/b", "/a", ".partial-a", "-a", "a.", "ä", "a b", "zarr.json", "Zarr.JSON", "x" * 129]
)
def test_ids_that_are_no_plain_safe_names_are_refused(tmp_path: Path, volume: Callable[..., Any], name: str) -> None:
    with DatasetWriter(tmp_path / "ds.zarr", modality="ct") as writer, pytest.raises(RequestError, match="not a safe name"):
        writer.write(name, **volume(1))
    assert list(tmp_path.iterdir()) == []


def test_ids_that_differ_in_case_only_are_refused(tmp_path: Path, volume: Callable[..., Any]) -> None:
    with DatasetWriter(tmp_path / "ds.zarr", modality="ct") as writer:
        writer.write("case", **volume(1))
        with pytest.raises(StoreError, match="already has volume 'case'"):
            writer.write("Case", **volume(2))


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"image": np.full((1, 5, 7, 11), np.nan)}, VolumeError, "385 of 385 voxels are NaN or infinite"),
        ({"image": np.full((1, 5, 7, 11), 1e39)}, VolumeError, "385 of 385 voxels are NaN or infinite"),
        ({"image": np.zeros((1, 5, 7, 11), complex)}, VolumeError, "not real numbers"),
        ({"image": np.zeros((5, 7, 11))}, GeometryError, r"image must be \(C, Z, Y, X\)"),
        ({"image": np.zeros((9, 5, 7, 11))}, GeometryError, "1 to 8 channels"),
        ({"image": np.zeros((1, 0, 7, 11))}, GeometryError, "no empty axis"),
        ({"label": np.zeros((5, 7, 10), np.uint8)}, GeometryError, "label must be uint8"),
        ({"label": np.zeros((5, 7, 11), np.int32)}, GeometryError, "label must be uint8"),
        ({"spacing_mm": (1.0, 3.0, 0.5)}, GeometryError, "disagrees with the affine"),
        ({"spacing_mm": (0.0, 1.0, 0.5)}, GeometryError, "finite numbers > 0"),
        ({"affine": np.zeros((4, 4))}, GeometryError, "last row"),
    ],
)
def test_volumes_without_meaning_are_refused_and_leave_nothing(
    tmp_path: Path, volume: Callable[..., Any], changes: dict[str, Any], error: type[Exception], message: str
) -> None:
    with DatasetWriter(tmp_path / "ds.zarr", modality="ct") as writer, pytest.raises(error, match=message):
        writer.write("v", **(volume(1) | changes))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"modality": "pet"}, "modality must be one of ct, mr"),
        ({"modality": "ct", "classes": {256: "x"}}, "ids 0..255"),
        ({"modality": "ct", "classes": {1: ""}}, "to names"),
        ({"modality": "ct", "classes": {1: "x", 2: "x"}}, "names must differ"),
    ],
)
def test_settings_that_are_not_allowed_are_refused_before_anything_is_made(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        DatasetWriter(tmp_path / "ds.zarr", **options)
    assert list(tmp_path.iterdir()) == []
