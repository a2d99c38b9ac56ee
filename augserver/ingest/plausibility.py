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
    ends = np.array([channel.min(), channel.max()], np.float64)
    found = [not_hounsfield(np.concatenate([values.astype(np.float64, copy=False), ends])), odd_slice(channel)]
    return [notice for notice in found if notice]


def odd_slice(voxels: NDArray[Any]) -> str:
    """Which slice (Y, X) of a CT has other values than those beside it, as if it was rescaled in another way; empty if none has."""
    count = len(voxels)
    step = max(1, round((voxels[0].size / _SLICE_SAMPLES) ** 0.5))
    levels = np.array([np.percentile(plane[::step, ::step], _PERCENTILES) for plane in voxels])
    jumps = np.diff(levels, axis=0)
    for index in range(1, count - 1):
        before, after = jumps[index - 1], -jumps[index]
        beside = np.abs(before - after)  # how much the slices on both sides differ
        moved = (before * after > 0) & (np.minimum(np.abs(before), np.abs(after)) > np.maximum(_JUMP, 2 * beside))
        low, usual = levels[index, 0], max(levels[index - 1, 0], levels[index + 1, 0])
        shifted_air = moved[0] and (low < _BELOW_GAS or (usual < _AIR[0] and low > _AIR[1]))
        if np.count_nonzero(moved) >= _MOST or shifted_air or _is_blank(levels, index):
            by = float(np.median(before))
            return f"slice {index + 1} of {count} differs from both beside it by about {by:.0f}: rescaled otherwise, or damaged"
    for index, jump in enumerate(jumps):
        by = float(np.median(jump))
        even = np.count_nonzero(np.abs(jump - by) < 0.1 * abs(by)) >= _MOST
        if abs(by) > _STEP and even and min(np.ptp(levels[index]), np.ptp(levels[index + 1])) > _WIDE:
            return f"all values rise by about {by:.0f} from slice {index + 1} to slice {index + 2} of {count}: rescaled otherwise"
    return ""


def _is_blank(levels: NDArray[np.float64], index: int) -> bool:
    """One value in a slice, and many in those beside it."""
    return bool(np.ptp(levels[index]) == 0 and min(np.ptp(levels[index - 1]), np.ptp(levels[index + 1])) > _WIDE)
