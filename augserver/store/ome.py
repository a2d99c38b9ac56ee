"""OME-Zarr 0.5 metadata of a volume, so that viewers show it at the right size and place.

OME-Zarr 0.5 knows scale and translation but no rotation: for an oblique scan the exact affine is in our own attributes only,
and the translation is the position of voxel 0. World axes are z, y, x of LPS (Superior, Posterior, Left) in mm.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

VERSION = "0.5"
_SPACE = [{"name": name, "type": "space", "unit": "millimeter"} for name in "zyx"]


def image_metadata(name: str, spacing_mm: Sequence[float], affine: NDArray[np.float64]) -> dict[str, Any]:
    """The "ome" attribute of an image (C, Z, Y, X) at path "0".

    Args:
        name: shown by viewers.
        spacing_mm: zyx.
        affine: (4, 4), zyx voxel -> xyz LPS mm.
    """
    axes = [{"name": "c", "type": "channel"}, *_SPACE]
    return {"version": VERSION, "multiscales": [_multiscale(name, axes, [1.0, *spacing_mm], [0.0, *_origin_zyx(affine)])]}


def labels_metadata() -> dict[str, Any]:
    """The "ome" attribute of the group `labels/`."""
    return {"version": VERSION, "labels": ["classes"]}


def label_metadata(spacing_mm: Sequence[float], affine: NDArray[np.float64], class_voxels: Mapping[int, int]) -> dict[str, Any]:
    """The "ome" attribute of the label image (Z, Y, X) at path "0"; each class gets a colour of its own."""
    return {
        "version": VERSION,
        "multiscales": [_multiscale("classes", _SPACE, list(spacing_mm), _origin_zyx(affine))],
        "image-label": {
            "source": {"image": "../../"},
            "colors": [{"label-value": value, "rgba": _colour(value)} for value in sorted(class_voxels)],
        },
    }


def _multiscale(name: str, axes: list[dict[str, str]], scale: list[float], translation: list[float]) -> dict[str, Any]:
    transformations = [{"type": "scale", "scale": scale}, {"type": "translation", "translation": translation}]
    return {"name": name, "axes": axes, "datasets": [{"path": "0", "coordinateTransformations": transformations}]}


def _origin_zyx(affine: NDArray[np.float64]) -> list[float]:
    return [float(value) for value in affine[2::-1, 3]]


def _colour(value: int) -> list[int]:
    """Background is transparent; neighbours in id are far apart in colour (odd multipliers permute 0..255)."""
    return [value * 97 % 256, value * 57 % 256, value * 151 % 256, 255 if value else 0]
