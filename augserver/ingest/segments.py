"""Read the segmentations of 3D Slicer (.seg.nrrd): class ids go by the names of segments, which mean the same in every file.

The header lists segments; SegmentN_Name is called so by its author, SegmentN_LabelValue and SegmentN_Layer say which voxels are its own.
Values are counted up in each file anew, so that 1 is the lung in one file and the bone in the next. Segments that overlap lie in several
layers: the first axis of the file. Files of Slicer before 4.11 have no values: each segment is a layer of 0 and 1.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from augserver.errors import VolumeError
from augserver.ingest.label_source import LabelGrid, read_notes
from augserver.ingest.label_values import distinct, is_almost_whole, shown_values
from augserver.ingest.masks import merge_masks
from augserver.ingest.readers.formats import files_of, read_file
from augserver.ingest.readers.nrrd_header import read_nrrd_header

_KEY = re.compile(r"Segment(\d+)_(ID|Name|LabelValue|Layer)")
_INVENTED = re.compile(r"Segment_\d+")
_SUFFIXES = (".nrrd", ".nhdr")
_CROPPED = "Segmentation_ReferenceImageExtentOffset"  # Slicer says with it where in the scan the stored box begins


@dataclass(frozen=True, slots=True)
class Segment:
    """One segment of a file.

    Attributes:
        name: as its author called it.
        value: of its voxels; None where the file does not say.
        layer: the layer that they lie in; None likewise.
    """

    name: str
    value: int | None
    layer: int | None


def segments_of(path: Path) -> tuple[Segment, ...] | None:
    """The segments that a file's header lists; None if it is no segmentation of Slicer's, or cannot be read.

    Raises:
        VolumeError: a segment has neither name nor ID, or a value or layer that is no whole number.
    """
    if not path.name.lower().endswith(_SUFFIXES):
        return None
    try:
        pairs = read_nrrd_header(path).key_values
    except (OSError, VolumeError):
        return None  # the reader says why
    found: dict[int, dict[str, str]] = defaultdict(dict)
    for key, value in pairs.items():
        if match := _KEY.fullmatch(key.strip()):
            found[int(match[1])][match[2]] = value.strip()
    if not found and not any(key.startswith("Segmentation_") for key in pairs):
        return None
    return tuple(_segment(path.name, number, facts) for number, facts in sorted(found.items()))


def same_name(name: str) -> str:
    """What two names share that mean one class: case, runs of blanks and the way that accents are written do not count."""
    return " ".join(unicodedata.normalize("NFC", name).casefold().split())


@dataclass(frozen=True, slots=True)
class LabelSegments:
    """A segmentation of Slicer's; `ids` has the class id of each segment by `same_name`."""

    path: Path
    segments: Sequence[Segment]
    ids: Mapping[str, int]

    def paths(self) -> tuple[Path, ...]:
        return (self.path,)

    def files(self) -> list[Path]:
        return files_of(self.path)

    @property
    def classes(self) -> dict[int, str]:
        """Class id -> name of the file's segments, without the background."""
        named = {self.ids[same_name(one.name)]: one.name for one in reversed(self.segments)}
        return {class_id: name for class_id, name in sorted(named.items()) if class_id}

    def read(self, *, overlap: str, nifti_affine: str) -> LabelGrid:
        scan = read_file(self.path)
        owners = self._owners(len(scan.voxels))
        layers = [_layer_ids(voxels, owners[layer], f"{self.path.name}: layer {layer}") for layer, voxels in enumerate(scan.voxels)]
        names = self.classes
        told = ", ".join(f"{name} is {class_id}" for class_id, name in names.items())
        notes = (*read_notes(scan), f"segments by name: {told or 'none'}")
        counts = Counter(same_name(one.name) for one in self.segments)
        repeated = sorted({one.name for one in self.segments if counts[same_name(one.name)] > 1})
        if repeated:
            notes += (f"several segments are called {', '.join(repeated)}: taken for one class each",)
        invented = ", ".join(name for name in names.values() if _INVENTED.fullmatch(name))
        cropped = _CROPPED in read_nrrd_header(self.path).key_values
        notices = (f"Slicer made up names of segments, which may be something else in other volumes: {invented}",) if invented else ()
        if len(layers) == 1 or not names:
            return LabelGrid(layers[0], scan.affine, notes, notices, cropped)

        def read_class(class_id: int) -> NDArray[np.bool_]:
            inside: NDArray[np.bool_] = np.logical_or.reduce([layer == class_id for layer in layers])
            return inside

        merged, lost = merge_masks(names, read_class, overlap=overlap)
        return LabelGrid(merged, scan.affine, (f"{len(layers)} layers merged", *notes, *lost), notices, cropped)

    def _owners(self, layers: int) -> list[dict[int, int]]:
        """Per layer, value -> class id.

        Raises:
            VolumeError: the header does not say which voxels a segment has, or says it of two segments of different names.
        """
        owners: list[dict[int, int]] = [{} for _ in range(layers)]
        for number, one in enumerate(self.segments):
            old = one.value is None and layers == len(self.segments)  # one layer of 0 and 1 per segment
            value = 1 if old else one.value
            layer = one.layer if one.layer is not None else number if old else 0 if layers == 1 else None
            if value is None or layer is None or not 0 <= layer < layers:
                raise VolumeError(
                    f"{self.path.name}: segment {one.name!r} has LabelValue {one.value} and Layer {one.layer}, the file {layers} layer(s): "
                    "which voxels are its own is unknown; save the segmentation again with Slicer 4.11 or later"
                )
            class_id = self.ids[same_name(one.name)]
            if value == 0 or owners[layer].setdefault(value, class_id) != class_id:
                other = "the background has" if value == 0 else "another segment has too"
                raise VolumeError(
                    f"{self.path.name}: segment {one.name!r} has LabelValue {value} in layer {layer}, which {other}; "
                    "correct the header, or save the segmentation again with Slicer"
                )
        return owners


