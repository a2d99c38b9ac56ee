"""Read the header of a DICOM file: one slice, or one per frame. No voxel is decoded here.

No patient tag leaves this module, but for identifiers that are compared with names of files: those must not reach the dataset.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import Dataset
from pydicom.filereader import read_file_meta_info
from pydicom.multival import MultiValue
from pydicom.tag import Tag
from pydicom.uid import UID
from pydicom.valuerep import PersonName

from augserver.errors import VolumeError
from augserver.ingest.patient_names import DATES, NAMES, NUMBERS, Identifiers, identifiers_of
from augserver.ingest.readers.dicom_frames import FUNCTIONAL_GROUPS, frame_headers
from augserver.ingest.readers.dicom_kinds import ENHANCED, Kind, kind_of, modality_of

_PREAMBLE = 128
_CHARACTER_SETS = ("utf-8", "gb18030", "shift_jis", "euc_kr", "big5")  # of names in files that do not say which
TRAITS = (
    "AcquisitionNumber", "TemporalPositionIdentifier", "ConvolutionKernel", "ImageType", "EchoNumbers", "EchoTime", "DiffusionBValue",
    "ComplexImageComponent", "NominalPercentageOfCardiacPhase", "NominalCardiacTriggerDelayTime", "TriggerTime", "InversionTime",
    "RepetitionTime", "FlipAngle", "KVP", "ContrastBolusAgent", "SeriesDescription", "StackID", "AcquisitionDateTime", "AcquisitionTime",
    "SeriesTime", "ContentTime", "SliceThickness",
)  # fmt: skip
"""What may tell the slices of two volumes in one series apart, the surest first."""
_WANTED = (
    "SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "SeriesNumber", "InstanceNumber",
    "Modality", "Rows", "Columns", "SamplesPerPixel", "NumberOfFrames", "PhotometricInterpretation", "BitsAllocated",
    "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SpacingBetweenSlices", "RescaleSlope",
    "RescaleIntercept", "RescaleType", "ModalityLUTSequence", "PixelRepresentation", "PixelPaddingValue", "PixelPaddingRangeLimit",
    *TRAITS, *NAMES, *NUMBERS, *DATES,
)  # fmt: skip
_MAY_BE_WRONG = frozenset(("SeriesNumber", "InstanceNumber", "SpacingBetweenSlices", "RescaleType", "PixelPaddingRangeLimit"))
_TRAITS = frozenset(TRAITS)
_KEYWORDS = {Tag(keyword): keyword for keyword in (*_WANTED, "SpecificCharacterSet")}
_TAGS = [*_KEYWORDS, Tag("PixelData")]
_GROUP_TAGS = [*_KEYWORDS, *map(Tag, FUNCTIONAL_GROUPS)]
_ONE_AT_A_TIME = threading.Lock()  # pydicom's parser holds the GIL anyway, and warning filters belong to the process


@dataclass(frozen=True, slots=True, kw_only=True)
class DicomSlice:
    """What the header says of one slice; positions in LPS mm.

    Attributes:
        file: its file; its name is never shown, because it may name the patient.
        frame: its place in the file, from 0.
        frames: how many the file has.
        series: equal for slices of the same patient, study, modality and series, or folder where that is absent; never shown.
        uid: SOPInstanceUID.
        number, instance: SeriesNumber and InstanceNumber, 0 if absent.
        class_modality: what the SOP class says, "" if nothing.
        placed: the header has an orientation, a pixel spacing and a position.
        origin, orientation, pixel_spacing: zeros where the header has none (a capture or scout).
        distance_mm: SpacingBetweenSlices, 0 if absent.
        rescale: slope and intercept; None where one of them is absent.
        unit: RescaleType, or "" if absent.
        by_table: values are mapped by a ModalityLUTSequence.
        padding: the stored values from and to which voxels are padding; None if the header names none.
        traits: of TRAITS those that it has.
        identifiers: of the patient, to be compared with names and never shown.
    """

    file: Path
    frame: int = 0
    frames: int = 1
    series: str = field(repr=False)
    uid: str
    frame_of_reference: str
    number: int
    instance: int
    modality: str
    class_modality: str
    rows: int
    columns: int
    components: int
    photometric: str
    placed: bool
    origin: tuple[float, ...]
    orientation: tuple[float, ...]
    pixel_spacing: tuple[float, ...]
    distance_mm: float
    rescale: tuple[float, float] | None
    unit: str
    by_table: bool
    padding: tuple[float, float] | None
    traits: Mapping[str, str] = field(hash=False)
    identifiers: Identifiers = field(default=Identifiers(), repr=False)

    @property
    def grid(self) -> tuple[float, ...]:
        """Rows, columns and pixel spacing, to be compared."""
        return self.rows, self.columns, *(round(each, 3) for each in self.pixel_spacing)

    @property
    def thickness_mm(self) -> float:
        """SliceThickness, 0 if absent."""
        try:
            return float(self.traits.get("SliceThickness", 0))
        except ValueError:
            return 0.0

    def is_of_type(self, word: str) -> bool:
        """Whether one of the values of ImageType is this word."""
        return word in self.traits.get("ImageType", "").split("\\")


def is_dicom(path: Path) -> bool:
    """Whether a file has DICOM's magic, or its suffix, or begins as files without the preamble do."""
    if path.suffix.lower() == ".dcm":
        return True
    with path.open("rb") as file:
        start = file.read(_PREAMBLE + 4)
    return start[_PREAMBLE:] == b"DICM" or _begins_without_preamble(start)


