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
from augserver.ingest.readers.dicom_pixels import read_pixels
from augserver.ingest.scan import Scan, geometry_of

_MIN_SLICES = 3  # of two, nobody can tell the slice distance from a gap
_MAX_UNEVEN = 0.02  # of the slice distance: headers are rounded to 0.001 mm, a missing slice is 1
_MAX_TURN = 1e-3  # between direction cosines of slices: 0.5 mm over 500 mm


class Stack(NamedTuple):
    """Slices in the order of their positions, and the grid they make (axes slice, row, column)."""

    ordered: tuple[DicomSlice, ...]
    affine: Affine


def read_series(slices: Sequence[DicomSlice], *, name: str, modality: str) -> Scan:
    """Read a series.

    Args:
        slices: in any order.
        name: for errors.
        modality: "ct" or "mr": what the user says this is.
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
    planes = [
        read_pixels(one.file, rows=one.rows, columns=one.columns, what=f"{name}: {_place(stack.ordered, index)}")
        for index, one in enumerate(stack.ordered)
    ]
    voxels: NDArray[Any] = np.stack(planes)
    if voxels.dtype == np.float64:  # of int32 and float32 slices
        voxels = voxels.astype(np.float32)
    return Scan(voxels=voxels[None], affine=stack.affine, format="dicom")


def stack_of(slices: Sequence[DicomSlice], *, name: str) -> Stack:
    """Sort slices along their normal and check that they are one even stack.

    Raises:
        VolumeError: as read_series, by geometry; the message names the slice.
    """
    _check_kind(slices, name)
    columns = np.reshape(slices[0].orientation, (2, 3))
    normal = np.cross(columns[0], columns[1])
    ordered = tuple(sorted(slices, key=lambda one: (float(np.dot(normal, one.origin)), one.instance)))
    _check_alike(ordered, name)
    step = _slice_step(ordered, normal, name)
    row_mm, column_mm = ordered[0].pixel_spacing  # DICOM: between rows (y) first
    distance = float(np.linalg.norm(step))
    direction = np.column_stack([columns[0], columns[1], step / distance])
    with geometry_of(name):
        return Stack(ordered, affine_from_itk(ordered[0].origin, (column_mm, row_mm, distance), direction.ravel().tolist()))


def _check_kind(slices: Sequence[DicomSlice], name: str) -> None:
    first = slices[0]
    if first.frames > 1:
        raise VolumeError(f"{name}: is a multi-frame (enhanced) DICOM, which is not taken yet; convert it to NIfTI first")
    if first.components != 1 or first.photometric != "MONOCHROME2":
        raise VolumeError(
            f"{name}: its slices are {first.photometric or 'of unknown kind'} with {first.components} values per voxel, "
            "must be MONOCHROME2 with one"
        )
    unplaced = [one for one in slices if not any(one.orientation) or not min(one.pixel_spacing) > 0]
    if unplaced:
        raise VolumeError(
            f"{name}: {len(unplaced)} of {len(slices)} slices (instance {unplaced[0].instance} first) carry no position, orientation or "
            "pixel spacing: captures or scouts, not a volume; leave them out"
        )
    axes = np.reshape(first.orientation, (2, 3))
    if not np.allclose(axes @ axes.T, np.eye(2), atol=_MAX_TURN):
        raise VolumeError(f"{name}: the orientation of its slices is not two unit vectors at a right angle; correct the header")
    if len(slices) < _MIN_SLICES:
        raise VolumeError(
            f"{name}: has {len(slices)} slice(s), too few for a volume: at least {_MIN_SLICES} are needed to tell the slice distance "
            "from a gap; add the missing slices, or leave the series out"
        )


def _check_alike(ordered: Sequence[DicomSlice], name: str) -> None:
    first = ordered[0]
    for index, one in enumerate(ordered):
        where = f"{name}: {_place(ordered, index)}"
        kinds = [(each.rows, each.columns, each.photometric, each.components, each.frames) for each in (first, one)]
        if kinds[0] != kinds[1]:
            raise VolumeError(
                f"{where} has {one.rows} x {one.columns} pixels, {_place(ordered, 0)} {first.rows} x {first.columns}, "
                "or they differ in kind; part the series"
            )
        if not np.allclose(one.orientation, first.orientation, atol=_MAX_TURN):
            raise VolumeError(f"{where} and {_place(ordered, 0)} differ in orientation; part the series into stacks")
        if not np.allclose(one.pixel_spacing, first.pixel_spacing, rtol=1e-3):
            raise VolumeError(f"{where} and {_place(ordered, 0)} differ in pixel spacing; part the series into stacks")


def _slice_step(ordered: Sequence[DicomSlice], normal: NDArray[np.float64], name: str) -> NDArray[np.float64]:
    """The vector from one slice to the next, the same for all within rounding."""
    origins = np.array([one.origin for one in ordered])
    gaps = np.diff(origins @ normal)
    if gaps.min() <= 1e-3:
        at = int(gaps.argmin())
        raise VolumeError(
            f"{name}: {_place(ordered, at)} and {_place(ordered, at + 1)} lie in the same place: not a volume, "
            "or several in one series; part the series by time or echo"
        )
    usual = float(np.median(gaps))
    worst = int(np.abs(gaps - usual).argmax())
    if abs(gaps[worst] - usual) > max(_MAX_UNEVEN * usual, 0.005):
        raise VolumeError(
            f"{name}: unevenly spaced, {gaps.min():.3f} to {gaps.max():.3f} mm: between {_place(ordered, worst)} and "
            f"{_place(ordered, worst + 1)} are {gaps[worst]:.3f} mm, usual are {usual:.3f}: a slice is missing, or there are several "
            "stacks; complete or part the series"
        )
    step: NDArray[np.float64] = (origins[-1] - origins[0]) / (len(ordered) - 1)
    off = np.linalg.norm(origins - origins[0] - np.arange(len(ordered))[:, None] * step, axis=1)
    if off.max() > max(_MAX_UNEVEN * float(np.linalg.norm(step)), 0.005):
        raise VolumeError(
            f"{name}: unevenly spaced: {_place(ordered, int(off.argmax()))} lies {off.max():.3f} mm off the line of the others; "
            "part the series into stacks"
        )
    return step


def _place(ordered: Sequence[DicomSlice], index: int) -> str:
    """A slice, named so that a person finds it and nobody learns whose it is."""
    one = ordered[index]
    columns = np.reshape(one.orientation, (2, 3))
    height = float(np.dot(np.cross(columns[0], columns[1]), one.origin))
    return f"slice {index + 1} of {len(ordered)} (instance {one.instance}, at {height:.2f} mm)"
