"""Give the segments of an ingest's segmentations class ids by their names, so that one name has one id in every volume."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from augserver.errors import VolumeError
from augserver.ingest.label_source import LabelFile
from augserver.ingest.segments import LabelSegments, Segment, same_name, segments_of
from augserver.ingest.sources import Source
from augserver.store import DatasetWriter


def number_segments(scans: Sequence[Source], writer: DatasetWriter) -> list[Source]:
    """The scans; the label of each that is a segmentation of Slicer's with the class ids of its segments.

    Ids are those of the classes that are given (by --classes, or a layout). Else a name keeps the id that it has in the dataset, or
    takes the value that it has in the first file, or where that is taken, the lowest free id. What cannot be is the scan's problem.
    """
    found = [_segments(scan) for scan in scans]
    given = writer.given_classes
    named = given or writer.classes
    if all(segments is None for segments in found):
        foreign = {} if given else {class_id: name for class_id, name in named.items() if class_id}
        return [_without_names(scan, foreign) for scan in scans] if foreign else list(scans)
    ids = {same_name(name): class_id for class_id, name in named.items()}
    taken = {*named, *writer.class_ids}
    mixed = not given and taken != set(named)  # ids of the dataset that have no names
    numbered: list[Source] = []
    for scan, segments in zip(scans, found, strict=True):
        label, problem = scan.label, scan.problem
        if isinstance(segments, VolumeError):
            problem = problem or str(segments)
        elif label is not None and not given and (segments is None or mixed):
            problem = problem or _mixed(scan)
        elif isinstance(label, LabelFile) and segments is not None:
            if not given:
                _give_ids(segments, ids, taken)
            label = LabelSegments(label.path, segments, ids)
            strange = [one.name for one in segments if same_name(one.name) not in ids]
            if strange:
                known = ", ".join(name for class_id, name in sorted(given.items()) if class_id)
                why = f"the classes are called {known}; add it there, or rename it in Slicer" if given else "all ids up to 255 are taken"
                problem = problem or f"{scan.stem}: its segment {strange[0]!r} has no class id: {why}"
        numbered.append(replace(scan, label=label, problem=problem))
    return numbered


def _without_names(scan: Source, foreign: Mapping[int, str]) -> Source:
    return replace(scan, label=replace(scan.label, foreign=foreign)) if isinstance(scan.label, LabelFile) else scan


def _segments(scan: Source) -> tuple[Segment, ...] | VolumeError | None:
    try:
        return segments_of(scan.label.path) if isinstance(scan.label, LabelFile) else None
    except VolumeError as error:
        return error


def _give_ids(segments: Sequence[Segment], ids: dict[str, int], taken: set[int]) -> None:
    for one in segments:
        if same_name(one.name) not in ids:
            free = [value for value in (one.value or 0, *range(1, 256)) if 0 < value <= 255 and value not in taken]
            if free:
                ids[same_name(one.name)] = free[0]
                taken.add(free[0])


def _mixed(scan: Source) -> str:
    return (
        f"{scan.stem}: some labels of this dataset are segmentations of Slicer, whose classes have names, and others have ids alone; "
        "say by --classes which id is which name, or ingest the two kinds into datasets of their own"
    )
