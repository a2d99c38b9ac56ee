"""Recipes and volumes for the tests of augment/."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
from augclient.recipe import Recipe

from augserver.augment import CompiledRecipe, compile_recipe
from augserver.volume import VolumeInfo

CLASSES = {0: "background", 1: "liver", 2: "bladder", 3: "lungs"}


@pytest.fixture
def compiled() -> Callable[..., CompiledRecipe]:
    """compiled(affine={...}, ...) as TOML would give it, for a CT dataset of three classes."""

    def make(modality: str = "ct", **sections: Mapping[str, Any]) -> CompiledRecipe:
        return compile_recipe(Recipe(**sections).proto, modality=modality, classes=CLASSES)

    return make


@pytest.fixture
def info() -> VolumeInfo:
    """An asymmetric, anisotropic volume."""
    return VolumeInfo(
        id="torso",
        shape=(1, 50, 70, 110),
        dtype="int16",
        spacing_mm=(3.0, 1.0, 0.5),
        affine=np.eye(4),
        has_label=True,
        class_voxels={0: 900, 1: 80, 3: 20},
    )
