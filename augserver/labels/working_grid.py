"""A grid of about 3 mm on which organs are looked for, and the way back to the scan's own voxels.

The recipes' lengths are centimetres, so that voxels below 3 mm cost time and say nothing about which pocket is a lung. Where exactly
its edge runs is decided on the scan's own grid again.

Source: Rister et al. 2018, VI-A, labels at 3 mm; the return to the scan's grid is ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from augserver.errors import GeometryError
from augserver.geometry import check_spacing

AIR_HU = -1000.0
_WORKING_MM = 3.01  # blocks of voxels up to this size; a hair more than 3, for spacings that are 3 up to rounding
_LOWEST_HU = -1100.0  # scanners mark what they did not measure by -1024, -2000, -3024: it must not drag a block's mean along
_FILL_SHARE = 0.01  # of the volume, and
_FILL_CORNERS = 3  # of the eight: so much must have one value exactly


@dataclass(frozen=True, slots=True)
class WorkingGrid:
    """A scan averaged over blocks of voxels.

    Attributes:
        hu: float32 (Z, Y, X), not below -1100.
        unseen: bool (Z, Y, X), blocks beyond the scanner's circle or the source of a resampled scan: filled with one value.
        spacing_mm: zyx, of the blocks.
        factors: voxels of the scan per block along each axis.
        shape: (Z, Y, X) of the scan.
    """

    hu: NDArray[np.float32]
    unseen: NDArray[np.bool_]
    spacing_mm: tuple[float, float, float]
    factors: tuple[int, int, int]
    shape: tuple[int, int, int]

    @property
    def voxel_ml(self) -> float:
        """Volume of a block in ml."""
        return float(np.prod(self.spacing_mm)) / 1000.0

    def refine(self, mask: NDArray[np.bool_], belongs: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """A mask of this grid on the scan's own voxels.

        Args:
            mask: bool, of this grid.
            belongs: bool, of the scan's shape: decides in the blocks at the mask's edge, inside and outside; blocks further in belong
                to the organ, those further out do not.
        """
        if self.factors == (1, 1, 1):
            return mask
        around = np.ones([1 if factor == 1 else 3 for factor in self.factors], bool)
        near = self._spread(ndimage.binary_dilation(mask, around))
        near &= belongs
        near |= self._spread(ndimage.binary_erosion(mask, around, border_value=1))
        return near

    def _spread(self, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
        for axis, factor in enumerate(self.factors):
            if factor > 1:
                mask = np.repeat(mask, factor, axis)
        return np.array(mask[tuple(map(slice, self.shape))])


def working_grid(image: NDArray[Any], spacing_mm: Sequence[float]) -> WorkingGrid:
    """Average a scan over blocks that are as near to 3 mm as whole voxels come from below.

    Args:
        image: (Z, Y, X) in HU, any real dtype; not modified. A value that fills the corners exactly (-2000 of a
            scanner, 0 of a resampled scan) counts as air.
        spacing_mm: zyx.
    Raises:
        GeometryError: not three axes, or a spacing without meaning.
    """
    if image.ndim != 3 or 0 in image.shape:
        raise GeometryError(f"organs are looked for in a volume (Z, Y, X) without empty axes, got shape {image.shape}")
    spacing = check_spacing(spacing_mm)
    factors = [max(1, min(size, int(_WORKING_MM / step))) for size, step in zip(image.shape, spacing, strict=True)]
    hu = np.maximum(image, np.float32(_LOWEST_HU), dtype=np.float32)
    fill = _fill_value(image)
    filled = np.zeros(image.shape, bool) if fill is None else image == fill
    hu[filled] = 0.0
    blocks, measured = _blocks(hu, factors).sum(axis=(1, 3, 5)), _blocks(~filled, factors).sum(axis=(1, 3, 5))
    unseen = measured == 0
    hu = np.where(unseen, AIR_HU, blocks / np.maximum(measured, 1)).astype(np.float32)  # a block is the mean of what was measured in it
    depth, height, width = image.shape
    z, y, x = factors
    sz, sy, sx = (step * factor for step, factor in zip(spacing, factors, strict=True))
    return WorkingGrid(hu, unseen, (sz, sy, sx), (z, y, x), (depth, height, width))


def _blocks(array: NDArray[Any], factors: Sequence[int]) -> NDArray[Any]:
    """(Z, Y, X) as (Z', z, Y', y, X', x), its last voxels repeated to whole blocks."""
    array = np.pad(array, [(0, -size % factor) for size, factor in zip(array.shape, factors, strict=True)], mode="edge")
    return array.reshape([part for size, factor in zip(array.shape, factors, strict=True) for part in (size // factor, factor)])


def _fill_value(image: NDArray[Any]) -> float | None:
    """The one value that most corners of the volume and a share of its voxels have exactly; None if there is none."""
    values, counts = np.unique(image[np.ix_(*[(0, -1)] * 3)], return_counts=True)
    value = float(values[counts.argmax()])
    if counts.max() < _FILL_CORNERS or np.count_nonzero(image == value) < _FILL_SHARE * image.size:
        return None
    return value
