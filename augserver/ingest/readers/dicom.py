"""Stack the slices of a DICOM series, or refuse them: whether they make a volume is decided by their positions alone.

Slices are named in errors by number and place along the normal, never by file name: those may name the patient.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from augserver.errors import VolumeError
from augserver.geometry import Affine, affine_from_itk
from augserver.ingest.readers.dicom_header import DicomSlice
from augserver.ingest.readers.dicom_notes import header_notes, padding_note
from augserver.ingest.readers.dicom_pixels import read_planes
from augserver.ingest.scan import Scan, geometry_of

MIN_SLICES = 3  # of two, nobody can tell the slice distance from a gap
_SAME_PLACE_MM = 1e-3
# How far a slice may lie off the even grid. Headers round positions to 0.1 mm, which moves a slice and the ends of the grid by 0.05 mm per
# axis. Where a slice is missing, one gap is twice the others, and slices lie a third (of four) to half of the distance off.
_MAX_OFF_MM = 0.15
_MAX_OFF_THIN = 0.3  # of the slice distance, where that is less
_MAX_OFF_SHORT = 0.15  # the same, in a short stack
_SHORT = 6  # slices
_MAX_GAP = 1.5  # of the mean of the other gaps
_MAX_OFF_THICK = 0.02  # of the slice distance, where that is more
_MAX_TURN = 1e-3  # between direction cosines of slices: 0.5 mm over 500 mm
_MAX_SKEW = 3e-3  # of the two axes of a slice: cosines rounded to three digits


class Stack(NamedTuple):
    """Slices in the order of their positions, and the grid they make (axes slice, row, column)."""

    ordered: tuple[DicomSlice, ...]
    affine: Affine


def read_series(slices: Sequence[DicomSlice], *, name: str, modality: str, notes: Sequence[str] = ()) -> Scan:
    """Read a series.

    Args:
        slices: in any order.
        name: for errors.
        modality: "ct" or "mr": what the user says this is.
        notes: what is known of the series already.
    Returns:
        One channel; the affine is sheared if the gantry was tilted. Every slice is rescaled by its own slope and intercept.
    Raises:
        VolumeError: not one even stack of single-channel slices, another modality, or pixels that cannot be decoded.
    """
    wanted = {"ct": "CT", "mr": "MR"}[modality]
    found = slices[0].modality
    if found != wanted:
        way_out = f"; pass --modality {found.lower()}" if found in ("CT", "MR") else ", which is not taken"
        raise VolumeError(f"{name}: is of modality {found or 'unknown'}, not {wanted}{way_out}")
    stack = stack_of(slices, name=name)
    more = header_notes(stack.ordered, float(np.linalg.norm(stack.affine[:3, 0])), name=name)
    places = {one: f"{name}: {_place(stack.ordered, index)}" for index, one in enumerate(stack.ordered)}
    planes = list(read_planes(stack.ordered, what=places.__getitem__))
    more += padding_note(stack.ordered, planes)
    voxels: NDArray[Any] = np.stack(planes)
    del planes
    if voxels.dtype == np.float64:  # of int32 and float32 slices
        voxels = voxels.astype(np.float32)
    return Scan(voxels=voxels[None], affine=stack.affine, format="dicom", notes=(*notes, *more))


def stack_of(slices: Sequence[DicomSlice], *, name: str) -> Stack:
    """Sort slices along their normal and check that they are one even stack.

    Raises:
        VolumeError: as read_series, by geometry; the message names the slice.
    """
    _check_kind(slices, name)
    axes = _axes_of(slices[0])
    heights = heights_of(slices, slices[0])
    ordered = tuple(slices[index] for index in sorted(range(len(slices)), key=lambda index: (heights[index], slices[index].instance)))
    _check_alike(ordered, name)
    step = _slice_step(ordered, name)
    row_mm, column_mm = ordered[0].pixel_spacing  # DICOM: between rows (y) first
    distance = float(np.linalg.norm(step))
    direction = np.column_stack([axes[0], axes[1], step / distance])
    with geometry_of(name):
        return Stack(ordered, affine_from_itk(ordered[0].origin, (column_mm, row_mm, distance), direction.ravel().tolist()))


def is_one_stack(slices: Sequence[DicomSlice]) -> bool:
    """Whether `stack_of` takes them."""
    try:
        stack_of(slices, name="")
    except VolumeError:
        return False
    return True


def heights_of(slices: Sequence[DicomSlice], first: DicomSlice) -> NDArray[np.float64]:
    """Positions of slices in mm along the normal of `first`."""
    axes = _axes_of(first)
    heights: NDArray[np.float64] = np.array([one.origin for one in slices]) @ np.cross(axes[0], axes[1])
    return heights


def _axes_of(one: DicomSlice) -> NDArray[np.float64]:
    """Unit vectors along row and column, at a right angle: headers round them, and what is off is shared between both."""
    row, column = (axis / np.linalg.norm(axis) for axis in np.reshape(one.orientation, (2, 3)))
    half = np.dot(row, column) / 2
    row, column = row - half * column, column - half * row
    return np.array([row / np.linalg.norm(row), column / np.linalg.norm(column)])


def _check_kind(slices: Sequence[DicomSlice], name: str) -> None:
    first = slices[0]
    if first.photometric == "MONOCHROME1":
        raise VolumeError(
            f"{name}: its slices are MONOCHROME1, which some readers invert and others do not (SimpleITK does, pydicom does not); "
            "write the series again as MONOCHROME2"
        )
    if first.components != 1 or first.photometric != "MONOCHROME2":
        raise VolumeError(
            f"{name}: its slices are {first.photometric or 'of unknown kind'} with {first.components} values per voxel, "
            "must be MONOCHROME2 with one"
        )
    if first.is_of_type("MOSAIC"):
        raise VolumeError(f"{name}: its files are mosaics of many slices each; convert the series to NIfTI, for example with dcm2niix")
    unplaced = [one for one in slices if not one.placed]
    if unplaced:
        raise VolumeError(
            f"{name}: {len(unplaced)} of {len(slices)} slices (instance {unplaced[0].instance} first) carry no position, orientation or "
            "pixel spacing (ImagePositionPatient, ImageOrientationPatient, PixelSpacing): captures or scouts, not a volume; leave them "
            "out, or export the series again with those"
        )
    axes = np.reshape(first.orientation, (2, 3))
    if not np.allclose(axes @ axes.T, np.eye(2), atol=_MAX_SKEW):
        raise VolumeError(f"{name}: the orientation of its slices is not two unit vectors at a right angle; correct the header")
    if len(slices) < MIN_SLICES:
        raise VolumeError(
            f"{name}: has {len(slices)} slice(s), too few for a volume: at least {MIN_SLICES} are needed to tell the slice distance "
            "from a gap; add the missing slices, or leave the series out"
        )


def _check_alike(ordered: Sequence[DicomSlice], name: str) -> None:
    first = ordered[0]
    turned = np.abs(np.subtract([one.orientation for one in ordered], first.orientation)).max(axis=1) > _MAX_TURN
    scaled = np.abs(np.divide([one.pixel_spacing for one in ordered], first.pixel_spacing) - 1).max(axis=1) > 1e-3
    for index, one in enumerate(ordered):
        differ = ""
        if (one.rows, one.columns) != (first.rows, first.columns):
            differ = f"number of pixels, {one.rows} x {one.columns} and {first.rows} x {first.columns}"
        elif (one.photometric, one.components) != (first.photometric, first.components):
            differ = f"kind of pixels, {one.photometric} and {first.photometric}"
        elif turned[index]:
            differ = "orientation"
        elif scaled[index]:
            differ = "pixel spacing"
        if differ:
            raise VolumeError(f"{name}: {_place(ordered, index)} and {_place(ordered, 0)} differ in {differ}; part the series into stacks")


def _slice_step(ordered: Sequence[DicomSlice], name: str) -> NDArray[np.float64]:
    """The vector from one slice to the next, from the first and the last; every slice must lie on that line, evenly within rounding."""
    heights = heights_of(ordered, ordered[0])
    gaps = np.diff(heights)
    if gaps.min() <= _SAME_PLACE_MM:
        at = int(gaps.argmin())
        raise VolumeError(
            f"{name}: {_place(ordered, at)} and {_place(ordered, at + 1)} lie in the same place: not a volume, "
            "or several in one series; part the series by time or echo"
        )
    origins = np.array([one.origin for one in ordered])
    step: NDArray[np.float64] = (origins[-1] - origins[0]) / (len(ordered) - 1)
    off = origins - origins[0] - np.arange(len(ordered))[:, None] * step
    distance = (heights[-1] - heights[0]) / (len(ordered) - 1)
    above = np.abs(heights - heights[0] - np.arange(len(ordered)) * distance)
    thin = _MAX_OFF_SHORT if len(ordered) < _SHORT else _MAX_OFF_THIN
    is_even = above.max() <= max(min(_MAX_OFF_MM, thin * distance), _MAX_OFF_THICK * distance)
    if not is_even or gaps.max() > _MAX_GAP * (gaps.sum() - gaps.max()) / (len(gaps) - 1) + _SAME_PLACE_MM:
        usual = float(np.median(gaps))
        worst = int(np.abs(gaps - usual).argmax())
        raise VolumeError(
            f"{name}: unevenly spaced, {gaps.min():.3f} to {gaps.max():.3f} mm: between {_place(ordered, worst)} and "
            f"{_place(ordered, worst + 1)} are {gaps[worst]:.3f} mm, usual are {usual:.3f}: a slice is missing, or there are several "
            "stacks; complete or part the series"
        )
    sideways = np.linalg.norm(off, axis=1)
    if sideways.max() > max(_MAX_OFF_MM, _MAX_OFF_THICK * distance):
        raise VolumeError(
            f"{name}: unevenly spaced: {_place(ordered, int(sideways.argmax()))} lies {sideways.max():.3f} mm off the line of the others; "
            "part the series into stacks"
        )
    return step


def _place(ordered: Sequence[DicomSlice], index: int) -> str:
    """A slice, named so that a person finds it and nobody learns whose it is."""
    one = ordered[index]
    return f"slice {index + 1} of {len(ordered)} (instance {one.instance}, at {heights_of([one], one)[0]:.2f} mm)"
