"""Small asymmetric volumes and datasets made of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from augserver.geometry import affine_of
from augserver.store import DatasetWriter

SHAPE, SPACING = (5, 7, 11), (3.0, 1.0, 0.5)


@pytest.fixture
def volume() -> Callable[..., dict[str, Any]]:
    """volume(seed, shape=..., label=True): the arguments of DatasetWriter.write except the id."""

    def make(seed: int, *, shape: tuple[int, int, int] = SHAPE, label: bool = True) -> dict[str, Any]:
        rng = np.random.default_rng(seed)
        return {
            "image": rng.integers(-1000, 2000, (1, *shape)),
            "label": rng.integers(0, 3, shape).astype(np.uint8) if label else None,
            "spacing_mm": SPACING,
            "affine": affine_of(SPACING, (10.0 + seed, 20.0, -30.0)),
        }

    return make


@pytest.fixture
def make_dataset(tmp_path: Path, volume: Callable[..., dict[str, Any]]) -> Callable[..., Path]:
    """make_dataset(name="ds.zarr", ids={"a": 1, "b": 2}): a finished dataset, volume by seed."""

    def make(name: str = "ds.zarr", ids: dict[str, int] | None = None, **options: Any) -> Path:
        path = tmp_path / name
        with DatasetWriter(path, **({"modality": "ct", "classes": {1: "liver"}} | options)) as writer:
            for volume_id, seed in (ids or {"a": 1, "b": 2}).items():
                writer.write(volume_id, **volume(seed))
            writer.finish()
        return path

    return make
