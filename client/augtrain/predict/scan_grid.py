"""Carry class probabilities from a volume's grid onto that of the scan it was made of.

The scan's voxels are found in the volume by their positions in mm, and the probabilities there are interpolated linearly: the border of a
class then runs between the volume's voxels, where nearest neighbours would draw their faces as steps (figures: tests/train/predict/
test_round_trip.py). Beyond the last voxel of the volume, which may end up to 1.5 voxels before the scan does, that voxel's values hold.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from augclient import VolumeInfo
from numpy.typing import NDArray
from scipy import ndimage

from augtrain.label_map import Grid

_BLOCK_VALUES = 1 << 17
_SLOPE = 1e-4  # voxels over a whole axis: what rounded headers tilt it by


def grid_of(info: VolumeInfo) -> Grid:
    """The grid of the scan's file; of the volume itself where the server knows no file."""
    if info.source_shape is None or info.source_affine is None:
        return Grid(shape=info.shape[1:], affine=info.affine)
    return Grid(shape=info.source_shape, affine=info.source_affine)


def blocks_on_grid(
    probabilities: NDArray[np.float32], affine: NDArray[np.float64], grid: Grid
) -> Iterator[tuple[int, slice, NDArray[np.float32]]]:
    """The probabilities at the voxels of another grid, block by block, in order.

    Args:
        probabilities: (Z, Y, X, K) on the volume's grid; not modified.
        affine: (4, 4) of that grid, zyx voxel -> xyz LPS mm.
        grid: where they are wanted; in any orientation, its axes need not be at right angles to the volume's or each other.
    Yields:
        z and the rows y of the block, and its float32 (rows, X, K): half a MB, or one row where that is more. Memory: a few such blocks
        and a plane of the volume.
    """
    matrix = np.asarray(np.linalg.solve(affine, grid.affine), np.float64)  # voxel of `grid` -> voxel of the volume
    way = np.abs(matrix[:3, :3]) * np.maximum(np.subtract(grid.shape, 1), 1)  # in the volume, of each axis of `grid` from end to end
    first, second, third = (int(axis) for axis in way.argmax(axis=1))
    astray = way.copy()
    astray[range(3), (first, second, third)] = 0
    if {first, second, third} == {0, 1, 2} and astray.max() < _SLOPE:
        return _aligned(probabilities, matrix, (first, second, third), grid.shape)
    return _slanted(probabilities, matrix, grid.shape)


def label_on_grid(probabilities: NDArray[np.float32], affine: NDArray[np.float64], grid: Grid) -> NDArray[np.uint8]:
    """The most probable class at each voxel of another grid; of equal ones that with the smallest id.

    Args: see blocks_on_grid; K <= 256.
    Returns:
        uint8 (Z, Y, X) of `grid`.
    """
    label = np.empty(grid.shape, np.uint8)
    for z, rows, block in blocks_on_grid(probabilities, affine, grid):
        label[z, rows] = block.argmax(axis=-1)
    return label


def _aligned(
    probabilities: NDArray[np.float32], matrix: NDArray[np.float64], along: tuple[int, int, int], shape: tuple[int, int, int]
) -> Iterator[tuple[int, slice, NDArray[np.float32]]]:
    """Row i of `matrix` depends on axis along[i] of the grid alone: interpolate along one axis after the other."""
    order = tuple(along.index(axis) for axis in range(3))  # axis of the grid -> axis of the volume
    turned = probabilities.transpose(*order, 3)
    (z_low, z_part), (y_low, y_part), (x_low, x_part) = (
        _taps(size, matrix[order[axis], axis], matrix[order[axis], 3], turned.shape[axis]) for axis, size in enumerate(shape)
    )
    y_high, x_high = np.minimum(y_low + 1, turned.shape[1] - 1), np.minimum(x_low + 1, turned.shape[2] - 1)
    blocks = _row_blocks(shape, probabilities.shape[3])
    for z, (low, part) in enumerate(zip(z_low, z_part, strict=True)):
        plane = turned[low] + part * (turned[min(low + 1, len(turned) - 1)] - turned[low])
        for rows in blocks:
            lines = plane[y_low[rows]]
            lines += y_part[rows, None, None] * (plane[y_high[rows]] - lines)
            block = lines[:, x_low]
            block += x_part[:, None] * (lines[:, x_high] - block)
            yield z, rows, block


def _slanted(
    probabilities: NDArray[np.float32], matrix: NDArray[np.float64], shape: tuple[int, int, int]
) -> Iterator[tuple[int, slice, NDArray[np.float32]]]:
    """Each voxel of the grid has a place of its own in the volume."""
    classes = probabilities.shape[3]
    for z in range(shape[0]):
        for rows in _row_blocks(shape, classes):
            block = np.empty((rows.stop - rows.start, shape[2], classes), np.float32)
            begin = matrix[:3, :3] @ (z, rows.start, 0) + matrix[:3, 3]
            for id in range(classes):
                # SciPy writes to whole arrays only; one plane of a grid is one of three axes
                block[..., id] = ndimage.affine_transform(
                    probabilities[..., id], matrix[:3, :3], begin, (1, *block.shape[:2]), order=1, mode="nearest"
                )[0]
            yield z, rows, block


def _row_blocks(shape: tuple[int, int, int], classes: int) -> list[slice]:
    """The rows of a plane in blocks that stay in a core's cache: whole planes of 118 classes took 15 times as long."""
    step = max(1, _BLOCK_VALUES // (shape[2] * classes))
    return [slice(start, min(start + step, shape[1])) for start in range(0, shape[1], step)]


def _taps(size: int, step: float, begin: float, source: int) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """For each place on an axis the voxel of the source below it, and how far it is on the way to the next."""
    position = np.clip(begin + step * np.arange(size), 0, source - 1)
    low = np.minimum(np.floor(position), max(source - 2, 0)).astype(np.intp)
    return low, (position - low).astype(np.float32)
