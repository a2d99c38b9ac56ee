"""Read DICOM series: GDCM decodes the slices, we decide whether they make a volume.

GDCM sorts what it is given and takes the spacing from two slices; a missing slice, a tilted gantry or two stacks in one series would
come out as a plausible, wrong grid. So every slice's position and orientation are read first (about 1 ms a file) and compared.
No patient tag is read, and none leaves this module.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from augserver.errors import VolumeError
from augserver.geometry import affine_from_itk
from augserver.ingest.scan import Scan, geometry_of

_PREAMBLE = 128
_SLICE_STORAGE = ("1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.4")  # CT and MR images; enhanced ones begin the same way
_MAX_UNEVEN = 0.02  # of the slice distance: headers are rounded to 0.001 mm, a missing slice is 1
_MAX_TURN = 1e-3  # between direction cosines of slices: 0.5 mm over 500 mm


@dataclass(frozen=True, slots=True, kw_only=True)
class DicomSlice:
    """What the header of one slice says; positions in LPS mm."""

    file: Path
    series: str
    number: int
    modality: str
    size: tuple[int, ...]
    pixel_id: int
    components: int
    origin: tuple[float, ...]
    orientation: tuple[float, ...]
    pixel_spacing: tuple[float, ...]
    photometric: str
    frames: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DicomFolder:
    """The DICOM files of one folder.

    Attributes:
        series: slices by series, in the order of series number and then UID.
        broken: names of files that may be slices of any series but cannot be read.
        other: how many DICOM files are no images (structure sets, reports, directories).
    """

    series: tuple[tuple[DicomSlice, ...], ...]
    broken: tuple[str, ...]
    other: int


def is_dicom(path: Path) -> bool:
    """Whether a file has DICOM's magic, or at least its suffix."""
    if path.suffix.lower() == ".dcm":
        return True
    with path.open("rb") as file:
        file.seek(_PREAMBLE)
        return file.read(4) == b"DICM"


def sort_series(files: Sequence[Path]) -> DicomFolder:
    """Read the headers of the DICOM files of one folder and part them by series."""
    slices: dict[str, list[DicomSlice]] = {}
    broken: list[str] = []
    other = 0
    for file in files:
        try:
            found = _read_slice(file)
        except (RuntimeError, ValueError):
            if _may_be_slice(file):
                broken.append(file.name)
            else:
                other += 1
            continue
        slices.setdefault(found.series, []).append(found)
    ordered = sorted(slices.values(), key=lambda group: (group[0].number, group[0].series))
    return DicomFolder(series=tuple(tuple(group) for group in ordered), broken=tuple(broken), other=other)


def read_series(slices: Sequence[DicomSlice], *, name: str, modality: str) -> Scan:
    """Stack the slices of one series along their normal.

    Args:
        slices: in any order.
        name: for errors.
        modality: "ct" or "mr": what the user says this is.
    Raises:
        VolumeError: not one even, upright stack of single-channel slices, another modality, or voxels that cannot be decoded.
    """
    _check_alike(slices, name, modality)
    columns = np.reshape(slices[0].orientation, (2, 3))
    normal = np.cross(columns[0], columns[1])
    ordered = sorted(slices, key=lambda one: float(np.dot(normal, one.origin)))
    step = _slice_step(ordered, normal, name)
    row_mm, column_mm = slices[0].pixel_spacing  # DICOM: between rows (y) first
    distance = float(np.linalg.norm(step))
    direction = np.column_stack([columns[0], columns[1], step / distance])
    with geometry_of(name):
        affine = affine_from_itk(ordered[0].origin, (column_mm, row_mm, distance), direction.ravel().tolist())
    return Scan(voxels=_read_voxels(ordered, name), affine=affine, format="dicom")


def _check_alike(slices: Sequence[DicomSlice], name: str, modality: str) -> None:
    first = slices[0]
    wanted = {"ct": "CT", "mr": "MR"}[modality]
    if first.modality != wanted:
        way_out = f"; pass --modality {first.modality.lower()}" if first.modality in ("CT", "MR") else ", which is not taken"
        raise VolumeError(f"{name}: is of modality {first.modality or 'unknown'}, not {wanted}{way_out}")
    if first.frames > 1:
        raise VolumeError(f"{name}: is a multi-frame (enhanced) DICOM, which is not taken yet; convert it to NIfTI first")
    if first.components != 1 or first.photometric != "MONOCHROME2":
        raise VolumeError(
            f"{name}: its slices are {first.photometric} with {first.components} values per voxel, must be MONOCHROME2 with one"
        )
    if not any(first.orientation):
        raise VolumeError(
            f"{name}: its slices carry no position, orientation or pixel spacing: captures or scouts, not a volume; leave them out"
        )
    if len(slices) < 2:
        raise VolumeError(f"{name}: has one slice, so the distance of slices is unknown; a volume needs at least two")
    for one in slices:
        if (one.size, one.photometric, one.components, one.frames) != (first.size, first.photometric, first.components, first.frames):
            raise VolumeError(
                f"{name}: slices differ in size or kind: {first.file.name} has {first.size}, {one.file.name} {one.size}; part the series"
            )
        if not np.allclose(one.orientation, first.orientation, atol=_MAX_TURN) or not np.allclose(
            one.pixel_spacing, first.pixel_spacing, rtol=1e-3
        ):
            raise VolumeError(
                f"{name}: slices {first.file.name} and {one.file.name} differ in orientation or pixel spacing; part the series into stacks"
            )


