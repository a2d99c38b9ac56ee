"""Find the bones in a CT without an annotator, or say why they cannot be found.

The recipe of Rister et al. 2018, III-C, takes the largest bright component, closes it by 2.5 cm, keeps what is above 0 HU and fills the
holes of each axial slice. As the paper says it also takes bright vessels, kidneys and bowel, and it fills muscle between ribs
and whole pelves. What is ours keeps to what sets bone apart:

    cortex      bone has voxels above 300 HU within 1.5 cm of every bright voxel
    shell       bone is brighter at its surface than in the middle; what contrast agent fills is not
    holes       a marrow cavity or the spinal canal is small; a pelvis or a chest in the slice is not a hole

Bones that joints or thin slices separate from the largest component are kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from augserver.labels.body import find_body
from augserver.labels.fft_morphology import FftMorphology, ball
from augserver.labels.finding import Finding
from augserver.labels.working_grid import WorkingGrid, working_grid

Mask = NDArray[np.bool_]

_BRIGHT_HU = 200.0
_CORTEX_HU, _CORTEX_REACH_MM = 300.0, 15.0
_CLOSING_MM = 25.0
_MARROW_HU = 100.0  # the recipe's 0 lets muscle in (30 to 70, enhanced 90), which lies between ribs and under shoulder blades
_LARGEST_HOLE_CM2 = 20.0
_SMALLEST_ML = 0.5
_JOIN_MM = 10.0
_RIM_MM, _MIDDLE_DEPTH_MM = 6.0, 8.0  # of a piece thick enough to have a middle: ribs have none
_SHELL_HU = 40.0  # rim above middle: 120 and more in bones, at most 10 in kidneys
_METAL_HU, _METAL_SHARE = 2500.0, 0.05
_LEAST_ML = 5.0
_MOST_OF_BODY = 0.35

_EVERYWHERE = np.ones((3, 3, 3), bool)  # neighbours by a corner count: cortex is one voxel thin


def find_bones(image: NDArray[Any], spacing_mm: Sequence[float]) -> Finding:
    """Label the bones, marrow and spinal canal included.

    Args:
        image: (Z, Y, X) in HU, any real dtype; z along the patient's length; not modified.
        spacing_mm: zyx.
    Returns:
        Finding with the mask on the image's grid, or with the reason why there is none.
    Raises:
        GeometryError: not three axes, or a spacing without meaning.
    Source: Rister et al. 2018, III-C: thresholds 200 HU, closing by a ball of 2.5 cm, holes filled per axial slice; see above for ours.
    """
    grid = working_grid(image, spacing_mm)
    body = find_body(grid)
    if body is None:
        return Finding(reason="no body in view: nothing thicker than 1 cm is denser than -300 HU")
    pieces = _bone_pieces((grid.hu > _BRIGHT_HU) & body.tissue, grid)
    bone_ml = float(pieces.sum()) * grid.voxel_ml
    if bone_ml < _LEAST_ML:
        highest = float(grid.hu[body.tissue].max())
        return Finding(reason=f"no bone in view: {bone_ml:.1f} ml of the body look like it, and its highest value is {highest:.0f} HU")
    metal = float((pieces & (grid.hu > _METAL_HU)).sum()) * grid.voxel_ml
    if metal > _METAL_SHARE * bone_ml:
        return Finding(
            reason=f"metal: {metal:.0f} of {bone_ml:.0f} ml of bright voxels are above {_METAL_HU:.0f} HU; its streaks are not bone"
        )
    closer = FftMorphology(ball(_CLOSING_MM, grid.spacing_mm))
    closed = closer.erode(closer.dilate(pieces), outside=True) & (grid.hu > _MARROW_HU)
    bones = _fill_small_holes(closed | pieces, grid)
    if bones.sum() > _MOST_OF_BODY * body.tissue.sum():
        share = 100.0 * float(bones.sum() / body.tissue.sum())
        return Finding(reason=f"{share:.0f} % of the body would be bone: contrast agent, or values that are not HU")
    return Finding(mask=grid.refine(bones, image > _BRIGHT_HU))


def _bone_pieces(bright: Mask, grid: WorkingGrid) -> Mask:
    """The bright components that are bone."""
    cortex = bright & (grid.hu > _CORTEX_HU)
    if not cortex.any():
        return cortex
    bright = bright & (ndimage.distance_transform_edt(~cortex, sampling=grid.spacing_mm) <= _CORTEX_REACH_MM)
    numbers, count = ndimage.label(bright, _EVERYWHERE)
    sizes_ml = np.bincount(numbers.ravel(), minlength=count + 1) * grid.voxel_ml
    keep = sizes_ml >= _SMALLEST_ML
    keep[0] = False
    skeleton = int(np.argmax(np.where(keep, sizes_ml, 0.0)))
    joiner = FftMorphology(ball(_JOIN_MM, grid.spacing_mm))
    margin = int(np.ceil(_JOIN_MM / min(grid.spacing_mm)))
    for number, box in enumerate(ndimage.find_objects(numbers), 1):
        if keep[number] and number != skeleton:
            around = tuple(slice(max(0, part.start - margin), part.stop + margin) for part in box)
            solid = _fill_small_holes(joiner.close(np.pad(numbers[around] == number, margin)), grid)
            inner = tuple(slice(margin, -margin) for _ in range(3))
            keep[number] = _has_shell(solid[inner], grid.hu[around], grid.spacing_mm)
    return np.asarray(keep[numbers])


def _has_shell(piece: Mask, hu: NDArray[np.float32], spacing_mm: tuple[float, float, float]) -> bool:
    """Whether a piece has a rim that outshines its middle, or no middle at all."""
    depth = ndimage.distance_transform_edt(np.pad(piece, 1), sampling=spacing_mm)[1:-1, 1:-1, 1:-1]
    middle = hu[depth > _MIDDLE_DEPTH_MM]
    if not middle.size:
        return True
    rim = hu[piece & (depth <= _RIM_MM)]
    return float(np.median(rim)) > float(np.median(middle)) + _SHELL_HU


def _fill_small_holes(mask: Mask, grid: WorkingGrid) -> Mask:
    """Fill what each axial slice encloses, up to the size of a marrow cavity."""
    pixel_cm2 = grid.spacing_mm[1] * grid.spacing_mm[2] / 100.0
    filled = mask.copy()
    for plane in filled:
        holes, count = ndimage.label(~plane)
        small = np.bincount(holes.ravel(), minlength=count + 1) * pixel_cm2 <= _LARGEST_HOLE_CM2
        for side in (holes[0], holes[-1], holes[:, 0], holes[:, -1]):
            small[side] = False
        small[0] = False
        plane |= small[holes]
    return filled
