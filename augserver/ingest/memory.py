"""How much memory the ingest of one scan will take, from headers alone."""

from __future__ import annotations

from augserver.errors import VolumeError
from augserver.ingest.readers.formats import split_suffix
from augserver.ingest.readers.nifti import UNPACKING_ERRORS, voxel_count
from augserver.ingest.sources import Source

_BYTES_PER_VOXEL = 12  # as stored, as float32 with its slope, as written, and the label; tests/benchmarks/bench_ingest.py measures
_UNPACKED = 8  # bytes of voxels per byte of a packed file, where no header is asked: CT packs by 2 to 4, masks by more


def estimate_bytes(source: Source) -> int:
    """An upper estimate of the memory for a scan and its label, right to about a factor of two; never raises."""
    if source.slices:
        voxels = sum(one.rows * one.columns for one in source.slices)
        return voxels * _BYTES_PER_VOXEL
    unreadable: tuple[type[Exception], ...] = (VolumeError, OSError, *UNPACKING_ERRORS)
    if split_suffix(source.path)[1] in (".nii", ".nii.gz", ".hdr", ".hdr.gz"):
        try:
            return voxel_count(source.path) * (1 + len(source.channels)) * _BYTES_PER_VOXEL
        except unreadable:
            return 0  # refused before a voxel is read
    return source.size_bytes() * _UNPACKED
