"""Read the headers of DICOM files and part them by series. No voxel is decoded here.

No patient tag leaves this module, but for identifiers that are compared with names of files: those must not reach the dataset.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.multival import MultiValue
from pydicom.valuerep import PersonName

from augserver.errors import VolumeError
from augserver.ingest.patient_names import DATES, NAMES, NUMBERS, Identifiers, identifiers_of

_PREAMBLE = 128
_SLICE_STORAGE = ("1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.4")  # CT and MR images; enhanced ones begin the same way
_CHARACTER_SETS = ("utf-8", "gb18030", "shift_jis", "euc_kr", "big5")  # of names in files that do not say which
_WANTED = (
    "SOPClassUID", "SeriesInstanceUID", "SeriesNumber", "InstanceNumber", "Modality", "Rows", "Columns", "SamplesPerPixel",
    "NumberOfFrames", "PhotometricInterpretation", "BitsAllocated", "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing",
)  # fmt: skip
_ONE_AT_A_TIME = threading.Lock()  # pydicom's parser holds the GIL anyway, and warning filters belong to the process


@dataclass(frozen=True, slots=True, kw_only=True)
class DicomSlice:
    """What the header of one slice says; positions in LPS mm.

    Attributes:
        file: its file; its name is never shown, because it may name the patient.
        instance: InstanceNumber, 0 if absent.
        origin, orientation, pixel_spacing: zeros where the header has none (a capture or scout).
        identifiers: of the patient, to be compared with names and never shown.
    """

    file: Path
    series: str
    number: int
    instance: int
    modality: str
    rows: int
    columns: int
    components: int
    frames: int
    photometric: str
    origin: tuple[float, ...]
    orientation: tuple[float, ...]
    pixel_spacing: tuple[float, ...]
    identifiers: Identifiers = field(default=Identifiers(), repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class DicomFolder:
    """The DICOM files of one folder.

    Attributes:
        series: slices by series, in the order of series number and then UID.
        broken: places, by name and counted from 1, of files that may be slices of any series but cannot be read.
        other: how many DICOM files are no images (structure sets, reports, directories).
    """

    series: tuple[tuple[DicomSlice, ...], ...]
    broken: tuple[int, ...]
    other: int


def is_dicom(path: Path) -> bool:
    """Whether a file has DICOM's magic, or at least its suffix."""
    if path.suffix.lower() == ".dcm":
        return True
    with path.open("rb") as file:
        file.seek(_PREAMBLE)
        return file.read(4) == b"DICM"


def sort_series(files: Sequence[Path]) -> DicomFolder:
    """Read the headers of the DICOM files of one folder and part them by SeriesInstanceUID."""
    slices: dict[str, list[DicomSlice]] = {}
    broken: list[int] = []
    other = 0
    for place, file in enumerate(sorted(files), 1):
        try:
            found = _read_slice(file)
        except VolumeError:
            broken.append(place)
            continue
        if found is None:
            other += 1
        else:
            slices.setdefault(found.series, []).append(found)
    ordered = sorted(slices.values(), key=lambda group: (group[0].number, group[0].series))
    return DicomFolder(series=tuple(tuple(group) for group in ordered), broken=tuple(broken), other=other)


@contextmanager
def hostile_dicom(what: str) -> Iterator[None]:
    """Turn whatever pydicom raises, or warns of, into an error that names the place and never the content.

    Raises:
        VolumeError: in place of any exception. pydicom raises nearly every built-in one on damaged files.
    """
    with _ONE_AT_A_TIME, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        except VolumeError:
            raise
        except Exception as error:  # its text may quote the header, so only its kind is told
            raise VolumeError(f"{what}: cannot be read ({type(error).__name__}): truncated or corrupt; copy it again") from error


def _read_slice(file: Path) -> DicomSlice | None:
    """The header of one slice; None if the file is DICOM and no image.

    Raises:
        VolumeError: the file cannot be read.
    """
    with hostile_dicom("a DICOM file"):
        header = pydicom.dcmread(file, specific_tags=[*_WANTED, *NAMES, *NUMBERS, *DATES, "PixelData"], defer_size=1 << 10)
        if "PixelData" not in header:
            kind = str(header.get("SOPClassUID") or header.file_meta.get("MediaStorageSOPClassUID") or "")
            if "Rows" in header or not kind or kind.startswith(_SLICE_STORAGE):
                raise VolumeError("a DICOM file: it ought to have pixels and there are none; copy it again")
            return None
        return _slice_of(header, file)


def _slice_of(header: Any, file: Path) -> DicomSlice:
    def text(keyword: str) -> str:
        return str(header.get(keyword) or "").strip(" \0")

    def whole(keyword: str, default: int) -> int:
        value = header.get(keyword)
        return default if value is None or value == "" else int(value)

    def numbers(keyword: str, count: int) -> tuple[float, ...]:
        try:
            values = tuple(float(value) for value in header.get(keyword) or ())
        except (TypeError, ValueError):
            return (0.0,) * count
        return values if len(values) == count and np.isfinite(values).all() else (0.0,) * count

    return DicomSlice(
        file=file,
        series=text("SeriesInstanceUID"),
        number=whole("SeriesNumber", 0),
        instance=whole("InstanceNumber", 0),
        modality=text("Modality"),
        rows=whole("Rows", 0),
        columns=whole("Columns", 0),
        components=whole("SamplesPerPixel", 1),
        frames=whole("NumberOfFrames", 1),
        photometric=text("PhotometricInterpretation"),
        origin=numbers("ImagePositionPatient", 3),
        orientation=numbers("ImageOrientationPatient", 6),
        pixel_spacing=numbers("PixelSpacing", 2),
        identifiers=identifiers_of(*(tuple(chain.from_iterable(_texts(header, key) for key in keys)) for keys in (NAMES, NUMBERS, DATES))),
    )


def _texts(header: Any, keyword: str) -> list[str]:
    """The values of an element; a person name whose character set is not said, in each that it may be."""
    value = header.get(keyword)
    values = [] if value is None else list(value) if isinstance(value, MultiValue) else [value]
    texts = [str(each) for each in values]
    if "SpecificCharacterSet" not in header:
        raw = [each.original_string for each in values if isinstance(each, PersonName) and isinstance(each.original_string, bytes)]
        texts += [each.decode(name, "ignore") for each in raw if not each.isascii() for name in _CHARACTER_SETS]
    return [text for text in texts if text]
