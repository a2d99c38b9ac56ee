"""What a network would say that is never wrong, and scans that lie otherwise than they were taken."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import SimpleITK
from augclient import Server, Volume
from augtrain.artifact import ModelCard
from numpy.typing import NDArray
from scipy import ndimage

Kind = Literal["sure", "shares"]
_POINTS = 4  # along each axis of a voxel

_FLIPPED = ((2, 0, 1), (True, False, True))
_OBLIQUE_DEG = (11.0, -17.0, 23.0)


@dataclass(frozen=True)
class Perfect:
    """A segmenter that knows the truth.

    Attributes:
        kind: "sure" gives each voxel wholly to the class that the dataset's label has there, the one at its centre; "shares" gives each
            class its share of the voxel, 0.4 where 40 % of it is liver.
        truth, affine: the scan's label (Z, Y, X) and its grid, zyx voxel -> xyz LPS mm.
    """

    card: ModelCard
    kind: Kind
    truth: NDArray[np.uint8]
    affine: NDArray[np.float64]

    def __call__(self, server: Server, volume: Volume, on_tile: object) -> NDArray[np.float32]:
        assert volume.label is not None
        classes = range(self.card.outputs)
        if self.kind == "sure":
            return np.stack([volume.label == id for id in classes], axis=-1).astype(np.float32)
        matrix = np.linalg.solve(self.affine, volume.affine)
        points = (np.arange(_POINTS) + 0.5) / _POINTS - 0.5
        counts = np.zeros((self.card.outputs, *volume.label.shape), np.uint8)
        for point in itertools.product(points, repeat=3):
            begin = matrix[:3, :3] @ point + matrix[:3, 3]
            sampled = ndimage.affine_transform(self.truth, matrix[:3, :3], begin, volume.label.shape, order=0, mode="nearest")
            for id in classes:
                counts[id] += sampled == id
        return np.moveaxis(counts, 0, -1) / np.float32(_POINTS**3)


def place(image: SimpleITK.Image, position: str, outside: float) -> SimpleITK.Image:
    """A scan as if it had been taken otherwise; it stays where it is in mm.

    Args:
        position: "as_it_is"; "flipped": other axes, from other ends; "oblique": on turned axes of the same spacing that hold all of it,
            each voxel being the nearest of `image`; "oblique_flipped".
        outside: the value where the turned grid goes beyond the scan.
    """
    if position.startswith("oblique"):
        image = _turned(image, np.radians(_OBLIQUE_DEG), outside)
    if position.endswith("flipped"):
        order, ends = _FLIPPED
        image = SimpleITK.Flip(SimpleITK.PermuteAxes(image, order), ends, False)
    return image


def _turned(image: SimpleITK.Image, angles_rad: Sequence[float], outside: float) -> SimpleITK.Image:
    spacing, size = np.array(image.GetSpacing()), np.array(image.GetSize())
    old = np.reshape(image.GetDirection(), (3, 3))
    new = np.reshape(SimpleITK.Euler3DTransform((0, 0, 0), *angles_rad).GetMatrix(), (3, 3)) @ old
    wide = np.ceil(np.abs(new.T @ old) @ (size * spacing) / spacing).astype(int)
    middle = np.array(image.TransformContinuousIndexToPhysicalPoint(((size - 1) / 2).tolist()))
    origin = middle - new @ ((wide - 1) / 2 * spacing)
    return SimpleITK.Resample(
        image,
        wide.tolist(),
        SimpleITK.Transform(),
        SimpleITK.sitkNearestNeighbor,
        origin.tolist(),
        spacing.tolist(),
        new.ravel().tolist(),
        outside,
    )
