"""Scans to segment, and a model that segments them as they are."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest
from augclient import Server
from augtrain.artifact import ModelCard

HERE = Path(__file__).parent
Load = Callable[[Path], ModuleType]


@pytest.fixture(scope="session")
def phantoms(load_script: Load) -> ModuleType:
    """The module phantom_scans: positions, write_scan, serving."""
    return load_script(HERE / "phantom_scans.py")


@pytest.fixture(scope="session")
def perfect(load_script: Load) -> ModuleType:
    """The module perfect_predictions: Perfect, place."""
    return load_script(HERE / "perfect_predictions.py")


@pytest.fixture(scope="session")
def served(phantoms: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Path]]:
    """A server of one phantom in each position at 3 mm, and the folder of scans and labels as they were."""
    folder = tmp_path_factory.mktemp("phantoms")
    (folder / "scans").mkdir()
    (folder / "labels").mkdir()
    for name, position in phantoms.POSITIONS.items():
        phantoms.write_scan(folder, name, position)
    with phantoms.serving(folder / "scans", folder / "labels", folder / "ds.zarr", folder / "log") as server:
        yield server, folder


@pytest.fixture
def card() -> ModelCard:
    """Of a network that tells soft tissue and bone at 3 mm."""
    return ModelCard(
        network="threshold",
        network_options={},
        classes={0: "background", 1: "soft tissue", 2: "bone"},
        channels=1,
        patch=(16, 24, 32),
        spacing_mm=(3.0, 3.0, 3.0),
        modality="ct",
        window=(-1000.0, 1000.0),
        fill=-1000.0,
        loss="iou",
        trained_steps=1,
        fingerprint="",
        version="0",
    )
