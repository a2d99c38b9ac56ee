"""Percentiles of sorted voxels, interpolated between two of them as NumPy does by default."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any


def percentile_at(voxel: Callable[[int], Any], count: int, percent: float) -> float:
    """One percentile.

    Args:
        voxel: rank -> value, ascending, of the type in which two are subtracted.
        count: of voxels, at least 1.
        percent: 0 to 100.
    """
    place = (count - 1) * (percent / 100)
    rank = math.floor(place)
    below, above, part = voxel(rank), voxel(min(rank + 1, count - 1)), place - rank
    rise = float(above - below)
    return float(below) + rise * part if part < 0.5 else float(above) - rise * (1 - part)
