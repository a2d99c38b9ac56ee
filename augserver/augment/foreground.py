"""Draw a voxel of the foreground: a class first, then one of its voxels, each with the same chance.

A volume is counted once, per plane and class; a draw then looks at one plane only. Exact, with no list of voxels kept.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from augserver.augment.random import to_integer


@dataclass(frozen=True, slots=True)
class PlaneCounts:
    """Voxels of each class in the planes of one volume.

    Attributes:
        classes: the ids above 0 that occur, ascending.
        before: int64 (classes, Z + 1): voxels of the class in all planes before z.
    """

    classes: tuple[int, ...]
    before: NDArray[np.int64]


def count_planes(label: NDArray[np.uint8]) -> PlaneCounts:
    """Count a label volume (Z, Y, X); about 3 ms per million voxels."""
    counts = np.stack([np.bincount(plane.ravel(), minlength=256) for plane in label], axis=1)
    classes = [int(c) for c in np.flatnonzero(counts.sum(axis=1)) if c > 0]
    before = np.zeros((len(classes), label.shape[0] + 1), np.int64)
    np.cumsum(counts[classes], axis=1, out=before[:, 1:])
    return PlaneCounts(tuple(classes), before)


def draw_voxel(
    label: NDArray[np.uint8], counts: PlaneCounts, keep: frozenset[int] | None, class_word: int, voxel_word: int
) -> tuple[int, int, int] | None:
    """A voxel of the foreground.

    Args:
        label: (Z, Y, X), the one that was counted.
        keep: ids that count as foreground; None: all above 0.
        class_word, voxel_word: random words.
    Returns:
        its position zyx; None if the volume has no such voxel.
    """
    rows = [row for row, label_id in enumerate(counts.classes) if keep is None or label_id in keep]
    if not rows:
        return None
    row = rows[to_integer(class_word, len(rows))]
    before = counts.before[row]
    rank = to_integer(voxel_word, int(before[-1]))
    z = int(np.searchsorted(before, rank, side="right")) - 1
    in_plane = np.flatnonzero(label[z] == counts.classes[row])[rank - int(before[z])]
    y, x = divmod(int(in_plane), label.shape[2])
    return z, y, x
