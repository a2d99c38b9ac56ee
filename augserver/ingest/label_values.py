"""Turn the values of a label file into class ids, or into one mask, and say exactly which values cannot be."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from augserver.errors import VolumeError

ALMOST = 1e-3  # a slope stored as float32 and scaled int16 (SPM writes 3 / 32767) leave ids off by less
_SHOWN = 8
_COUNTED = 1 << 16
_FRACTIONS = "if it was interpolated, resample it again with nearest neighbour; if it holds probabilities, threshold them"


def is_almost_whole(voxels: NDArray[Any]) -> NDArray[np.bool_]:
    """Where values are within ALMOST of a whole number; NaN and infinite ones are not."""
    if voxels.dtype.kind in "iub":
        return np.ones(voxels.shape, bool)
    with np.errstate(invalid="ignore"):
        almost: NDArray[np.bool_] = np.abs(voxels - np.rint(voxels)) <= ALMOST
    return almost


def class_ids(voxels: NDArray[Any], *, name: str) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
    """The values as class ids, and a note where they were rounded.

    Args:
        voxels: (Z, Y, X), of any real dtype or bool.
        name: of the file, for the error.
    Raises:
        VolumeError: a value is not within ALMOST of a whole number from 0 to 255.
    """
    ids, wrong, notes = _rounded(voxels)
    if wrong.size:
        way_out = "renumber the classes" if is_almost_whole(wrong).all() else _FRACTIONS
        raise VolumeError(f"{name}: has values that are no class ids: {shown_values(wrong)}; allowed: whole numbers 0 to 255; {way_out}")
    return ids, notes


def mask_of(voxels: NDArray[Any], *, name: str) -> tuple[NDArray[np.bool_], tuple[str, ...]]:
    """The voxels that a mask marks, and notes on values other than 0 and 1.

    Args:
        voxels, name: as for `class_ids`.
    Raises:
        VolumeError: the values are neither 0 and 1 nor 0 and 255, within ALMOST.
    """
    ids, wrong, notes = _rounded(voxels)
    most = ids.max()
    if wrong.size or most not in (0, 1, 255) or (most == 255 and ((ids != 0) & (ids != 255)).any()):
        shown = shown_values(wrong if wrong.size else np.unique(ids))
        way_out = "write 0 outside and 1 inside" if wrong.size else "write one mask per class, or one label file for all of them"
        way_out = way_out if is_almost_whole(wrong).all() else _FRACTIONS
        raise VolumeError(f"{name}: has values that are no mask: {shown}; allowed: 0 and 1, or 0 and 255; {way_out}")
    if most == 255:
        notes += ("255 marks the inside",)
    return ids != 0, notes


def distinct(plane: NDArray[Any]) -> NDArray[Any]:
    """The distinct values, sorted; of small integers in one pass, without sorting a copy."""
    if plane.dtype.kind in "iu" and plane.min() >= 0 and plane.max() < _COUNTED:
        return np.flatnonzero(np.bincount(plane.ravel()))
    return np.unique(plane)


def shown_values(values: NDArray[Any], most: int = _SHOWN) -> str:
    """Values with all their digits: 0.99999994, not 1."""
    return ", ".join([str(value) for value in values[:most]] + ["..."] * (values.size > most))


def _rounded(voxels: NDArray[Any]) -> tuple[NDArray[np.uint8], NDArray[Any], tuple[str, ...]]:
    """Rounded values (without meaning where they are wrong), the wrong ones (a few more than are shown), and a note if any was rounded."""
    wrong, rounded = np.empty(0, voxels.dtype), np.empty(0, voxels.dtype)
    if voxels.dtype == np.uint8:
        return voxels, wrong, ()
    ids = np.empty(voxels.shape, np.uint8)
    for out, plane in zip(ids, voxels, strict=True):
        with np.errstate(invalid="ignore"):  # NaN and what lies beyond uint8 is found by the comparison
            np.copyto(out, np.rint(plane) if plane.dtype.kind == "f" else plane, casting="unsafe")
        differs = out != plane
        if differs.any():
            values = np.unique(plane[differs])
            taken = is_almost_whole(values) & (np.rint(values) >= 0) & (np.rint(values) <= 255)
            wrong = np.unique(np.concatenate([wrong, values[~taken]]))[: _SHOWN + 1]
            rounded = np.unique(np.concatenate([rounded, values[taken]]))[: _SHOWN + 1]
    notes = (f"label values that are almost whole were rounded: {shown_values(rounded)}",) if rounded.size else ()
    return ids, wrong, notes
