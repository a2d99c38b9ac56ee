"""A server of three small torsos and a network that computes in a moment, for what trains many runs."""

from __future__ import annotations

import importlib.util
import os
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # before the first import of TensorFlow in this process

from augtrain.fit import FitConfig

from augserver.config import parse_config
from augserver.ingest.torso_phantom import CLASSES, make_torso
from augserver.kernel import open_backend
from augserver.service.server import Server
from augserver.store import Dataset, DatasetWriter

TINY_NETWORK = Path(__file__).parent / "fit" / "tiny_network.py"


@pytest.fixture(scope="session")
def sweep_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server of torso_0, torso_1 and torso_2, (24, 20, 22) voxels of 16 mm."""
    path = tmp_path_factory.mktemp("store") / "torsos.zarr"
    with DatasetWriter(path, modality="ct", classes=CLASSES) as writer:
        for seed in range(3):
            torso = make_torso(seed, (24, 20, 22), 16.0)
            writer.write(f"torso_{seed}", torso.image, torso.label, torso.spacing_mm, torso.affine, {})
        writer.finish()
    server = Server(Dataset.open(path), open_backend("cpu", threads=1), parse_config({"listen": {"address": "127.0.0.1:0"}}))
    server.start()
    yield str(server.address)
    server.stop()


@pytest.fixture
def make_template(sweep_server: str, tmp_path: Path) -> Callable[..., FitConfig]:
    """The run that a sweep varies, with "key" or "table.key" changed."""
    table: dict[str, Any] = {
        "server": sweep_server,
        "out": str(tmp_path / "sweep"),
        "recipe": {"affine": {"rotate_deg": 10}, "noise": {"std": [0, 20]}, "window": {"low": [-1000, -600], "high": [400, 800]}},
        "network": {"name": "tiny", "features": 4},
        "steps": 3,
        "batches": {"patch": [8, 6, 10]},
        "optimizer": {"learning_rate": 0.01},
        "validation": {"volumes": ["torso_1"]},
        "checkpoints": {"every": 2},
    }
    return lambda changes=None: FitConfig.from_table(table, changes)


@pytest.fixture
def tiny_network_is_known(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let "tiny" be one of the networks, and TensorFlow not be heard on what it warns of."""
    spec = importlib.util.spec_from_file_location("tiny_network", TINY_NETWORK)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for place in ("augtrain.models.NETWORKS", "augtrain.fit.learner.NETWORKS"):
        monkeypatch.setattr(place, module.NETWORKS)
    with warnings.catch_warnings():
        # Keras 3.15 makes arrays of TensorFlow's variables in a way that NumPy 2 warns of
        warnings.filterwarnings("ignore", "__array__ implementation doesn't accept a copy keyword", DeprecationWarning)
        yield