def _slice_step(ordered: Sequence[DicomSlice], normal: NDArray[np.float64], name: str) -> NDArray[np.float64]:
    """The vector from one slice to the next, the same for all within rounding."""
    origins = np.array([one.origin for one in ordered])
    heights = origins @ normal
    gaps = np.diff(heights)
    if gaps.min() <= 1e-3:
        at = int(gaps.argmin())
        raise VolumeError(
            f"{name}: {ordered[at].file.name} and {ordered[at + 1].file.name} lie in the same place: not a volume, "
            "or several in one series; part the series by time or echo"
        )
    step: NDArray[np.float64] = (origins[-1] - origins[0]) / (len(ordered) - 1)
    even = origins[0] + np.arange(len(ordered))[:, None] * step
    off = np.linalg.norm(origins - even, axis=1)
    if off.max() > max(_MAX_UNEVEN * float(np.linalg.norm(step)), 0.005):
        raise VolumeError(
            f"{name}: the slices are unevenly spaced, {gaps.min():.3f} to {gaps.max():.3f} mm apart, "
            f"{off.max():.3f} mm off an even stack: a slice is missing, or there are several stacks; complete or part the series"
        )
    return step


def _read_voxels(ordered: Sequence[DicomSlice], name: str) -> NDArray[np.generic]:
    reader = sitk.ImageSeriesReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileNames([str(one.file) for one in ordered])
    if len({one.pixel_id for one in ordered}) > 1:
        # Rescale slopes differ by slice: in the first slice's integer type the others would be rounded.
        reader.SetOutputPixelType(sitk.sitkFloat32)
    warned = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.SetGlobalWarningDisplay(False)  # it prints of uneven slices at 1e-4 of their distance; we have checked them
    try:
        voxels: NDArray[np.generic] = sitk.GetArrayFromImage(reader.Execute())
    except RuntimeError as error:
        raise VolumeError(f"{name}: GDCM cannot decode its slices: {str(error).strip().splitlines()[-1]}") from error
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(warned)
    return voxels


def _read_slice(file: Path) -> DicomSlice:
    reader = sitk.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileName(str(file))
    reader.ReadImageInformation()

    def text(tag: str) -> str:
        return reader.GetMetaData(tag).strip(" \0") if reader.HasMetaDataKey(tag) else ""

    def numbers(tag: str, count: int) -> tuple[float, ...]:
        values = tuple(float(word) for word in text(tag).split("\\") if word.strip())
        if len(values) != count or not np.isfinite(values).all():
            raise ValueError(tag)
        return values

    try:
        origin, orientation, spacing = numbers("0020|0032", 3), numbers("0020|0037", 6), numbers("0028|0030", 2)
    except ValueError:
        # Secondary captures and scouts without a plane: a series of their own, refused as what it is.
        origin, orientation, spacing = (0.0,) * 3, (0.0,) * 6, (0.0,) * 2
    series_number = text("0020|0011")
    return DicomSlice(
        file=file,
        series=text("0020|000e"),
        number=int(series_number) if series_number.lstrip("+-").isdigit() else 0,
        modality=text("0008|0060"),
        size=tuple(reader.GetSize()),
        pixel_id=reader.GetPixelIDValue(),
        components=reader.GetNumberOfComponents(),
        origin=origin,
        orientation=orientation,
        pixel_spacing=spacing,
        photometric=text("0028|0004"),
        frames=reader.GetSize()[2] if len(reader.GetSize()) > 2 else 1,
    )


def _may_be_slice(file: Path) -> bool:
    """Whether an unreadable file's meta header, always explicit little endian, calls it a CT or MR image, or says nothing."""
    with file.open("rb") as data:
        meta = data.read(1024)
    at = meta.find(b"\x02\x00\x02\x00UI")
    if at < 0 or meta[_PREAMBLE : _PREAMBLE + 4] != b"DICM":
        return True
    length = int.from_bytes(meta[at + 6 : at + 8], "little")
    return meta[at + 8 : at + 8 + length].decode("latin-1").startswith(_SLICE_STORAGE)
