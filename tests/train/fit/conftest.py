"""A server of small torsos in this process, a network that computes in a moment, and configs for both."""

from __future__ import annotations

import importlib.util
import os
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # before the first import of TensorFlow in this process

from augtrain.fit import FitConfig, FitResult, fit

from augserver.config import parse_config
from augserver.ingest.torso_phantom import CLASSES, make_torso
from augserver.kernel import open_backend
from augserver.service.server import Server
from augserver.store import Dataset, DatasetWriter

SPACING_MM = 14.0
TINY_NETWORK = Path(__file__).parent / "tiny_network.py"
RECIPE: dict[str, Any] = {
    "crop": {"mode": "uniform"},
    "affine": {"rotate_deg": 10, "scale": [0.9, 1.1]},
    "noise": {"std": [0, 20]},
    "window": {"low": [-1000, -600], "high": [400, 800]},
}


@pytest.fixture(autouse=True)
def known_warnings() -> None:
    quieten()


def quieten() -> None:
    """Keras 3.15 makes arrays of TensorFlow's variables in a way that NumPy 2 warns of."""
    warnings.filterwarnings("ignore", "__array__ implementation doesn't accept a copy keyword", DeprecationWarning)


@pytest.fixture(scope="session")
def torsos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five torsos of (28, 26, 30) voxels of 14 mm: a dataset that a network can learn in seconds."""
    path = tmp_path_factory.mktemp("store") / "torsos.zarr"
    with DatasetWriter(path, modality="ct", classes=CLASSES) as writer:
        for seed in range(5):
            torso = make_torso(seed, (28, 26, 30), SPACING_MM)
            writer.write(f"torso_{seed}", torso.image, torso.label, torso.spacing_mm, torso.affine, {})
        writer.finish()
    return path


@pytest.fixture(scope="session")
def start_server() -> Iterator[Callable[[Path], str]]:
    """Serve a dataset in this process and return its address; all are stopped at the end."""
    running: list[Server] = []

    def start(path: Path) -> str:
        server = Server(Dataset.open(path), open_backend("cpu", threads=1), parse_config({"listen": {"address": "127.0.0.1:0"}}))
        server.start()
        running.append(server)
        return str(server.address)

    yield start
    for server in running:
        server.stop()


@pytest.fixture(scope="session")
def address(torsos: Path, start_server: Callable[[Path], str]) -> str:
    return start_server(torsos)


def table_of(address: str, out: Path) -> dict[str, Any]:
    """The table of a short run of the tiny network."""
    return {
        "server": address,
        "out": str(out),
        "recipe": RECIPE,
        "network": "tiny",
        "loss": "cross_entropy+dice",
        "steps": 12,
        "tensorboard": False,
        "batches": {"patch": [12, 10, 14]},
        "optimizer": {"learning_rate": 0.01},
        "validation": {"volumes": ["torso_3"], "every": 5},
        "checkpoints": {"every": 4},
    }


@pytest.fixture(scope="session")
def short_run() -> Callable[[str, Path], dict[str, Any]]:
    return table_of


@pytest.fixture(scope="session")
def tiny_network_file() -> Path:
    return TINY_NETWORK


@pytest.fixture
def make_config(address: str, tmp_path: Path) -> Callable[..., FitConfig]:
    """The short run's config, with "key" or "table.key" changed."""
    return lambda changes=None: FitConfig.from_table(table_of(address, tmp_path / "run"), changes)


@pytest.fixture(scope="session")
def tiny_network() -> Iterator[None]:
    """Let "tiny" be one of the networks."""
    spec = importlib.util.spec_from_file_location("tiny_network", TINY_NETWORK)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with pytest.MonkeyPatch.context() as patch:
        for place in ("augtrain.models.NETWORKS", "augtrain.fit.learner.NETWORKS"):
            patch.setattr(place, module.NETWORKS)
        yield


@pytest.fixture(scope="session")
def undisturbed(address: str, tiny_network: None, tmp_path_factory: pytest.TempPathFactory) -> FitResult:
    """The short run, finished without a disturbance."""
    with warnings.catch_warnings():
        quieten()
        return fit(FitConfig.from_table(table_of(address, tmp_path_factory.mktemp("undisturbed") / "run"), {"tensorboard": True}))


def losses(out: Path) -> np.ndarray:
    """The loss of each step, as history.csv has it."""
    return np.loadtxt(out / "history.csv", delimiter=",", skiprows=1)[:, 1]


@pytest.fixture(scope="session")
def read_losses() -> Callable[[Path], np.ndarray]:
    return losses
