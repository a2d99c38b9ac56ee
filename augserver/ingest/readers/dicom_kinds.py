"""What a DICOM file is, by its SOP class compared as a whole: RTSTRUCT's begins with the same digits as CT's."""

from __future__ import annotations

from enum import Enum

from pydicom.uid import (
    CTImageStorage,
    EnhancedCTImageStorage,
    EnhancedMRImageStorage,
    LegacyConvertedEnhancedCTImageStorage,
    LegacyConvertedEnhancedMRImageStorage,
    MRImageStorage,
    MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
    MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
    MultiFrameSingleBitSecondaryCaptureImageStorage,
    MultiFrameTrueColorSecondaryCaptureImageStorage,
    ParametricMapStorage,
    RTDoseStorage,
    RTImageStorage,
    RTStructureSetStorage,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
    SurfaceSegmentationStorage,
)

LABELS_NOT_READ = (
    "DICOM SEG/RTSTRUCT labels are not read; convert with dcmqi's segimage2itkimage (SEG) or plastimatch convert (RTSTRUCT) "
    "to NIfTI or NRRD, and name those as labels"
)
ENHANCED = frozenset(
    (EnhancedCTImageStorage, EnhancedMRImageStorage, LegacyConvertedEnhancedCTImageStorage, LegacyConvertedEnhancedMRImageStorage)
)
_SCANS = ENHANCED | {CTImageStorage, MRImageStorage}
_LABEL_MAP = "1.2.840.10008.5.1.4.1.1.66.7"  # Label Map Segmentation Storage, too new for pydicom to name
_LABELS = frozenset((SegmentationStorage, SurfaceSegmentationStorage, _LABEL_MAP, RTStructureSetStorage))
_CAPTURES = frozenset(
    (
        SecondaryCaptureImageStorage,
        MultiFrameSingleBitSecondaryCaptureImageStorage,
        MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
        MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
        MultiFrameTrueColorSecondaryCaptureImageStorage,
    )
)
# They have pixels, but none of the patient as a scanner sees it.
_DERIVED = frozenset((ParametricMapStorage, RTDoseStorage, RTImageStorage))


class Kind(Enum):
    """What a file is good for."""

    SCAN = "CT or MR: it must have pixels"
    CAPTURE = "a scan only if it has a place in the patient"
    OTHER = "a scan of another modality if it has pixels"
    DERIVED = "no scan, though it may have pixels"
    LABEL = "a label that is not read"


def kind_of(sop_class: str) -> Kind:
    """The kind of a SOP class, which may be empty or unknown."""
    for kind, classes in ((Kind.SCAN, _SCANS), (Kind.LABEL, _LABELS), (Kind.CAPTURE, _CAPTURES), (Kind.DERIVED, _DERIVED)):
        if sop_class in classes:
            return kind
    return Kind.OTHER


def modality_of(sop_class: str) -> str:
    """The modality that a SOP class of scans says, "" for all others."""
    if sop_class in (CTImageStorage, EnhancedCTImageStorage, LegacyConvertedEnhancedCTImageStorage):
        return "CT"
    return "MR" if sop_class in _SCANS else ""
