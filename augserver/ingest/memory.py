"""How much memory the ingest of one scan will take, from headers alone."""

from __future__ import annotations

import os

from augserver.errors import VolumeError
from augserver.ingest.readers.formats import voxel_count
from augserver.ingest.sources import Source

_BYTES_PER_VOXEL = 12  # as stored, as float32 with its slope, as written, and the label; tests/benchmarks/bench_ingest.py measures


def estimate_bytes(source: Source) -> int:
    """An upper estimate of the memory for a scan and its label, right to about a factor of two; never raises."""
    if source.slices:
        voxels = sum(one.rows * one.columns for one in source.slices)
        return voxels * _BYTES_PER_VOXEL
    if not os.path.isfile(source.path):
        return 0
    try:
        return voxel_count(source.path) * (1 + len(source.channels)) * _BYTES_PER_VOXEL
    except (VolumeError, OSError):
        return 0  # refused before a voxel is read
