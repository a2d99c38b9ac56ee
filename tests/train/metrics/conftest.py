"""Pairs of label maps that tell axes, classes and directions apart."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray


@dataclass(frozen=True)
class Pair:
    """Prediction and truth, uint8 (Z, Y, X), their spacing (z, y, x) and classes."""

    prediction: NDArray[np.uint8]
    truth: NDArray[np.uint8]
    spacing_mm: tuple[float, float, float]
    classes: dict[int, str]


@pytest.fixture(scope="session")
def pair() -> Pair:
    """Three classes with ragged surfaces, one cut by the border of the image, and a lost voxel far from its organ."""
    rng = np.random.default_rng(7)
    prediction, truth = _bodies(rng, 1.5), _bodies(rng, 0.0)
    prediction[1, 2, 33] = 1
    return Pair(prediction, truth, (3.0, 1.0, 0.5), {0: "background", 1: "liver", 2: "bladder", 3: "lungs"})


def _bodies(rng: np.random.Generator, shift: float) -> NDArray[np.uint8]:
    shape = (13, 24, 37)
    z, y, x = np.indices(shape)
    bumps = rng.normal(0, 0.08, shape)
    labels = np.zeros(shape, np.uint8)
    labels[((z - 6) / 4) ** 2 + ((y - 9 - shift) / 7) ** 2 + ((x - 12) / 9) ** 2 + bumps < 1] = 1
    labels[((z - 8) / 3) ** 2 + ((y - 18) / 4) ** 2 + ((x - 28 + shift) / 6) ** 2 + bumps < 1] = 2
    labels[(x < 4 + shift) & (y > 16)] = 3
    return labels