def read_header(file: Path) -> tuple[Kind, list[DicomSlice]]:
    """The kind of a file, and its slices: none if it is no scan, one per frame if it has several.

    Raises:
        VolumeError: the file cannot be read, or ought to have pixels and has none; the text names neither file nor patient.
    """
    try:
        with hostile_dicom("a DICOM file"):
            return _read_header(file)
    except VolumeError:
        kind = _registered_kind(file)
        if kind in (None, Kind.SCAN, Kind.CAPTURE):
            raise
        return kind, []  # a damaged report spoils no scan


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


def _read_header(file: Path) -> tuple[Kind, list[DicomSlice]]:
    header = pydicom.dcmread(file, force=True, specific_tags=_TAGS, defer_size=1 << 10)
    sop_class = str(header.get("SOPClassUID") or header.file_meta.get("MediaStorageSOPClassUID") or "")
    kind = kind_of(sop_class)
    if "PixelData" not in header:
        if kind == Kind.SCAN or not sop_class:
            raise VolumeError("a DICOM file: it ought to have pixels and has none; copy it again")
        return kind, []
    if kind in (Kind.DERIVED, Kind.LABEL):
        return kind, []
    if sop_class in ENHANCED or _frames_of(header) > 1:
        groups = pydicom.dcmread(file, force=True, specific_tags=_GROUP_TAGS)
        found = [_slice_of(frame, file, index) for index, frame in enumerate(frame_headers(groups))]
    else:
        found = [_slice_of(header, file, 0)]
    if kind == Kind.CAPTURE and not all(one.placed for one in found):
        return kind, []
    return kind, found


def _frames_of(header: Dataset) -> int:
    return int(header.get("NumberOfFrames") or 1)


def _registered_kind(file: Path) -> Kind | None:
    """The kind of a damaged file, if its first group, which is read alone, names a class of the standard."""
    try:
        sop_class = UID(str(read_file_meta_info(file).get("MediaStorageSOPClassUID") or ""))
    except Exception:  # pydicom raises nearly every built-in one, and a file whose kind is unknown counts as a slice
        return None
    return kind_of(sop_class) if sop_class.name != sop_class else None


