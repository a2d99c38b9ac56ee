"""Which patches a network can take: each side a multiple of how far the network shrinks it.

A patch that does not divide would make the ways up and down disagree by a voxel. It is refused before a network is built, never padded
behind the caller's back.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence

from augclient.errors import PatchError

Zyx = tuple[int, int, int]


def check_patch(network: str, patch: Sequence[int], multiple: Zyx) -> Zyx:
    """The patch as three ints.

    Args:
        network: for the message.
        patch: (Z, Y, X) in voxels, each > 0. A 2-D network has multiple[0] = 1: it takes every plane for an image of its own.
        multiple: (Z, Y, X); each side of the patch must be a multiple of it.
    Raises:
        PatchError: not three whole numbers, or a side that is not a positive multiple; names the nearest patch that is.
    """
    try:
        sides = tuple(operator.index(side) for side in patch)
    except TypeError:
        sides = ()
    if len(sides) != 3:
        raise PatchError(f"{network} takes a patch of three whole numbers (Z, Y, X), got {patch!r}; such as {_example(multiple)}")
    if any(side < 1 or side % step for side, step in zip(sides, multiple, strict=True)):
        raise PatchError(
            f"{network} cannot take the patch {sides} (Z, Y, X): its strides need multiples of {multiple}; "
            f"the nearest allowed patch is {nearest_patch(sides, multiple)}"
        )
    return sides[0], sides[1], sides[2]


def nearest_patch(patch: Sequence[int], multiple: Zyx) -> Zyx:
    """The allowed patch whose sides are nearest to these, the larger one of two as near, never less than one multiple."""
    z, y, x = (max(step, (2 * side + step) // (2 * step) * step) for side, step in zip(patch, multiple, strict=True))
    return z, y, x


def _example(multiple: Zyx) -> Zyx:
    return nearest_patch((64 if multiple[0] > 1 else 1, 64, 64), multiple)
