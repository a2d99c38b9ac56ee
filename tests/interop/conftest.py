"""One dataset on two servers, an open one and one that asks for tokens; and the same batches as our own client reads them."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from augclient import Recipe, connect

from augserver.cli.processes.child_server import child_server
from augserver.geometry import affine_of
from augserver.store import DatasetWriter

COMMAND = [sys.executable, "-P", "-c", "from augserver.cli import main; main()"]
SPACING_MM = (3.0, 1.0, 0.5)
RECIPE = Recipe(
    crop={"mode": "uniform", "pad": True},
    affine={"rotate_deg": 10},
    noise={"std": [0, 30]},
    window={"low": -1000, "high": [200, 1500]},
)
AS_JSON = {  # the same, as protobuf's JSON has it
    "crop": {"mode": "uniform", "pad": True},
    "affine": {"rotate_deg": [{"low": -10, "high": 10}]},
    "noise": {"std": {"low": 0, "high": 30}},
    "window": {"low": {"low": -1000, "high": -1000}, "high": {"low": 200, "high": 1500}},
}


@dataclass(frozen=True)
class Guarded:
    """A server that wants a token, and two tokens of it: what may call it, and what may only warp."""

    address: str
    reader: str
    warper: str


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three volumes of seeded noise in HU, each of another shape."""
    path = tmp_path_factory.mktemp("store") / "toy.zarr"
    with DatasetWriter(path, modality="ct", classes={1: "liver", 2: "bone"}) as writer:
        for seed, shape in enumerate([(18, 41, 57), (19, 52, 43), (20, 43, 51)]):
            rng = np.random.default_rng(seed)
            image, label = rng.integers(-1000, 1500, (1, *shape)).astype(np.int16), rng.integers(0, 3, shape).astype(np.uint8)
            writer.write(f"case_{seed + 1}", image, label, SPACING_MM, affine_of(SPACING_MM), {})
        writer.finish()
    return path


@pytest.fixture(scope="session")
def open_address(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server on loopback that asks for nothing."""
    with child_server(dataset, tmp_path_factory.mktemp("open") / "log", options=("--backend", "cpu")) as ready:
        yield ready.address


@pytest.fixture(scope="session")
def guarded(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """A server that asks who calls."""
    folder = tmp_path_factory.mktemp("guarded")
    secrets = []
    with (folder / "tokens.toml").open("w") as file:
        for rights in ("read", "warp"):
            made = subprocess.run([*COMMAND, "token", rights, "--rights", rights], capture_output=True, text=True, check=True)
            file.write(made.stdout)
            secrets.append(made.stderr.split()[-1])
    options = ("--backend", "cpu", "--token-file", str(folder / "tokens.toml"))
    with child_server(dataset, folder / "log", options=options) as ready:
        yield Guarded(ready.address, *secrets)


def told(batch: Any) -> dict[str, Any]:
    """A batch of our own client, as the others print theirs."""
    return {
        "step": batch.step,
        "complete": True,
        "image_shape": list(batch.image.shape),
        "label_shape": list(batch.label.shape),
        "volumes": [sample.volume for sample in batch.samples],
        "image": hashlib.sha256(batch.image.tobytes()).hexdigest(),
        "label": hashlib.sha256(batch.label.tobytes()).hexdigest(),
    }


@pytest.fixture(scope="session")
def ours() -> Any:
    """ours(address, token=..., **stream): the batches of our own client."""

    def read(address: str, *, token: str | None = None, **how: Any) -> list[dict[str, Any]]:
        with connect(address, token=token) as server:
            return [told(batch) for batch in server.stream(RECIPE, **how)]

    return read


@pytest.fixture(scope="session")
def recipe_json() -> dict[str, Any]:
    """The recipe of `ours`, as protobuf's JSON."""
    return AS_JSON
