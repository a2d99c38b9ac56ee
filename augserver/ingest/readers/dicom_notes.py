"""What the headers of a stack say against its positions or against each other: told, or refused where voxels would be wrong."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from augserver.errors import VolumeError
from augserver.ingest.readers.dicom_header import DicomSlice

_DISTANCE_SLACK = 0.05  # of the slice distance: headers round SpacingBetweenSlices to tenths
_USUAL_THICKNESS = (0.5, 3.0)  # of the slice distance: MR leaves gaps, CT overlaps


def header_notes(slices: Sequence[DicomSlice], distance_mm: float, *, name: str) -> tuple[str, ...]:
    """Notes for the report.

    Args:
        slices: of one stack.
        distance_mm: from one to the next, by their positions.
        name: for errors.
    Raises:
        VolumeError: some slices carry a rescale slope and intercept and others none.
    """
    notes = []
    bare = [one for one in slices if one.rescale is None and not one.by_table]
    if bare and len(bare) < len(slices):
        raise VolumeError(
            f"{name}: {len(bare)} of {len(slices)} slices (instance {bare[0].instance} first) carry no RescaleSlope and RescaleIntercept, "
            "so their values may be in another unit than those of the others; correct the headers"
        )
    modality = slices[0].modality
    if bare and modality == "CT":
        notes.append("no RescaleSlope and RescaleIntercept, which a CT must have: stored values are taken, which may not be HU")
    classes = {one.class_modality for one in slices} - {"", modality}
    if classes:
        notes.append(f"the SOP class says {', '.join(classes)}, Modality {modality}: Modality is taken")
    units = sorted({one.unit for one in slices} - {""})
    if len(units) > 1 or (modality == "CT" and units not in ([], ["HU"])):
        notes.append(f"RescaleType is {', '.join(units)}" + (", not HU" if modality == "CT" else ""))
    declared = {one.distance_mm for one in slices} - {0.0}
    if any(abs(each - distance_mm) > _DISTANCE_SLACK * distance_mm for each in declared):
        said = " to ".join(f"{each:g}" for each in sorted({min(declared), max(declared)}))
        notes.append(f"SpacingBetweenSlices says {said} mm, positions {distance_mm:.3f} mm: positions are taken")
    thick = {one.thickness_mm for one in slices}
    least, most = (each * distance_mm for each in _USUAL_THICKNESS)
    if len(thick) > 1:
        notes.append(f"SliceThickness varies, {min(thick):g} to {max(thick):g} mm")
    elif min(thick) > 0 and not least <= min(thick) <= most:
        notes.append(f"slices are {min(thick):g} mm thick by SliceThickness and {distance_mm:.3f} mm apart by their positions")
    kernels = {one.traits.get("ConvolutionKernel", "") for one in slices}
    if len(kernels) > 1:
        notes.append(f"its slices are of {len(kernels)} convolution kernels")
    return tuple(notes)


def padding_note(slices: Sequence[DicomSlice], planes: Sequence[NDArray[Any]]) -> tuple[str, ...]:
    """A note if planes have voxels that their headers call padding: those keep their value, rescaled as all others are."""
    found = 0
    values: set[float] = set()
    for one, plane in zip(slices, planes, strict=True):
        if one.padding is not None and not one.by_table:
            slope, intercept = one.rescale or (1.0, 0.0)
            low, high = sorted(np.float32(each * slope + intercept) for each in one.padding)
            count = int(np.count_nonzero((plane >= low) & (plane <= high)))
            values |= {float(low), float(high)} if count else set()
            found += count
    if not found:
        return ()
    said = " to ".join(f"{each:g}" for each in sorted({min(values), max(values)}))
    return (f"{found} voxels are padding (PixelPaddingValue) and keep their value, {said}",)
