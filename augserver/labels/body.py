"""The body on the working grid: what is tissue, what it encloses, and how dense the air around it reads."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from augserver.labels.fft_morphology import FftMorphology, ball
from augserver.labels.working_grid import AIR_HU, WorkingGrid

_TISSUE_HU = -300.0  # fat is -100; foam, blankets and most of a couch are below
_THIN_MM = 10.0  # couch shells, tubes and clothes are thinner, a chest wall is not
_PART_SHARE = 0.2  # of the largest piece: legs and arms stay, couch rails and head rests go
_SIDES = 3  # of left, right, front and back; the field of view may cut the fourth
_AIR_RANGE_HU = (-1090.0, -900.0)
_AIR_CLAMP_HU = (-1060.0, -980.0)  # beyond, it is not air: a scanner is calibrated to -1000


@dataclass(frozen=True, slots=True)
class Body:
    """Where the patient is.

    Attributes:
        tissue: bool (Z, Y, X), the patient without couch, clothes and tubes.
        inside: bool (Z, Y, X), tissue or what has tissue on at least three of its four sides within the axial slice. A lung that the field of view
            cuts has, the air between couch and patient has not.
        air_hu: what the air around the body reads in this scan; scanners are off by up to 50 HU.
    """

    tissue: NDArray[np.bool_]
    inside: NDArray[np.bool_]
    air_hu: float

    @property
    def section(self) -> NDArray[np.int64]:
        """Voxels of `inside` in each axial slice."""
        return np.asarray(self.inside.sum(axis=(1, 2)))


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
    inside = _enclosed(tissue) | tissue
    return Body(tissue, inside, _air_hu(grid.hu, inside))


def _enclosed(tissue: NDArray[np.bool_]) -> NDArray[np.bool_]:
    sides = np.zeros(tissue.shape, np.uint8)
    for axis in (1, 2):
        sides += np.logical_or.accumulate(tissue, axis=axis)
        sides += np.flip(np.logical_or.accumulate(np.flip(tissue, axis), axis=axis), axis)
    return np.asarray(sides >= _SIDES)


def _air_hu(hu: NDArray[np.float32], inside: NDArray[np.bool_]) -> float:
    """The median of what lies around the body, without the constant that marks voxels beyond the scanner's circle."""
    low, high = _AIR_RANGE_HU
    around = hu[~inside & (hu > low) & (hu < high)]
    if not around.size:
        return AIR_HU
    measured = around[around > around.min()]
    return float(np.clip(np.median(measured if measured.size else around), *_AIR_CLAMP_HU))
