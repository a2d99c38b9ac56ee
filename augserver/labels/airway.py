"""The windpipe and the main bronchi: gas in round pockets, followed down from slice to slice until they open into the lungs.

At 3 or 4 mm the walls of the bronchi are gone, so that both lungs and the windpipe are one pocket to a threshold.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from augserver.labels.body import Body
from augserver.labels.working_grid import WorkingGrid

Mask = NDArray[np.bool_]

_GAS_HU = 200.0  # above air: the wall, blurred over two voxels, is denser
_PURE_HU = 50.0  # above air: the darkest voxel of an airway holds nothing but gas, a lung's has tissue in it
_MEDIAN_HU = 100.0  # above air; a small child's lung is as small as a windpipe, but denser
_AREA_MM2 = (60.0, 700.0)  # a windpipe is 10 to 27 mm wide, 30 where it is diseased
_WIDEST_MM = 45.0
_FORK_MM2 = 1200.0  # both main bronchi cut obliquely
_GROWTH = 2.0
_SLACK_MM2 = 100.0
_SHORTEST_MM = 30.0  # shorter ones are bowel or the tip of a lung


def find_airway(grid: WorkingGrid, body: Body) -> Mask:
    """Voxels of the airway with their partial-volume rim, bool (Z, Y, X); gas in bowel that is shaped so is found as well."""
    gas = (grid.hu < body.air_hu + _GAS_HU) & body.enclosed
    slices = [ndimage.label(plane)[0] for plane in gas]
    airway = np.zeros(gas.shape, bool)
    for top in range(len(slices) - 1, -1, -1):
        for number, box in enumerate(ndimage.find_objects(slices[top]), 1):
            pocket = slices[top] == number
            if _is_cross_section(pocket, box, grid, grid.hu[top], body.air_hu) and not airway[top][pocket].any():
                path = _follow(pocket, top, slices, grid)
                if len(path) * grid.spacing_mm[0] >= _SHORTEST_MM:
                    for step, part in enumerate(path):
                        airway[top - step] |= part
    return np.asarray(ndimage.binary_dilation(airway, np.ones((1, 3, 3), bool)))


def _is_cross_section(pocket: Mask, box: tuple[slice, slice], grid: WorkingGrid, hu: NDArray[np.float32], air_hu: float) -> bool:
    _, sy, sx = grid.spacing_mm
    size_mm = max((box[0].stop - box[0].start) * sy, (box[1].stop - box[1].start) * sx)
    low, high = _AREA_MM2
    return size_mm <= _WIDEST_MM and low <= pocket.sum() * sy * sx <= high and _is_gas(hu[pocket], air_hu)


def _is_gas(hu: NDArray[np.float32], air_hu: float) -> bool:
    return float(hu.min()) < air_hu + _PURE_HU and float(np.median(hu)) < air_hu + _MEDIAN_HU


def _follow(pocket: Mask, top: int, slices: list[NDArray[np.int32]], grid: WorkingGrid) -> list[Mask]:
    """The pocket and what continues it in the slices below, as long as it does not widen as where a bronchus enters the lung."""
    pixel_mm2 = grid.spacing_mm[1] * grid.spacing_mm[2]
    path, area = [pocket], pocket.sum() * pixel_mm2
    for below in range(top - 1, -1, -1):
        touched = np.unique(slices[below][path[-1]])
        part = np.isin(slices[below], touched[touched > 0])
        next_area = part.sum() * pixel_mm2
        if not next_area or next_area > min(_GROWTH * area + _SLACK_MM2, _FORK_MM2):
            break
        path.append(part)
        area = next_area
    return path
