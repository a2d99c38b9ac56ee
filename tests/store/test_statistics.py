"""Statistics of volumes: what NumPy says of the same voxels, and what becomes of the file that keeps them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from augserver.errors import StoreError
from augserver.store import Dataset, DatasetWriter
from augserver.store.statistics import PERCENTILES, Distribution, merged_foreground, statistics_of

DATA = Path(__file__).parents[3] / "shared" / "data"
MakeDataset = Callable[..., Path]


def same(found: Distribution | None, voxels: NDArray[Any]) -> None:
    """As NumPy in float64."""
    wide = voxels.astype(np.float64).ravel()
    assert found is not None
    assert (found.count, found.min, found.max) == (wide.size, wide.min(), wide.max())
    scale = float(np.abs(wide).max()) or 1.0
    np.testing.assert_allclose([found.mean, found.std], [wide.mean(), wide.std()], rtol=1e-10, atol=1e-12 * scale)
    np.testing.assert_allclose(found.percentiles, np.percentile(wide, PERCENTILES), rtol=1e-12, atol=0)


def volumes() -> dict[str, tuple[NDArray[Any], NDArray[np.uint8]]]:
    rng = np.random.default_rng(12)
    shape = (9, 17, 23)
    label = rng.integers(0, 4, shape).astype(np.uint8)
    whole = rng.integers(-32768, 32768, (2, *shape)).astype(np.int16)
    whole[:, :3], whole[:, 4, 4, :2] = 0, (-32768, 32767)
    real = rng.normal(3, 200, (3, *shape)).astype(np.float32)
    real[:, :, 2:5] = 0
    return {"int16": (whole, label), "float32": (real, label), "single voxel": (whole[:, 4:5, 4:5, :1], np.ones((1, 1, 1), np.uint8))}


@pytest.mark.parametrize("name", volumes())
def test_every_channel_is_as_numpy_says(name: str) -> None:
    image, label = volumes()[name]
    found = statistics_of(image, label, 3)
    foreground = (label != 0) & (label != 3)
    for channel, voxels in zip(found.channels, image, strict=True):
        same(channel.all, voxels)
        same(channel.nonzero, voxels[voxels != 0])
        same(channel.foreground, voxels[foreground])


def test_more_voxels_than_a_block_are_as_numpy_says() -> None:
    rng = np.random.default_rng(5)
    image = rng.normal(1000, 3, (1, 40, 180, 180)).astype(np.float32)
    same(statistics_of(image, None, None).channels[0].all, image)
    image = (image * 7).astype(np.int16)
    same(statistics_of(image, None, None).channels[0].all, image)


def test_the_order_of_the_voxels_does_not_matter() -> None:
    rng = np.random.default_rng(1)
    cases = volumes()
    assert cases
    for image, label in cases.values():
        order = rng.permutation(label.size)
        mixed = image.reshape(len(image), -1)[:, order].reshape(image.shape)
        found, other = statistics_of(image, label, None), statistics_of(mixed, label.ravel()[order].reshape(label.shape), None)
        assert replace(found, nonzero_box_share=0.0) == replace(other, nonzero_box_share=0.0)


@pytest.mark.parametrize("dtype", ["int16", "float32"])
def test_what_there_is_none_of_is_none(dtype: str) -> None:
    found = statistics_of(np.zeros((1, 3, 4, 5), dtype), np.full((3, 4, 5), 2, np.uint8), 2)
    (channel,) = found.channels
    assert channel.nonzero is None
    assert channel.foreground is None
    assert channel.all == Distribution(count=60, mean=0.0, std=0.0, min=0.0, max=0.0, percentiles=(0.0,) * 7)
    assert found.nonzero_box_share == 0
    constant = statistics_of(np.full((1, 3, 7, 5), 0.1, np.float32), None, None).channels[0]
    assert constant.all.std == 0
    assert constant.nonzero == constant.all
    assert merged_foreground([found]) == (None,)


def test_the_box_of_what_is_not_zero_is_of_all_channels() -> None:
    image = np.zeros((2, 10, 20, 30), np.int16)
    image[0, 2, 3, 4] = image[1, 6, 12, 24] = -1
    assert statistics_of(image, None, None).nonzero_box_share == pytest.approx(5 * 10 * 21 / 6000)
    image[0, 0] = 1
    image[0, 7, 0, 1] = 1
    assert statistics_of(image, None, None).nonzero_box_share == pytest.approx(0.8)


def test_the_foreground_of_all_volumes_is_exact_for_int16_and_close_for_float32() -> None:
    rng = np.random.default_rng(3)
    made = [(rng.normal(80 * n, 40, (1, 30, 40, 50)), rng.integers(0, 3, (30, 40, 50)).astype(np.uint8)) for n in range(3)]
    whole = [(image.astype(np.int16), label) for image, label in made]
    found = merged_foreground(statistics_of(*each, None) for each in whole)
    assert found == merged_foreground(statistics_of(*each, None) for each in reversed(whole))
    same(found[0], np.concatenate([image[0][label > 0] for image, label in whole]))
    real = [(image.astype(np.float32), label) for image, label in made]
    (close,) = merged_foreground(statistics_of(*each, None) for each in real)
    voxels = np.concatenate([image[0][label > 0] for image, label in real]).astype(np.float64)
    assert close is not None
    np.testing.assert_allclose([close.mean, close.std], [voxels.mean(), voxels.std()], rtol=1e-10)
    ranks = np.searchsorted(np.sort(voxels), close.percentiles) / voxels.size * 100
    np.testing.assert_allclose(ranks, PERCENTILES, atol=0.03)


@pytest.mark.skipif(not DATA.is_dir(), reason="no ../shared/data beside the repository")
def test_a_real_scan_is_as_numpy_says() -> None:
    nibabel = pytest.importorskip("nibabel")
    file = min(DATA.rglob("*.nii.gz"), key=lambda path: (path.stat().st_size < 1_000_000, path.stat().st_size))
    image = np.asarray(nibabel.load(file).dataobj, np.float32)
    image = image.reshape(1, *image.shape[:3]) if image.ndim == 3 else np.moveaxis(image, -1, 0)
    for voxels in (image, np.clip(np.rint(image), -32768, 32767).astype(np.int16)):
        label = (voxels[0] > np.median(voxels[0])).astype(np.uint8)
        for channel, wanted in zip(statistics_of(voxels, label, None).channels, voxels, strict=True):
            same(channel.all, wanted)
            same(channel.foreground, wanted[label == 1])


def test_ingest_keeps_what_computing_finds_and_the_fingerprint_stays(make_dataset: MakeDataset) -> None:
    path = make_dataset()
    dataset = Dataset.open(path)
    for name in dataset.volumes:
        assert dataset.statistics(name) == dataset.compute_statistics(name, write=False)
        same(dataset.statistics(name).channels[0].all, dataset.read(name).image)
    labelled = [dataset.read(name) for name in dataset.volumes]
    same(dataset.foreground_statistics()[0], np.concatenate([each.image[0][each.label > 0] for each in labelled]))  # type: ignore[operator]
    kept = {file.name: file.read_bytes() for file in (path / ".statistics").iterdir()}
    for file in (path / ".statistics").iterdir():
        file.unlink()
    without = Dataset.open(path)
    assert without.fingerprint == dataset.fingerprint
    with pytest.raises(StoreError, match=r"volume 'a' .* has no statistics.*augserver info .* --statistics --write"):
        without.statistics("a")
    for name in without.volumes:
        without.compute_statistics(name, write=True)
    assert {file.name: file.read_bytes() for file in (path / ".statistics").iterdir()} == kept


@pytest.mark.parametrize("damage", [b"", b"[]", b"{}", b"\xff\xfe"])
def test_a_damaged_file_is_named_with_the_way_out(make_dataset: MakeDataset, damage: bytes) -> None:
    dataset = Dataset.open(make_dataset())
    file = dataset.path / ".statistics/a.json"
    file.write_bytes(damage)
    with pytest.raises(StoreError, match=r"\.statistics/a\.json cannot be read or is damaged .*augserver info"):
        dataset.statistics("a")


def test_an_altered_number_is_damage(make_dataset: MakeDataset) -> None:
    dataset = Dataset.open(make_dataset())
    file = dataset.path / ".statistics/a.json"
    file.write_text(file.read_text().replace('"mean": ', '"mean": 1', 1))
    with pytest.raises(StoreError, match="its digest does not match"):
        dataset.statistics("a")


def test_another_label_leaves_none_and_an_ignore_class_is_no_foreground(tmp_path: Path, volume: Callable[..., dict[str, Any]]) -> None:
    path = tmp_path / "ds.zarr"
    with DatasetWriter(path, modality="ct", classes={1: "liver", 2: "ignore"}) as writer:
        writer.write("a", **volume(1))
        writer.finish()
    dataset = Dataset.open(path)
    read = dataset.read("a")
    same(dataset.statistics("a").channels[0].foreground, read.image[0][read.label == 1])
    with DatasetWriter.reopen(path) as writer:
        writer.write_label("a", np.ones(read.image.shape[1:], np.uint8), {})
        writer.finish()
    relabelled = Dataset.open(path)
    with pytest.raises(StoreError, match="or those of other voxels"):
        relabelled.statistics("a")
    found = relabelled.compute_statistics("a", write=True)
    assert found.channels[0].foreground == found.channels[0].all
    assert relabelled.statistics("a") == found