def _layer_ids(voxels: NDArray[Any], owners: Mapping[int, int], name: str) -> NDArray[np.uint8]:
    """The class ids of one layer.

    Raises:
        VolumeError: a value is no segment's.
    """
    ids = np.zeros(voxels.shape, np.uint8)
    for out, plane in zip(ids, voxels, strict=True):
        whole = plane if plane.dtype.kind in "iu" else np.rint(plane)
        values = distinct(whole)
        strange = [value for value in values if value and value not in owners] or plane[~is_almost_whole(plane)][:1]
        if len(strange):
            raise VolumeError(
                f"{name} has values that are no segment's: {shown_values(np.array(strange))}; its segments have {sorted(owners)}; "
                "save the segmentation again with Slicer"
            )
        out[...] = np.array([owners.get(int(value), 0) for value in values], np.uint8)[np.searchsorted(values, whole)]
    return ids


def _segment(file: str, number: int, facts: Mapping[str, str]) -> Segment:
    name = _unescaped(facts.get("Name", "")).strip() or _unescaped(facts.get("ID", "")).strip()
    if not name:
        raise VolumeError(f"{file}: Segment{number} has neither Name nor ID, so its class is unknown; give it a name in Slicer")
    numbers: list[int | None] = []
    for key in ("LabelValue", "Layer"):
        text = facts.get(key)
        if text is not None and not re.fullmatch(r"\d{1,9}", text):
            raise VolumeError(f"{file}: Segment{number}_{key} is {text!r}, must be a whole number; correct the header")
        numbers.append(None if text is None else int(text))
    return Segment(name, *numbers)


def _unescaped(text: str) -> str:
    """A value of an NRRD header, where a line break is written as \\n and a backslash as two."""
    return re.sub(r"\\(n|\\)", lambda match: " " if match[1] == "n" else "\\", text)
