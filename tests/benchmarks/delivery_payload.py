"""What every contender delivers: batches of 4 x (160x120x120 voxels and a uint8 label each) whose first and last voxels are numbers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SAMPLES, PATCH = 4, (160, 120, 120)
IMAGE_SHAPE, LABEL_SHAPE = (SAMPLES, 1, *PATCH), (SAMPLES, *PATCH)
VOXELS = SAMPLES * int(np.prod(PATCH))
BATCH_BYTES = VOXELS * 5  # float32 and uint8
POOL = 6  # distinct batches at the sender: more than the last-level cache holds


def make_pool() -> list[tuple[NDArray[np.float32], NDArray[np.uint8]]]:
    """Batches whose first and last voxels are their number, from 1."""
    pool = [(np.ones(IMAGE_SHAPE, np.float32), np.ones(LABEL_SHAPE, np.uint8)) for _ in range(POOL)]
    for number, arrays in enumerate(pool):
        for array in arrays:
            array.reshape(-1)[[0, -1]] = number + 1
    return pool


def make_ring() -> list[tuple[NDArray[np.float32], NDArray[np.uint8]]]:
    """Arrays to receive into, touched."""
    return [(np.zeros(IMAGE_SHAPE, np.float32), np.zeros(LABEL_SHAPE, np.uint8)) for _ in range(4)]


def check(image: NDArray[np.generic], label: NDArray[np.generic], first: float, last: float) -> None:
    """SystemExit unless the first and last voxels of both are those that are due."""
    got = (image.item(0), image.item(image.size - 1), label.item(0), label.item(label.size - 1))
    if got != (first, last, first, last):
        raise SystemExit(f"wrong voxels {got}, due are {first} and {last}")
