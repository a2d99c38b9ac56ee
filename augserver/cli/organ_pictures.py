"""One picture per labelled volume: three slices through the middle of the organs, overlaid, for a person to leaf through."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from augserver.errors import StoreError
from augserver.web.sheet import Column, cut_planes, draw_sheet

if TYPE_CHECKING:
    from augserver.ingest.organ_labels import LabelledVolume, OrganOutcome
    from augserver.volume import Volume

_WINDOW_HU = (-1000.0, 600.0)  # lungs and bones in one window
_LONGEST = 170  # cubic voxels along the longest axis: all three views fit on a screen


def save_picture(labelled: LabelledVolume, classes: Mapping[int, str], folder: Path) -> Path:
    """Draw a volume with its organs as `folder`/<id>.png.

    Args:
        labelled: with its volume.
        classes: label id -> name, of the organs.
        folder: made if absent.
    Raises:
        StoreError: the file cannot be written.
    """
    volume = labelled.volume
    if volume is None:
        raise StoreError(f"volume {labelled.id!r} has no voxels to draw")
    index = _cubic(volume)
    label = np.zeros(volume.image.shape[1:], np.uint8) if volume.label is None else volume.label
    shown = label[index]
    shown = np.where(np.isin(shown, list(classes)), shown, 0).astype(np.uint8)
    low, high = _WINDOW_HU
    grey = np.clip((volume.image[0][index].astype(np.float32) - low) / (high - low), 0.0, 1.0)
    spacing = " x ".join(f"{step:.3g}" for step in volume.info.spacing_mm)
    captions = [f"{' x '.join(map(str, label.shape))} voxels of {spacing} mm", *(_caption(outcome, volume) for outcome in labelled.organs)]
    width = max(8, grey.shape[2] * 2 // 7)  # a letter is about 7 pixels wide, a voxel 2
    lines = tuple(line for caption in captions for line in textwrap.wrap(caption, width))
    sheet = draw_sheet([Column(title=labelled.id, captions=lines, planes=cut_planes(grey, shown, _middle(shown)))], classes, "")
    path = folder / f"{labelled.id}.png"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        sheet.picture.save(path)
    except OSError as error:
        raise StoreError(f"{path} cannot be written ({error}); choose another folder for --pictures") from error
    return path


def _cubic(volume: Volume) -> tuple[NDArray[Any], ...]:
    """Indices that make the voxels cubic, nearest neighbour."""
    shape, spacing = volume.image.shape[1:], volume.info.spacing_mm
    step_mm = max(size * step for size, step in zip(shape, spacing, strict=True)) / _LONGEST
    axes = []
    for size, step in zip(shape, spacing, strict=True):
        count = max(1, round(size * step / step_mm))
        axes.append(np.minimum((np.arange(count) + 0.5) * size / count, size - 1).astype(np.intp))
    return np.ix_(*axes)


def _middle(label: NDArray[np.uint8]) -> list[int]:
    """For each axis the middle one of the planes that show most classes; of the volume if nothing is labelled."""
    planes = []
    for axis in range(3):
        classes = np.array([len(np.unique(plane)) for plane in np.moveaxis(label, axis, 0)])
        best = np.flatnonzero(classes == classes.max())
        planes.append(int(best[best.size // 2]))
    return planes


def _caption(outcome: OrganOutcome, volume: Volume) -> str:
    if outcome.reason:
        return f"no {outcome.organ}: {outcome.reason}"
    ml = outcome.voxels * float(np.prod(volume.info.spacing_mm)) / 1000.0
    return f"{outcome.organ}: {ml:.0f} ml{', given before' if outcome.kept else ''}"
