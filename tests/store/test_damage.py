"""A damaged dataset is an error that names the volume; it never comes back as zeros."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from augserver.errors import NotFoundError, StoreError, VolumeError
from augserver.store import Dataset, DatasetWriter

IMAGE, LABEL = "b/0/c/0/0/0/0", "b/labels/classes/0/c/0/0/0"


@pytest.mark.parametrize("shard", [IMAGE, LABEL])
@pytest.mark.parametrize("harm", ["missing", "truncated", "longer"])
def test_open_tells_missing_and_truncated_voxel_files(make_dataset: Callable[..., Path], shard: str, harm: str) -> None:
    path = make_dataset()
    file = path / shard
    content = file.read_bytes()
    file.unlink()
    if harm != "missing":
        file.write_bytes(content[:-1] if harm == "truncated" else content + b"\0")
    with pytest.raises(StoreError, match=r"volume 'b' .* is damaged"):
        Dataset.open(path)


@pytest.mark.parametrize("shard", [IMAGE, LABEL])
def test_read_tells_files_that_vanish_after_open(make_dataset: Callable[..., Path], shard: str) -> None:
    path = make_dataset()
    dataset = Dataset.open(path)
    dataset.read("b")
    (path / shard).unlink()
    with pytest.raises(VolumeError, match=r"volume 'b' .* is missing"):
        dataset.read("b")
    assert dataset.read("a").image.any()


@pytest.mark.parametrize("shard", [IMAGE, LABEL])
@pytest.mark.parametrize("twice", [False, True])
def test_read_tells_every_flipped_byte_at_the_first_and_at_later_reads(make_dataset: Callable[..., Path], shard: str, twice: bool) -> None:
    path = make_dataset()
    dataset = Dataset.open(path)
    if twice:
        dataset.read("b")  # from now on only the chunk's checksums stand guard
    whole = (path / shard).read_bytes()
    for position in range(0, len(whole), 7):
        harmed = bytearray(whole)
        harmed[position] ^= 0x10
        (path / shard).write_bytes(harmed)
        with pytest.raises(VolumeError, match="volume 'b'"):
            dataset.read("b")
    (path / shard).write_bytes(whole)
    assert dataset.read("b").image.any()


def test_first_read_tells_a_shard_of_another_volume_of_the_same_size(tmp_path: Path) -> None:
    path = tmp_path / "ds.zarr"
    rng = np.random.default_rng(0)
    with DatasetWriter(path, modality="ct") as writer:
        for name in "ab":  # full-range noise does not compress, so that both shards have one size and whole checksums
            writer.write(name, rng.integers(-32768, 32768, (1, 5, 7, 11)).astype(np.int16), None, (1, 1, 1), np.eye(4))
        writer.finish()
    assert (path / "a/0/c/0/0/0/0").stat().st_size == (path / IMAGE).stat().st_size
    shutil.copy(path / "a/0/c/0/0/0/0", path / IMAGE)
    with pytest.raises(VolumeError, match="volume 'b': the voxels of 0 are not those that were ingested"):
        Dataset.open(path).read("b")


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("b/zarr.json", '"has_label": true', '"has_label": false', "volume 'b' .* metadata was altered"),
        ("b/zarr.json", "-30.0", "-31.0", "volume 'b' .* OME-Zarr metadata was altered"),
        ("b/zarr.json", '"int16"', '"float64"', "volume 'b' .* damaged metadata"),
        ("b/zarr.json", '"affine"', '"afine"', "volume 'b' .* damaged metadata"),
        ("b/zarr.json", '"zarr_format": 3', '"zarr_format": 2', "does not describe a Zarr v3 group"),
        ("b/zarr.json", "{", "", "cannot be read"),
        ("zarr.json", "liver", "river", "digest does not match"),
        ("zarr.json", '"format": 1', '"format": 2', "has format 2, this version reads 1"),
        ("zarr.json", '"augserver"', '"someone"', "not a dataset of augserver"),
        ("zarr.json", '"attributes"', '"atributes"', "does not describe"),
    ],
)
def test_open_tells_altered_metadata(make_dataset: Callable[..., Path], file: str, old: str, new: str, message: str) -> None:
    path = make_dataset()
    text = (path / file).read_text()
    assert old in text
    (path / file).write_text(text.replace(old, new, 1))
    with pytest.raises(StoreError, match=message):
        Dataset.open(path)


@pytest.mark.parametrize(("old", "new"), [('"int16"', '"uint16"'), ("5", "6"), ('"little"', '"big"'), ('"level"', '"depth"')])
def test_read_tells_altered_array_metadata(make_dataset: Callable[..., Path], old: str, new: str) -> None:
    path = make_dataset()
    file = path / "b/0/zarr.json"
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))
    with pytest.raises(VolumeError, match="volume 'b'"):
        Dataset.open(path).read("b")


def test_open_tells_a_missing_volume(make_dataset: Callable[..., Path]) -> None:
    path = make_dataset()
    shutil.rmtree(path / "b")
    with pytest.raises(StoreError, match="b is not a Zarr v3 group"):
        Dataset.open(path)


def test_open_tells_what_is_no_dataset(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="there is no dataset at"):
        Dataset.open(tmp_path / "absent.zarr")
    with pytest.raises(StoreError, match="is not a Zarr v3 group"):
        Dataset.open(tmp_path)
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreError, match=r"zarr\.json"):
        Dataset.open(tmp_path / "file")


def test_open_tells_a_dataset_that_is_not_finished(tmp_path: Path, volume: Callable[..., dict[str, object]]) -> None:
    with DatasetWriter(tmp_path / "ds.zarr", modality="ct") as writer:
        writer.write("a", **volume(1))  # type: ignore[arg-type]
    with pytest.raises(StoreError, match=r"not finished.*resume"):
        Dataset.open(tmp_path / "ds.zarr")


def test_a_dataset_without_volumes_cannot_be_finished_and_leaves_nothing(tmp_path: Path) -> None:
    with DatasetWriter(tmp_path / "ds.zarr", modality="ct") as writer, pytest.raises(StoreError, match="no volume yet"):
        writer.finish()
    assert list(tmp_path.iterdir()) == []


def test_verify_checks_the_voxels_again_after_the_first_read(make_dataset: Callable[..., Path]) -> None:
    path = make_dataset()
    dataset = Dataset.open(path)
    dataset.read("b")
    dataset.verify("b")
    whole = (path / IMAGE).read_bytes()
    (path / IMAGE).write_bytes(bytes([whole[0] ^ 1]) + whole[1:])
    with pytest.raises(VolumeError, match="volume 'b'"):
        dataset.verify("b")


def test_a_link_out_of_the_dataset_is_not_followed_and_one_to_the_dataset_is(make_dataset: Callable[..., Path], tmp_path: Path) -> None:
    path = make_dataset()
    opened = Dataset.open(path)
    (tmp_path / "linked.zarr").symlink_to(path)
    assert Dataset.open(tmp_path / "linked.zarr").read("b").image.any()
    outside = tmp_path / "outside"
    (path / IMAGE).rename(outside)
    (path / IMAGE).symlink_to(outside)
    with pytest.raises(StoreError, match=r"volume 'b'.*link out of the dataset"):
        Dataset.open(path)
    with pytest.raises(VolumeError, match="link out of the dataset"):
        opened.read("b")
