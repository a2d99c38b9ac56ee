"""Class names inside a label NIfTI: the label table of Caret and Connectome Workbench, which TotalSegmentator writes too.

The names travel in a header extension, XML of the form

    <CaretExtension><VolumeInformation><LabelTable><Label Key="1" ...>liver</Label>...

so that a file says by itself what its numbers mean; programs that do not know the extension skip it.
"""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from augclient.errors import VolumeError

if TYPE_CHECKING:
    from nibabel.nifti1 import Nifti1Extension

_CARET_CODE = 30  # NIFTI_ECODE_CARET
_COLOURS = ("0.9 0.3 0.2", "0.2 0.6 0.9", "0.4 0.8 0.3", "0.95 0.8 0.2", "0.7 0.4 0.9", "0.3 0.8 0.8")  # cycled; viewers ask for some


def class_names_extension(classes: Mapping[int, str]) -> Nifti1Extension:
    """The header extension that names the classes: `image.header.extensions.append(class_names_extension(classes))`.

    Args:
        classes: label id -> name; background may be among them.
    """
    from nibabel.nifti1 import Nifti1Extension

    root = ElementTree.Element("CaretExtension")
    volume = ElementTree.SubElement(root, "VolumeInformation", Index="0")
    table = ElementTree.SubElement(volume, "LabelTable")
    for class_id, name in sorted(classes.items()):
        red, green, blue = _COLOURS[class_id % len(_COLOURS)].split()
        label = ElementTree.SubElement(table, "Label", Key=str(class_id), Red=red, Green=green, Blue=blue, Alpha="1" if class_id else "0")
        label.text = name
    ElementTree.SubElement(volume, "VolumeType").text = "Label"
    return Nifti1Extension(_CARET_CODE, ElementTree.tostring(root, encoding="utf-8", xml_declaration=True))


def class_names_of(header: Any, name: str) -> dict[int, str] | None:
    """The classes that a NIfTI header names, id -> name; None where it names none.

    Args:
        header: nibabel's Nifti1Header or Nifti2Header.
        name: of the file, for messages.
    Raises:
        VolumeError: there is a label table, and it cannot be read or names an id twice.
    """
    for extension in header.extensions:
        text: bytes = extension.content
        if b"<LabelTable" in text:  # by content: TotalSegmentator writes it under code 0
            return _parsed(text, name)
    return None


def _parsed(text: bytes, name: str) -> dict[int, str]:
    way_out = "name the classes in a file of their own (--classes), and remove the extension"
    if b"<!DOCTYPE" in text:  # where entities would be declared, and grow without bound
        raise VolumeError(f"{name}: the label table in its header has an XML DOCTYPE, which no writer of label tables needs; {way_out}")
    try:
        root = ElementTree.fromstring(text.strip(b"\0 \r\n\t"))
        labels = [(int(label.attrib["Key"]), (label.text or "").strip()) for label in root.iter("Label")]
    except (ElementTree.ParseError, LookupError, ValueError) as error:
        raise VolumeError(f"{name}: the label table in its header is damaged ({error}); {way_out}") from error
    classes = dict(labels)
    if len(classes) < len(labels) or any(class_id < 0 or not text for class_id, text in labels):
        raise VolumeError(f"{name}: the label table in its header names an id twice, a negative id or no name: {labels}; {way_out}")
    return classes