def _slice_of(header: Dataset, file: Path, frame: int) -> DicomSlice:
    values = _values(header)

    def text(keyword: str) -> str:
        value = values.get(keyword)
        return "\\".join(map(str, value)) if isinstance(value, MultiValue) else str("" if value is None else value).strip(" \0")

    def whole(keyword: str, default: int) -> int:
        value = values.get(keyword)
        return default if value is None or value == "" else int(value)

    def numbers(keyword: str, count: int) -> tuple[float, ...]:
        value: Any = values.get(keyword)
        try:
            found = tuple(float(each) for each in ([value] if count == 1 else value or ()))
        except (TypeError, ValueError):
            return ()
        return found if len(found) == count and np.isfinite(found).all() else ()

    origin, orientation, spacing = numbers("ImagePositionPatient", 3), numbers("ImageOrientationPatient", 6), numbers("PixelSpacing", 2)
    slope, intercept = numbers("RescaleSlope", 1), numbers("RescaleIntercept", 1)
    if (text("RescaleSlope") and not slope) or (text("RescaleIntercept") and not intercept):
        raise VolumeError("a DICOM file: its rescale slope or intercept is no finite number; correct the header")
    padding = numbers("PixelPaddingValue", 1)
    return DicomSlice(
        file=file,
        frame=frame,
        frames=max(1, _frames_of(header)),
        series="|".join(
            [*(text(keyword) for keyword in ("PatientID", "StudyInstanceUID", "Modality")), text("SeriesInstanceUID") or str(file.parent)]
        ),
        uid=text("SOPInstanceUID"),
        frame_of_reference=text("FrameOfReferenceUID"),
        number=int((numbers("SeriesNumber", 1) or (0,))[0]),
        instance=int((numbers("InstanceNumber", 1) or (0,))[0]),
        modality=text("Modality").upper(),
        class_modality=modality_of(text("SOPClassUID")),
        rows=whole("Rows", 0),
        columns=whole("Columns", 0),
        components=whole("SamplesPerPixel", 1),
        photometric=text("PhotometricInterpretation"),
        placed=bool(origin and any(orientation) and spacing and min(spacing) > 0),
        origin=origin or (0.0,) * 3,
        orientation=orientation or (0.0,) * 6,
        pixel_spacing=spacing or (0.0,) * 2,
        distance_mm=abs((numbers("SpacingBetweenSlices", 1) or (0.0,))[0]),
        rescale=(slope[0], intercept[0]) if slope and intercept else None,
        unit=text("RescaleType"),
        by_table="ModalityLUTSequence" in values,
        padding=(padding[0], (numbers("PixelPaddingRangeLimit", 1) or padding)[0]) if padding else None,
        traits={keyword: said for keyword in TRAITS if keyword in values and (said := text(keyword))},
        identifiers=identifiers_of(*(tuple(chain.from_iterable(_texts(values, key) for key in keys)) for keys in (NAMES, NUMBERS, DATES))),
    )


def _values(header: Dataset) -> dict[str, Any]:
    """The elements that a header has, by keyword, but for the pixels; what only tells slices apart stays as it is in the file.

    One that cannot be understood counts as absent if no voxel depends on it.
    """
    values: dict[str, Any] = {}
    for tag in header.keys():  # noqa: SIM118 - iterating over the header itself would read the pixels
        keyword = _KEYWORDS.get(tag, "")
        if keyword in _TRAITS:  # most of them are never needed, and understanding them takes longer than finding them
            value = header.get_item(tag).value
            values[keyword] = value.decode("latin-1") if isinstance(value, bytes) else value
        elif keyword:
            try:
                values[keyword] = header[tag].value
            except Exception:  # pydicom raises nearly every built-in one
                if keyword not in _MAY_BE_WRONG:
                    raise
    return values


def _begins_without_preamble(start: bytes) -> bool:
    """Whether a file begins with two elements of group 2 or 8 in ascending order, as DICOM files without preamble do."""
    for order in ("little", "big") if start[:1] in (b"\x02", b"\x08", b"\0") else ():
        at = last = 0
        for _ in range(2):
            group, element, length = (int.from_bytes(start[at + shift : at + shift + 2], order) for shift in (0, 2, 6))
            tag = (group << 16) + element
            if not start[at + 4 : at + 6].isalpha():  # implicit: four bytes of length instead of a type and two
                length = int.from_bytes(start[at + 4 : at + 8], order)
            if group not in (2, 8) or tag < last or length > _PREAMBLE:
                break
            last, at = tag + 1, at + 8 + length
        else:
            return True
    return False


def _texts(values: Mapping[str, Any], keyword: str) -> list[str]:
    """The values of an element; a person name whose character set is not said, in each that it may be."""
    value = values.get(keyword)
    said = [] if value is None else list(value) if isinstance(value, MultiValue) else [value]
    texts = [str(each) for each in said]
    if "SpecificCharacterSet" not in values:
        raw = [each.original_string for each in said if isinstance(each, PersonName) and isinstance(each.original_string, bytes)]
        texts += [each.decode(name, "ignore") for each in raw if not each.isascii() for name in _CHARACTER_SETS]
    return [text for text in texts if text]
