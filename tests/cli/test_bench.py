"""`augserver bench`: every stage measured for real on a small dataset; what the numbers mean, on made-up ones."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from augserver.cli import main
from augserver.cli.bench import summarize
from augserver.store import DatasetWriter

AFFINE = np.array([[0.0, 0.0, 0.5, 0.0], [0.0, 1.0, 0.0, 0.0], [3.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]])
PATCH = (96, 96, 96)
FAST = {"scipy": 10.0, "store": 50.0, "kernel": 200.0, "pipeline": 190.0, "grpc": 90.0, "local": 180.0}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("store") / "toy.zarr"
    rng = np.random.default_rng(0)
    with DatasetWriter(path, modality="ct", classes={1: "liver"}) as writer:
        for name, shape in (("a", (9, 16, 24)), ("b", (8, 20, 22))):
            image, label = rng.integers(-1000, 1000, (1, *shape)).astype(np.int16), rng.integers(0, 2, shape).astype(np.uint8)
            writer.write(name, image, label, (3.0, 1.0, 0.5), AFFINE, {})
        writer.finish()
    return path


@pytest.mark.slow
def test_every_stage_is_measured_and_nothing_is_left(dataset: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-P", "-c", "from augserver.cli import main; main()", "bench", str(dataset), "--json"]
    options = ["--seconds", "0.05", "--batch-size", "2", "--backend", "cpu", "--step-ms", "100000"]
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    done = subprocess.run([*command, *options], capture_output=True, text=True, check=True, env=environment)
    report = json.loads(done.stdout)
    assert report["patch"] == [8, 16, 22]  # what every volume can give
    assert set(report["stages"]) == set(FAST)
    for stage, each in report["stages"].items():
        assert each["volumes_per_s"] > 0
        assert each["ms_per_volume"] == pytest.approx(1000 / each["volumes_per_s"])
        assert (each["times_scipy"] is None) == (stage == "store")
    assert "it is enough" in report["advice"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "local", "grpc"),
    [
        ({}, "kernel", "grpc"),
        ({"grpc": 175.0}, "kernel", "kernel"),
        ({"pipeline": 100.0, "local": 99.0, "grpc": 95.0}, "pipeline", "pipeline"),
        ({"local": 100.0}, "local", "grpc"),
    ],
)
def test_what_falls_behind_the_stage_before_it_is_what_limits(change: dict[str, float], local: str, grpc: str) -> None:
    report = summarize(FAST | change, patch=PATCH, batch_size=4, step_ms=None)
    assert report["limits"] == {"local": local, "grpc": grpc}


@pytest.mark.parametrize(
    ("step_ms", "words"),
    [
        (None, ["22 ms or more for 4 volumes", "over gRPC from 44 ms"]),
        (100.0, ["needs 40.0 volumes/s", "22% of what this machine makes", "it is enough"]),
        (21.0, ["needs 190.5", "the kernel alone makes 200.0, but only 180.0 reach a trainer"]),
        (8.0, ["needs 500.0", "makes 200.0: it is not enough. 3 servers", "GPU node"]),
    ],
)
def test_the_advice_follows_from_the_numbers(step_ms: float | None, words: list[str]) -> None:
    advice = summarize(FAST, patch=PATCH, batch_size=4, step_ms=step_ms)["advice"]
    for each in words:
        assert each in advice


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--patch", "8,8"], 64, "--patch must be three sizes"),
        (["--patch", "8,16,300"], 64, "patch"),
        (["--recipe", "none.toml"], 4, "none.toml"),
    ],
)
def test_what_cannot_be_measured_is_said_before_anything_is(
    dataset: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, message: str
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["bench", str(dataset), *arguments])
    assert caught.value.code == code
    assert message in capsys.readouterr().err
