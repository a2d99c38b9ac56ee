"""Servers of small torsos in this process, a network that computes in a moment, and what stands for training many runs."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # before the first import of TensorFlow in this process

from augtrain.fit import FitConfig, FitResult
from augtrain.fit.history import Validation

from augserver.config import parse_config
from augserver.ingest.torso_phantom import CLASSES, make_torso
from augserver.kernel import open_backend
from augserver.service.server import Server
from augserver.store import Dataset, DatasetWriter

TINY_NETWORK = Path(__file__).parent / "fit" / "tiny_network.py"


def load(script: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(script.stem, script)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[script.stem] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def load_script() -> Callable[[Path], ModuleType]:
    """The module of a file that no package holds."""
    return load


@pytest.fixture(scope="session")
def tiny_network_file() -> Path:
    return TINY_NETWORK


@pytest.fixture(scope="session")
def tiny_network() -> Iterator[None]:
    """Let "tiny" be one of the networks."""
    networks = load(TINY_NETWORK).NETWORKS
    with pytest.MonkeyPatch.context() as patch:
        for place in ("augtrain.models.NETWORKS", "augtrain.fit.learner.NETWORKS"):
            patch.setattr(place, networks)
        yield


@pytest.fixture(scope="session")
def write_torsos(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """(count, what make_torso takes besides a seed...) -> a dataset of torso_0, torso_1, ..."""

    def write(count: int, *size: Any) -> Path:
        path = tmp_path_factory.mktemp("store") / "torsos.zarr"
        with DatasetWriter(path, modality="ct", classes=CLASSES) as writer:
            for seed in range(count):
                torso = make_torso(seed, *size)
                writer.write(f"torso_{seed}", torso.image, torso.label, torso.spacing_mm, torso.affine, {})
            writer.finish()
        return path

    return write


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
def sweep_server(write_torsos: Callable[..., Path], start_server: Callable[[Path], str]) -> str:
    """The address of a server of torso_0, torso_1 and torso_2, (24, 20, 22) voxels of 16 mm."""
    return start_server(write_torsos(3, (24, 20, 22), 16.0))


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


class Killed(BaseException):
    """Ends what it is raised in as SIGKILL would: nothing catches it."""


@pytest.fixture(scope="session")
def killed() -> type[BaseException]:
    """What a kill is here: nothing catches it, and no `finally` of ours writes anything."""
    return Killed


@dataclass
class Runs:
    """Stands for augtrain.fit.fit.

    Attributes:
        score: (number of the run, its config) -> mean Dice, and Dice by organ.
        ends: by number of the run, what it raises, or "stopped" by a signal.
        configs: of the runs so far.
    """

    score: Callable[[int, FitConfig], tuple[float | None, dict[str, float | None]]]
    ends: dict[int, Any] = field(default_factory=dict)
    configs: list[FitConfig] = field(default_factory=list)

    def __call__(self, config: FitConfig, *, progress: Any, pictures: bool) -> FitResult:
        end = self.ends.get(len(self.configs))
        mean, dice = self.score(len(self.configs), config)
        self.configs.append(config)
        if end not in (None, "stopped"):
            raise end
        progress.step(config.steps - 1, 0.5, None)
        best = Validation(step=config.steps, loss=1.0, mean_dice=mean, dice=dice, volumes={})
        nothing: dict[str, Any] = dict.fromkeys(("step_s", "wait_share", "transport", "augmented_from"))
        return FitResult(out=config.out, steps=config.steps, finished=end is None, loss=0.25, best=best, parameters=1, **nothing)


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Runs]:
    """(module, score) -> what is called in place of the module's `fit`; see Runs."""

    def stand(module: str, score: Any) -> Runs:
        runs = Runs(score)
        monkeypatch.setattr(f"{module}.fit", runs)
        monkeypatch.setattr("keras.utils.clear_session", lambda: None)  # there is nothing to clear, and looking for it takes its time
        return runs

    return stand
