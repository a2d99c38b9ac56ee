"""Merge one mask per class into one label, in which a voxel has one class, and report what each class loses where masks overlap."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from augserver.errors import VolumeError

OVERLAP = ("order", "smallest", "refuse")


def merge_masks(
    names: Mapping[int, str], read: Callable[[int], NDArray[np.bool_]], *, overlap: str
) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
    """One label of masks that may overlap.

    Args:
        names: class id (1 to 255) -> what its mask is called in messages; at least one.
        read: gives the mask of a class id, (Z, Y, X), all of one shape; called once for each class, with "smallest" twice.
        overlap: where several masks mark a voxel: "order" gives it to the highest class id, "smallest" to the mask of the fewest voxels
            (of equals, to the higher id), "refuse" to nobody.
    Returns:
        uint8 (Z, Y, X), and notes: what each class lost, and to whom.
    Raises:
        VolumeError: a mask lies wholly below others, so that its class would vanish; or masks overlap at all, with "refuse".
    """
    by_priority = sorted(names, reverse=True)  # a class keeps its voxels from those after it
    if overlap == "smallest":
        sizes = {class_id: int(np.count_nonzero(read(class_id))) for class_id in by_priority}
        by_priority.sort(key=sizes.__getitem__)
    merged = np.empty((0, 0, 0), np.uint8)
    lost: list[str] = []
    vanished: list[str] = []
    for class_id in by_priority:
        inside = read(class_id)
        if not merged.size:
            merged = np.zeros(inside.shape, np.uint8)
        owners = np.bincount(merged[inside], minlength=256)
        size = int(owners.sum())
        takers = {owner: int(owners[owner]) for owner in np.flatnonzero(owners).tolist() if owner}
        if takers:
            to = ", ".join(f"{count} to {names[owner]}" for owner, count in sorted(takers.items(), key=lambda item: -item[1]))
            lost.append(f"{names[class_id]} loses {sum(takers.values())} of its {size} voxels ({to})")
            if sum(takers.values()) == size:
                vanished.append(names[class_id])
        merged[inside & (merged == 0) if takers else inside] = class_id
    told = "; ".join(lost)
    if lost and overlap == "refuse":
        raise VolumeError(f"masks overlap: {told}; pass --overlap order or smallest, or correct the masks")
    if vanished:
        other = "--overlap smallest, by which the smaller structure keeps its voxels" if overlap == "order" else "--overlap order"
        raise VolumeError(f"{', '.join(vanished)} would vanish, as masks overlap: {told}; pass {other}, or take a mask out")
    return merged, tuple(f"masks overlap: {each}" for each in lost)
