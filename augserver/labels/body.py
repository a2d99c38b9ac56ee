"""The body on the working grid: what is tissue, what it encloses, and how dense the air around it reads."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from augserver.labels.fft_morphology import FftMorphology, ball
from augserver.labels.working_grid import AIR_HU, WorkingGrid

Mask = NDArray[np.bool_]

_TISSUE_HU = -300.0  # fat is -100; foam, blankets and most of a couch are below
_THIN_MM = 10.0  # couch shells, tubes and clothes are thinner, a chest wall is not
_PART_SHARE = 0.2  # of the largest piece: legs and arms stay, couch rails and head rests go
_AIR_RANGE_HU = (-1090.0, -900.0)
_AIR_PERCENTILE = 20  # blankets and foam are in the upper half
_AIR_LEAST_VOXELS = 1000
_GAS_PERCENTILE = 1
_AIR_CLAMP_HU = (-1060.0, -980.0)  # beyond, it is not air: a scanner is calibrated to -1000


@dataclass(frozen=True, slots=True)
class Body:
    """Where the patient is.

    Attributes:
        tissue: bool (Z, Y, X), the patient without couch, clothes and tubes.
        inside: bool, seen by the scanner, and with tissue on at least two of the four sides within the axial slice. A lung that the
            field of view cuts has, even at a corner; the air between couch and patient has not.
        enclosed: bool, with tissue on at least three sides, or tissue itself.
        air_hu: what air reads in this scan; scanners are off by up to 50 HU.
    """

    tissue: Mask
    inside: Mask
    enclosed: Mask
    air_hu: float

    @property
    def section(self) -> NDArray[np.int64]:
        """Voxels of the body in each axial slice."""
        return np.asarray(self.enclosed.sum(axis=(1, 2)))


def find_body(grid: WorkingGrid) -> Body | None:
    """Find the body; None if the scan shows none."""
    opener = FftMorphology(ball(_THIN_MM, grid.spacing_mm))
    thick = opener.dilate(opener.erode(grid.hu > _TISSUE_HU, outside=True))  # the scan's border is no surface of the body
    parts, count = ndimage.label(thick)
    if not count:
        return None
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    tissue = (sizes >= _PART_SHARE * sizes.max())[parts]
    seen, sides = ~grid.unseen, _sides(tissue)
    enclosed = ((sides >= 3) & seen) | tissue
    return Body(tissue, ((sides >= 2) & seen) | tissue, enclosed, _air_hu(grid, enclosed))


def _sides(tissue: Mask) -> NDArray[np.uint8]:
    """On how many of left, right, front and back there is tissue."""
    sides = np.zeros(tissue.shape, np.uint8)
    for axis in (1, 2):
        sides += np.logical_or.accumulate(tissue, axis=axis)
        sides += np.flip(np.logical_or.accumulate(np.flip(tissue, axis), axis=axis), axis)
    return sides


def _air_hu(grid: WorkingGrid, enclosed: Mask) -> float:
    """The darkest fifth around the body; where nothing is around it, the darkest gas in its windpipe or bowel."""
    low, high = _AIR_RANGE_HU
    around = grid.hu[~enclosed & ~grid.unseen & (grid.hu > low) & (grid.hu < high)]
    gas = grid.hu[enclosed & (grid.hu < high)]
    if around.size >= _AIR_LEAST_VOXELS:
        value = np.percentile(around, _AIR_PERCENTILE)
    elif gas.size:
        value = np.percentile(gas, _GAS_PERCENTILE)
    else:
        return AIR_HU
    return float(np.clip(value, *_AIR_CLAMP_HU))
