"""Whether the voxels of a scan can be what the user says they are. What is found is told, and refused only with --strict."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from augserver.ingest.label_map_check import looks_like_a_label_map
from augserver.labels.hounsfield import not_hounsfield
from augserver.store.intensity import sample_of

_SLICE_SAMPLES = 4096
_PERCENTILES = (5, 25, 50, 75, 95)
_JUMP = 300.0  # HU, of most percentiles at once
_STEP = 500.0  # of most percentiles, by the same within a tenth: what anatomy does not do
_BELOW_GAS = -1250.0  # which one slice alone has by a wrong slope, and not by padding
_AIR = (-900.0, -780.0)  # is below the first in the slices beside it, and above the second in one slice alone
_MOST = 4  # of the percentiles
_WIDE = 300.0  # of a slice with both air and tissue in it


def implausible(voxels: NDArray[Any], *, modality: str, stem: str) -> tuple[str, ...]:
    """What speaks against a scan.

    Args:
        voxels: (C, Z, Y, X), as its file has it; the first axis after the channels is that of the slices.
        modality: "ct" or "mr".
        stem: name of its file without suffix.
    """
    notices = []
    for number, channel in enumerate(voxels, 1):
        where = f"channel {number}: " if len(voxels) > 1 else ""
        notices += [where + notice for notice in _of_channel(channel, modality, stem)]
    return tuple(notices)


def _of_channel(channel: NDArray[Any], modality: str, stem: str) -> list[str]:
    values = sample_of(channel)
    if channel.dtype.kind not in "iuf" or not np.isfinite(values).all():
        return []  # refused elsewhere
    reason = looks_like_a_label_map(channel, stem)
    if reason:
        return [f"looks like a label map: {reason}; if it is one, say where labels are by --labels or --layout"]
    if modality != "ct":
        return ["every voxel has the same value"] if channel.min() == channel.max() else []
    found = [not_hounsfield(values), odd_slice(channel)]
    if found[0]:  # by a sample: the lowest and the highest of all voxels have the last word
        found[0] = not_hounsfield(np.append(values, (channel.min(), channel.max())).astype(np.float64))
    return [notice for notice in found if notice]


def odd_slice(voxels: NDArray[Any]) -> str:
    """Which slice (Y, X) of a CT has other values than those beside it, as if it was rescaled in another way; empty if none has."""
    count = len(voxels)
    step = max(1, round((voxels[0].size / _SLICE_SAMPLES) ** 0.5))
    along = max(1, step // 2)  # denser along a row, where neighbours come with one read of memory, and as much sparser across
    levels = _percentiles(voxels[:, :: max(1, step * step // along), ::along].reshape(count, -1))
    jumps = np.diff(levels, axis=0)
    largest, spread = np.abs(jumps).max(axis=1, initial=0.0), np.ptp(levels, axis=1)
    suspects = 1 + np.flatnonzero((largest[:-1] > _JUMP) | (spread[1:-1] == 0))  # no other slice can be odd
    for index in suspects.tolist():
        before, after = jumps[index - 1], -jumps[index]
        beside = np.abs(before - after)  # how much the slices on both sides differ
        moved = (before * after > 0) & (np.minimum(np.abs(before), np.abs(after)) > np.maximum(_JUMP, 2 * beside))
        low, usual = levels[index, 0], max(levels[index - 1, 0], levels[index + 1, 0])
        shifted_air = moved[0] and (low < _BELOW_GAS or (usual < _AIR[0] and low > _AIR[1]))
        if np.count_nonzero(moved) >= _MOST or shifted_air or _is_blank(levels, index):
            by = float(np.median(before))
            return f"slice {index + 1} of {count} differs from both beside it by about {by:.0f}: rescaled otherwise, or damaged"
    for index in np.flatnonzero(largest > _STEP).tolist():
        jump = jumps[index]
        by = float(np.median(jump))
        even = np.count_nonzero(np.abs(jump - by) < 0.1 * abs(by)) >= _MOST
        if abs(by) > _STEP and even and min(np.ptp(levels[index]), np.ptp(levels[index + 1])) > _WIDE:
            return f"all values rise by about {by:.0f} from slice {index + 1} to slice {index + 2} of {count}: rescaled otherwise"
    return ""


def _percentiles(rows: NDArray[Any]) -> NDArray[np.float64]:
    """_PERCENTILES of each row as np.percentile gives them, in a quarter of its time for hundreds of short rows."""
    rows = np.sort(rows, axis=1)
    place = np.array(_PERCENTILES) / 100 * (rows.shape[1] - 1)
    lower = np.floor(place).astype(np.intp)
    below, above = (rows[:, index].astype(np.float64) for index in (lower, np.minimum(lower + 1, rows.shape[1] - 1)))
    result: NDArray[np.float64] = below + (above - below) * (place - lower)
    return result


def _is_blank(levels: NDArray[np.float64], index: int) -> bool:
    """One value in a slice, and many in those beside it."""
    return bool(np.ptp(levels[index]) == 0 and min(np.ptp(levels[index - 1]), np.ptp(levels[index + 1])) > _WIDE)
