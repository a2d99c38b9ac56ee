"""Find the lungs in a CT without an annotator, or say why they cannot be found.

The recipe of Rister et al. 2018, III-B, takes the two largest air pockets that do not touch the border of a slice. It fails, as the paper
says, on couches, and it must fail where there is no thorax, where gas fills the bowel, or where the field of view cuts the
lung. So every pocket is judged by what makes it a lung, in sizes relative to the body, so that children have lungs too:

    enclosed    tissue on three of its four sides (body.py), which couch, blankets and the air around have not
    parenchyma  denser than this scan's air by what blood and tissue add, which gas in bowel and windpipe is not
    place       reaches the back half of the body, beside the spine, where neither stomach nor colon bring gas
    size        fills a share of its axial slice, or lies on the scan's top slice: the base of a lung cut by the field of view

Any number of pockets may be lungs: one lung, two, both joined in front, or one in pieces.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from augserver.labels.airway import find_airway
from augserver.labels.body import Body, find_body
from augserver.labels.fft_morphology import FftMorphology, ball
from augserver.labels.finding import Finding
from augserver.labels.hounsfield import no_gas
from augserver.labels.working_grid import WorkingGrid, working_grid

Mask = NDArray[np.bool_]

_POCKET_HU = -150.0
_CORE_MM = 10.0
_EDGE_HU = -400.0  # half way between parenchyma (-850) and tissue (40): where the edge of either lies in a blurred image
_VESSEL_MM = 10.0  # vessels up to this width are lung; the large ones of the hilum are not
_DENSEST_HU = -400.0  # of a lung's median; stool with gas in it is denser
_SMALLEST_ML = 1.0
_LARGE_SHARE, _LARGE_ABOVE_AIR_HU = 0.04, 45.0  # emphysema goes down to 70 above air, gas in bowel up to 40
_BASE_ABOVE_AIR_HU = 60.0
_PIECE_SHARE, _PIECE_ABOVE_AIR_HU = 0.003, 100.0
_BACK, _BASE_BACK = 0.5, 0.6  # of the body's depth; bases lie in the deepest recess, beside the spine
_ENCLOSED = 0.5  # of its voxels; the corner of a lung cut by the field of view has tissue on two sides only
_OPEN_EDGE = 0.02  # of a lung's voxels: below 0.01 where a chest wall is in view, 0.04 and more where a circle cuts it off


@dataclass(frozen=True, slots=True)
class _Pocket:
    """An air pocket after erosion: its core.

    Attributes:
        ml: volume.
        median_hu: of its voxels.
        enclosed: share of its voxels that tissue encloses.
        share: of the body's section, in the slice where that is largest.
        back: where its hindmost voxel lies: 0 the front of the body, 1 its back.
        first, stop: slices, half open.
        on_top: it lies on the scan's top slice.
    """

    ml: float
    median_hu: float
    enclosed: float
    share: float
    back: float
    first: int
    stop: int
    on_top: bool


def find_lungs(image: NDArray[Any], spacing_mm: Sequence[float]) -> Finding:
    """Label the lungs, vessels inside them included, windpipe, main bronchi and hilum not.

    Args:
        image: (Z, Y, X) in HU, any real dtype; z grows to the head, y to the back; not modified.
        spacing_mm: zyx.
    Returns:
        Finding with the mask on the image's grid, or with the reason why there is none.
    Raises:
        GeometryError: not three axes, or a spacing without meaning.
    Source: Rister et al. 2018, III-B: pockets below -150 HU and their erosion by a ball of 1 cm. We differ in how pockets are chosen (see
        above), in giving back what erosion took only up to the pockets next to it, in the edge at -400 HU, and in closing small vessels.
    """
    grid = working_grid(image, spacing_mm)
    body = find_body(grid)
    if body is None:
        return Finding(reason="no body in view: nothing thicker than 1 cm is denser than -300 HU")
    lowest = float(grid.hu[~grid.unseen].min())
    if reason := no_gas(lowest):
        return Finding(reason=reason)
    air = (grid.hu < _POCKET_HU) & body.inside & ~find_airway(grid, body)
    cores, _ = ndimage.label(FftMorphology(ball(_CORE_MM, grid.spacing_mm)).erode(air, outside=True))
    pockets = _describe(cores, grid, body)
    chosen = _choose(pockets, body)
    if not chosen:
        return Finding(reason=_why_none(pockets, body))
    mask = _regrow(air, cores, chosen, grid) & (grid.hu < _EDGE_HU)
    open_edge = ndimage.binary_dilation(mask) & ~body.inside
    if open_edge.sum() > _OPEN_EDGE * mask.sum():
        return Finding(reason="the field of view cuts the lungs on two sides, so that where they end cannot be told")
    closer = FftMorphology(ball(_VESSEL_MM, grid.spacing_mm))
    mask = closer.erode(closer.dilate(mask), outside=True)
    return Finding(mask=grid.refine(mask, image < _EDGE_HU))


def _describe(cores: NDArray[np.int32], grid: WorkingGrid, body: Body) -> dict[int, _Pocket]:
    """The pockets worth looking at, by their number in `cores`."""
    pockets = {}
    section = np.maximum(body.section, 1)
    for number, box in enumerate(ndimage.find_objects(cores), 1):
        core = cores[box] == number
        ml = float(core.sum()) * grid.voxel_ml
        if ml < _SMALLEST_ML:
            continue
        depth = np.flatnonzero(body.tissue[box[0]].any(axis=(0, 2)))
        front, back = (int(depth[0]), int(depth[-1])) if depth.size else (0, grid.hu.shape[1] - 1)
        pockets[number] = _Pocket(
            ml=ml,
            median_hu=float(np.median(grid.hu[box][core])),
            enclosed=float(body.enclosed[box][core].mean()),
            share=float((core.sum(axis=(1, 2)) / section[box[0]]).max()),
            back=(box[1].stop - 1 - front) / max(1, back - front),
            first=box[0].start,
            stop=box[0].stop,
            on_top=box[0].stop == grid.hu.shape[0],
        )
    return pockets


def _choose(pockets: dict[int, _Pocket], body: Body) -> list[int]:
    """The numbers of the pockets that are lungs: those that prove it by themselves, then pieces beside them."""
    chosen = [number for number, pocket in pockets.items() if not _objection(pocket, body)]
    if not chosen:
        return []
    first, stop = min(pockets[number].first for number in chosen), max(pockets[number].stop for number in chosen)
    for number, pocket in pockets.items():
        beside = pocket.first < stop and pocket.stop > first
        tissue = body.air_hu + _PIECE_ABOVE_AIR_HU <= pocket.median_hu <= _DENSEST_HU
        if (
            number not in chosen
            and beside
            and tissue
            and pocket.enclosed >= _ENCLOSED
            and pocket.back >= _BACK
            and pocket.share >= _PIECE_SHARE
        ):
            chosen.append(number)
    return chosen


def _objection(pocket: _Pocket, body: Body) -> str:
    """Why a pocket is not a lung by itself; empty if it is one."""
    above_air = pocket.median_hu - body.air_hu
    if pocket.enclosed < _ENCLOSED:
        return "is not enclosed by the body"
    if above_air < _LARGE_ABOVE_AIR_HU:
        return "is gas without tissue, as in bowel"
    if pocket.median_hu > _DENSEST_HU:
        return "is too dense for a lung"
    if pocket.back < _BACK:
        return "lies in the front of the body, as stomach and colon do"
    if pocket.share >= _LARGE_SHARE:
        return ""
    if not pocket.on_top:
        return f"is too small for a lung ({100 * pocket.share:.1f} % of its slice) and not cut by the top of the scan"
    if above_air < _BASE_ABOVE_AIR_HU or pocket.back < _BASE_BACK:
        return "is cut by the top of the scan, but has not the density and place of a lung's base"
    return ""


def _why_none(pockets: dict[int, _Pocket], body: Body) -> str:
    within = [pocket for pocket in pockets.values() if pocket.enclosed >= _ENCLOSED]
    if not within:
        return "no thorax in view: no air pocket inside the body outlasts an erosion by 1 cm"
    largest = max(within, key=lambda pocket: pocket.ml)
    return (
        f"no lung in view: of {len(within)} air pockets inside the body the largest ({largest.ml:.0f} ml, "
        f"median {largest.median_hu:.0f} HU, air {body.air_hu:.0f}) {_objection(largest, body)}"
    )


def _regrow(air: Mask, cores: NDArray[np.int32], chosen: list[int], grid: WorkingGrid) -> Mask:
    """What erosion took from the chosen cores: air connected to them that is nearer to them than to any other core."""
    lung = np.isin(cores, chosen)
    other = (cores > 0) & ~lung
    if other.any():
        to_lung = ndimage.distance_transform_edt(~lung, sampling=grid.spacing_mm)
        air = air & (to_lung < ndimage.distance_transform_edt(~other, sampling=grid.spacing_mm))
    regions, _ = ndimage.label(air)
    found = np.unique(regions[lung])
    return np.isin(regions, found[found > 0])
