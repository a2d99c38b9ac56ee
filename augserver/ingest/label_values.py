"""Turn the values of a label file into class ids, and say exactly which values cannot be."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from augserver.errors import VolumeError

ALMOST = 1e-3  # a slope stored as float32 and scaled int16 (SPM writes 3 / 32767) leave ids off by less
_SHOWN = 8


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
    ids = np.empty(voxels.shape, np.uint8)
    wrong: set[Any] = set()
    rounded: set[Any] = set()
    for out, plane in zip(ids, voxels, strict=True):
        with np.errstate(invalid="ignore"):  # NaN and what lies beyond uint8 is found by the comparison
            np.copyto(out, np.rint(plane) if plane.dtype.kind == "f" else plane, casting="unsafe")
        differs = out != plane
        if not differs.any():
            continue
        values = np.unique(plane[differs])
        with np.errstate(invalid="ignore"):
            allowed = is_almost_whole(values) & (np.rint(values) >= 0) & (np.rint(values) <= 255)
        rounded.update(values[allowed])
        wrong.update(values[~allowed])
        if len(wrong) > _SHOWN:
            break
    if wrong:
        raise VolumeError(
            f"{name}: has values that are no class ids: {shown_values(sorted(wrong))}; allowed: whole numbers 0 to 255 (within {ALMOST:g}); "
            f"{_way_out(np.array(list(wrong)))}"
        )
    notes = (f"almost whole label values rounded, such as {shown_values(sorted(rounded), most=3)}",) if rounded else ()
    return ids, notes


def shown_values(values: Sequence[Any], most: int = _SHOWN) -> str:
    """NumPy scalars with all their digits: 0.99999994, not 1."""
    return ", ".join([str(value) for value in values[:most]] + ["..."] * (len(values) > most))


def _way_out(wrong: NDArray[Any]) -> str:
    if not is_almost_whole(wrong).all():
        return "if it was interpolated, resample it again with nearest neighbour; if it holds probabilities, threshold them"
    return "renumber the classes"
