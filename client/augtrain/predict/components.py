"""Clean a label map up: an organ is one piece."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

_TOUCHING = np.ones((3, 3, 3), bool)  # by a face, an edge or a corner


def keep_largest_components(label: NDArray[np.uint8], classes: Iterable[int]) -> dict[int, int]:
    """Make background of all of a class but its largest connected piece, in place.

    Args:
        label: uint8 (Z, Y, X).
        classes: ids to clean up; those that do not occur are left out.
    Returns:
        id -> voxels that were removed, where any were. Of pieces of equal size the first in memory stays.

    Voxels are connected by faces, edges and corners. Works within the box that holds a class: 5 bytes of it per voxel.
    """
    boxes = ndimage.find_objects(label)
    removed = {}
    for id in classes:
        box = boxes[id - 1] if 0 < id <= len(boxes) else None
        if box is None:
            continue
        part = label[box]
        pieces, count = ndimage.label(part == id, _TOUCHING)
        if count > 1:
            sizes = np.bincount(pieces.ravel())
            sizes[0] = 0
            others = (pieces > 0) & (pieces != sizes.argmax())
            part[others] = 0
            removed[id] = int(others.sum())
    return removed
