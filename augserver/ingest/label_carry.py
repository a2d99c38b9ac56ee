"""Bring the label of a scan onto the grid of its volume, and report what was lost."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from augserver.errors import VolumeError
from augserver.geometry import Affine, to_canonical
from augserver.ingest.config import IngestConfig
from augserver.ingest.label_place import place_label
from augserver.ingest.label_source import LabelGrid, LabelSource
from augserver.ingest.readers.nifti_affine import UNPLACED
from augserver.ingest.resample import carry_label, cover_share

_MANY_CLASSES = 160  # TotalSegmentator's and FreeSurfer's label maps have about 120; an 8-bit image has more
_SAMPLES = 1 << 17


class CarriedLabel(NamedTuple):
    """A label on the grid of its volume.

    Attributes:
        ids: uint8 (Z, Y, X).
        notes: how it was read and carried.
        notices: what looks wrong about it.
    """

    ids: NDArray[np.uint8]
    notes: tuple[str, ...]
    notices: tuple[str, ...]


def carry_onto(
    label: LabelSource,
    image: tuple[tuple[int, int, int], Affine],
    target: tuple[tuple[int, ...], Affine],
    config: IngestConfig,
    *,
    name: str,
) -> CarriedLabel:
    """Read a label and carry it to the grid of its volume.

    Args:
        image: shape and affine of the scan as its file has it.
        target: of the volume.
        name: for errors.
    Raises:
        VolumeError: the label cannot be trusted, lies elsewhere, or covers too little of the image.
    """
    ids, affine, notes, notices, cropped = _read(label, config)
    shape, image_affine = image
    affine, same, told = place_label(ids.shape, affine, shape, image_affine, by_voxel=config.labels_by_voxel, name=name)
    notes = told + notes
    if not same:
        cover = _checked_cover(cover_share(shape, image_affine, ids.shape, affine), 0.0 if cropped else config.min_label_cover, name)
        beyond = ": the rest is background, as it was cropped to its segments" if cropped and cover < config.min_label_cover else ""
        notes += (f"label carried over from its own grid, which covers {cover:.1%} of the image{beyond}",)
    (depth, height, width), target_affine = target
    # along one direction of the axes, so that which of two equally near voxels is taken does not depend on how the file turns them
    carried = carry_label(*to_canonical(ids, affine), (depth, height, width), target_affine)
    if not same or carried.shape != ids.shape:
        lost = sorted(_ids_in(ids) - _ids_in(carried))
        notices += (f"classes {', '.join(map(str, lost))} have voxels in the label, and none in the volume",) if lost else ()
    step = max(1, round((carried.size / _SAMPLES) ** (1 / 3)))
    values = len(_ids_in(carried[::step, ::step, ::step]))
    notices += (f"its label has {values} different values: is it an image?",) if values > _MANY_CLASSES else ()
    return CarriedLabel(carried, notes, notices)


def _read(label: LabelSource, config: IngestConfig) -> LabelGrid:
    """Read it; where headers of labels are not believed, one without any geometry will do."""
    try:
        return label.read(overlap=config.overlap, nifti_affine=config.nifti_affine)
    except VolumeError:
        if not config.labels_by_voxel:
            raise
        return label.read(overlap=config.overlap, nifti_affine=UNPLACED)


def _checked_cover(cover: float, least: float, name: str) -> float:
    if cover == 0:
        raise VolumeError(f"{name}: the label does not overlap the image anywhere: they do not belong together, or one has a wrong origin")
    if cover < least:
        covered, needed = math.floor(cover * 1e4) / 100, least * 100  # 94.99 is not shown as 95
        raise VolumeError(
            f"{name}: the label's grid covers {covered:g}% of the image, at least {needed:g}% is needed: beyond it nobody looked; "
            "crop the image to its label, or lower --min-label-cover to count the rest as background"
        )
    return cover


def _ids_in(label: NDArray[np.uint8]) -> set[int]:
    found = np.zeros(256, bool)
    for plane in label:
        found[plane] = True
    return set(np.flatnonzero(found).tolist())
