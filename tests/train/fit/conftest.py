"""A server of small torsos, and configs of short runs on it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from augtrain.fit import FitConfig, FitResult, fit

RECIPE: dict[str, Any] = {
    "crop": {"mode": "uniform"},
    "affine": {"rotate_deg": 10, "scale": [0.9, 1.1]},
    "noise": {"std": [0, 20]},
    "window": {"low": [-1000, -600], "high": [400, 800]},
}


@pytest.fixture(scope="session")
def torsos(write_torsos: Callable[..., Path]) -> Path:
    """Five torsos of (28, 26, 30) voxels of 14 mm: a dataset that a network can learn in seconds."""
    return write_torsos(5, (28, 26, 30), 14.0)


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


@pytest.fixture
def make_config(address: str, tmp_path: Path) -> Callable[..., FitConfig]:
    """The short run's config, with "key" or "table.key" changed."""
    return lambda changes=None: FitConfig.from_table(table_of(address, tmp_path / "run"), changes)


@pytest.fixture(scope="session")
def undisturbed(address: str, tiny_network: None, tmp_path_factory: pytest.TempPathFactory) -> FitResult:
    """The short run, finished without a disturbance."""
    return fit(FitConfig.from_table(table_of(address, tmp_path_factory.mktemp("undisturbed") / "run"), {"tensorboard": True}))


def losses(out: Path) -> np.ndarray:
    """The loss of each step, as history.csv has it."""
    return np.loadtxt(out / "history.csv", delimiter=",", skiprows=1)[:, 1]


@pytest.fixture(scope="session")
def read_losses() -> Callable[[Path], np.ndarray]:
    return losses
