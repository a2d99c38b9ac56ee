"""Take the frames of an enhanced (multi-frame) CT or MR apart: a header per frame, as if each were a file of its own."""

from __future__ import annotations

from collections.abc import Iterator

from pydicom.dataset import Dataset

FUNCTIONAL_GROUPS = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
# Keywords of functional groups under the names that single-slice headers have for the same.
_SAME_AS = {
    "FrameType": "ImageType",
    "EffectiveEchoTime": "EchoTime",
    "FrameAcquisitionNumber": "AcquisitionNumber",
    "FrameAcquisitionDateTime": "AcquisitionDateTime",
    "TemporalPositionIndex": "TemporalPositionIdentifier",
    "InversionTimes": "InversionTime",
}


def frame_headers(header: Dataset) -> Iterator[Dataset]:
    """One header per frame: the file's own elements, overlaid by those of the shared and of the frame's functional groups.

    Where there are not as many functional groups as frames, nothing says where those lie: one header without a place stands for all.
    """
    shared, own = (list(header.get(keyword) or ()) for keyword in FUNCTIONAL_GROUPS)
    plain = Dataset()
    plain.update({element.tag: element for element in header if element.keyword not in FUNCTIONAL_GROUPS})
    if len(own) != int(header.get("NumberOfFrames") or 1):
        plain.pop("ImagePositionPatient", None)
        yield plain
        return
    for index, of_frame in enumerate(own):
        frame = Dataset()
        frame.update(plain)
        for group in [*shared[:1], of_frame]:
            for macro in _macros(group):
                frame.update({element.tag: element for element in macro})
                for name, same in _SAME_AS.items():
                    if macro.get(name) is not None:
                        setattr(frame, same, macro.get(name))
        frame.InstanceNumber = index + 1
        yield frame


def _macros(group: Dataset) -> Iterator[Dataset]:
    """The items of the sequences of a functional group, of which each has one."""
    for element in group:
        if element.VR == "SQ" and element.value:
            yield element.value[0]
