"""Recognise a label map that was given as a scan, by a guess: few whole numbers in large areas of one value."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from augserver.ingest.label_values import distinct, is_almost_whole

_SAMPLES = 1 << 17  # voxels looked at first; a scan is seen to be one here, so that it costs no pass over its voxels
_MOST_VALUES = 160  # TotalSegmentator has 117 classes, SynthSeg's and FreeSurfer's maps about 100
_MOST_FEW = 8
_EQUAL_SHARE = 0.6  # of voxels next to each other within what is not 0; thin structures have about 0.7, 8-bit images below 0.4
_NAMED = re.compile(
    r"(^|[^a-z])(labels?|labelmap|segs?|segmentations?|segm|masks?|gt|ground[-_ ]?truth|annotations?|contours?|rois?)([^a-z]|$)",
    re.IGNORECASE,
)


def looks_like_a_label_map(voxels: NDArray[Any], stem: str) -> str:
    """Why these voxels look like class ids rather than an image; empty if they do not.

    Args:
        voxels: (Z, Y, X), of any real dtype; one channel of a scan, as its file has it.
        stem: name of its file without suffix, where "seg", "mask", "label" and the like count as words.
    """
    step = max(1, round((voxels.size / _SAMPLES) ** (1 / 3)))
    values = _class_values(voxels[::step, ::step, ::step])
    if values is None:
        return ""
    values = _class_values(voxels)
    if values is None or values.size < 2:
        return ""
    named = _NAMED.search(stem) is not None
    share = _equal_share(voxels)
    if share < _EQUAL_SHARE and not (named and values.size <= _MOST_FEW):
        return ""
    shown = ", ".join(str(int(value)) for value in values[:8]) + (", ..." if values.size > 8 else "")
    return f"holds only {values.size} whole values ({shown}) in areas of one value" + (", and its name says so" if named else "")


def _class_values(voxels: NDArray[Any]) -> NDArray[Any] | None:
    """The distinct values, sorted; None if they cannot be class ids: fractions, below -1, or too many. -1 stands for "ignore" in some."""
    found: set[float] = set()
    for plane in voxels:
        if plane.dtype.kind == "f" and not np.isfinite(plane).all():
            return None
        if plane.min() < -1 or not is_almost_whole(plane).all():
            return None
        found.update(distinct(plane if plane.dtype.kind in "iu" else np.rint(plane)).tolist())
        if len(found) > _MOST_VALUES:
            return None
    return np.array(sorted(found))


def _equal_share(voxels: NDArray[Any]) -> float:
    """The share of pairs of neighbours with equal values, among pairs that are both in the foreground, along the last two axes."""
    pairs = equal = 0
    for plane in voxels:
        for first, second in ((plane[1:], plane[:-1]), (plane[:, 1:], plane[:, :-1])):
            inside = (first > 0) & (second > 0)
            pairs += int(np.count_nonzero(inside))
            equal += int(np.count_nonzero(inside & (first == second)))
    return equal / pairs if pairs else math.nan
