"""Draws and bytes of every section of a recipe, as they were on 2026-11-30, through the public interface alone.

A recipe of these sections gives these bytes for ever: `sections.txt` is never edited. Each of its lines holds a recipe of
sections.toml, the type and channels of the volumes, the type of the image, and the SHA-256 of the images, the labels and the
drawn values of eight samples. `python tests/known_answers/test_known_answers.py` prints such lines for a new file; it writes none.
"""

from __future__ import annotations

import hashlib
import itertools
import struct
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import augclient
import numpy as np
import pytest

from augserver.config import parse_config
from augserver.kernel import open_backend
from augserver.service.server import Server
from augserver.store import Dataset, DatasetWriter

HERE = Path(__file__).resolve().parent
RECIPES: dict[str, Any] = tomllib.loads((HERE / "sections.toml").read_text())
ANSWERS = [line.split() for line in (HERE / "sections.txt").read_text().splitlines() if line and not line.startswith("#")]
PATCH = (11, 18, 70)
KINDS = list(itertools.product(("int16", "float32"), (1, 3)))


def write_dataset(path: Path, dtype: str, channels: int) -> Dataset:
    """Three labelled volumes of integers from a formula, anisotropic, each of another shape."""
    affine = np.array([[0.0, 0.0, 0.5, 7.0], [0.0, 1.0, 0.0, -3.0], [3.0, 0.0, 0.0, 11.0], [0.0, 0.0, 0.0, 1.0]])
    with DatasetWriter(path, modality="ct", classes={1: "liver", 2: "bone"}) as writer:
        for k, shape in enumerate([(18, 41, 77), (19, 52, 73), (20, 43, 81)]):
            at = np.arange(channels * int(np.prod(shape)), dtype=np.uint64).reshape(channels, *shape) + np.uint64(1_000_003 * k)
            mixed = (at * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(48)  # 0 .. 65535, without a generator that may change
            image = (mixed % 2500).astype(np.int64) - 1000
            voxels = image.astype(np.int16) if dtype == "int16" else (image.astype(np.float32) + (mixed % 16).astype(np.float32) / 16)
            label = (mixed[0] % 29 % 3).astype(np.uint8)
            writer.write(f"case_{k + 1}", voxels, label, (3.0, 1.0, 0.5), affine, {})
        writer.finish()
    return Dataset.open(path)


@contextmanager
def serving(path: Path, dtype: str, channels: int, isa: str | None = None) -> Iterator[augclient.client.Server]:
    server = Server(
        write_dataset(path, dtype, channels), open_backend("cpu", threads=2, isa=isa), parse_config({"listen": {"address": "127.0.0.1:0"}})
    )
    server.start()
    try:
        with augclient.connect(str(server.address)) as client:
            yield client
    finally:
        server.stop()


def answer(client: Any, recipe: dict[str, Any], image_dtype: str) -> tuple[str, str, str]:
    """SHA-256 of eight samples: images, labels, drawn values."""
    images, labels, draws = (hashlib.sha256() for _ in range(3))
    steps = []
    with client.stream(
        augclient.Recipe(**recipe), patch=PATCH, batch_size=2, seed=5, steps=4, image_dtype=image_dtype, transport="grpc"
    ) as stream:
        for batch in stream:
            steps.append(batch.step)
            images.update(np.ascontiguousarray(batch.image).tobytes())
            labels.update(np.ascontiguousarray(batch.label).tobytes())
            for sample in batch.samples:
                window, slab = sample.window or (0.0, 0.0), sample.occlusion or (0, 0)
                draws.update(f"{sample.index} {sample.epoch} {sample.volume} {sample.noise_key} {slab[0]} {slab[1]} ".encode())
                draws.update(sample.affine.astype("<f4").tobytes())
                draws.update(struct.pack("<7f", sample.fill, sample.noise_std, *window, sample.contrast, sample.brightness, sample.gamma))
    assert steps == [0, 1, 2, 3]
    return images.hexdigest(), labels.hexdigest(), draws.hexdigest()


def cases(recipes: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """(recipe, image dtype): uint8 holds a windowed image alone."""
    for name, recipe in recipes.items():
        for image_dtype in ("float32", "float16", "uint8") if "window" in recipe else ("float32", "float16"):
            yield name, image_dtype


@pytest.fixture(scope="module", params=KINDS, ids=lambda kind: f"{kind[0]}x{kind[1]}")
def kind(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, int, Any]]:
    dtype, channels = request.param
    with serving(tmp_path_factory.mktemp("store") / "known.zarr", dtype, channels) as client:
        yield dtype, channels, client


def test_the_sections_give_their_known_bytes(kind: tuple[str, int, Any]) -> None:
    dtype, channels, client = kind
    known = {(name, image_dtype): tuple(rest) for name, of, count, image_dtype, *rest in ANSWERS if (of, count) == (dtype, str(channels))}
    assert list(known) == list(cases(RECIPES))  # every case of the recipes, and no other
    different = [case for case, wanted in known.items() if answer(client, RECIPES[case[0]], case[1]) != wanted]
    assert different == []


def test_the_reference_gives_the_known_bytes_too(tmp_path: Path) -> None:
    known = {(name, image_dtype): tuple(rest) for name, dtype, count, image_dtype, *rest in ANSWERS if (dtype, count) == ("float32", "1")}
    with serving(tmp_path / "known.zarr", "float32", 1, isa="scalar") as client:
        assert [case for case, wanted in known.items() if answer(client, RECIPES[case[0]], case[1]) != wanted] == []
    assert len(known) > len(RECIPES)


def test_no_two_recipes_give_the_same_images() -> None:
    images = [line[4] for line in ANSWERS if line[1:4] == ["int16", "1", "float32"]]
    # "labels" changes labels alone, as do the three ways to label a slab
    assert len(images) == len(RECIPES)
    assert len(set(images)) == len(RECIPES) - 3


if __name__ == "__main__":
    for dtype, channels in KINDS:
        with tempfile.TemporaryDirectory() as folder, serving(Path(folder) / "known.zarr", dtype, channels) as client:
            for name, image_dtype in cases(RECIPES):
                print(name, dtype, channels, image_dtype, *answer(client, RECIPES[name], image_dtype), flush=True)
    sys.exit(0)
