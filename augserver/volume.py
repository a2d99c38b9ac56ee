"""A volume in memory and what is known of it without reading a voxel."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Intensity:
    """The values of one channel, in the volume's own unit: the least, percentiles 1, 50 and 99, the largest."""

    low: float
    p1: float
    p50: float
    p99: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeInfo:
    """What the store knows of one volume.

    Attributes:
        id: name within the dataset; no patient identifier.
        shape: (C, Z, Y, X) in voxels.
        dtype: "int16" or "float32", of the image.
        spacing_mm: zyx, mm per voxel.
        affine: float64 (4, 4), zyx voxel -> xyz LPS mm.
        has_label: whether a label volume (Z, Y, X) uint8 exists.
        class_voxels: label id -> number of voxels; empty without a label.
        source_shape: (Z, Y, X) of the scan as its file has it, before it was turned, straightened or resampled.
        source_affine: as `affine`, of that grid. Both None where nobody noted them: the volume is not from a scan.
        intensity: of each channel; empty in datasets that were ingested before it was noted.
    """

    id: str
    shape: tuple[int, int, int, int]
    dtype: str
    spacing_mm: tuple[float, float, float]
    affine: NDArray[np.float64]
    has_label: bool
    class_voxels: Mapping[int, int] = field(default_factory=dict)
    source_shape: tuple[int, int, int] | None = None
    source_affine: NDArray[np.float64] | None = None
    intensity: tuple[Intensity, ...] = ()

    @property
    def size_bytes(self) -> int:
        """Bytes that the decoded image and label take in memory."""
        channels, *grid = self.shape
        voxels = int(np.prod(grid))
        return voxels * (channels * np.dtype(self.dtype).itemsize + int(self.has_label))


@dataclass(frozen=True, slots=True, kw_only=True)
class Volume:
    """A decoded volume; the arrays are C-contiguous and read-only.

    Attributes:
        info: see VolumeInfo.
        image: int16 or float32 (C, Z, Y, X), in the volume's own unit.
        label: uint8 (Z, Y, X), or None.
    """

    info: VolumeInfo
    image: NDArray[Any]
    label: NDArray[np.uint8] | None
