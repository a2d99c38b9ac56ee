"""Say which DICOM slices make which volume. Headers decide; voxels are compared only of slices that claim to be the same.

A series is one volume wherever its files lie, unless dicom_parts finds several in it. Whatever is left out is counted.
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from augserver.errors import VolumeError
from augserver.ingest.readers.dicom import MIN_SLICES, is_one_stack
from augserver.ingest.readers.dicom_header import DicomSlice, is_dicom, read_header
from augserver.ingest.readers.dicom_kinds import LABELS_NOT_READ, Kind
from augserver.ingest.readers.dicom_parts import Slices, by_orientation, grouped, parts_of
from augserver.ingest.readers.dicom_pixels import read_planes

NO_IMAGE = "DICOM without image"
_LOCALIZER = "DICOM localizer"
_CAPTURE = "DICOM capture without a place"
_COPY = "exact copy of a DICOM slice"


@dataclass(frozen=True, slots=True, kw_only=True)
class DicomSeries:
    """Slices that make one volume, or should.

    Attributes:
        notes: what was left out, joined or parted, for the report.
    """

    slices: Slices
    notes: tuple[str, ...] = ()

    @property
    def folders(self) -> frozenset[Path]:
        """Those that hold its files."""
        return frozenset(one.file.parent for one in self.slices)

    @property
    def folder(self) -> Path:
        """The deepest one that holds all of its files."""
        return Path(os.path.commonpath(self.folders))


@dataclass(frozen=True, slots=True, kw_only=True)
class DicomFound:
    """What DICOM files turned out to be: each is of a series, broken or skipped.

    Attributes:
        series: in the order of series number and then UID.
        broken: by folder, the places, by name and counted from 1, of files that may be slices of any series but cannot be read.
        skipped: how many files are no slices of a scan, by kind.
        notices: on what was skipped.
    """

    series: tuple[DicomSeries, ...]
    broken: Mapping[Path, tuple[int, ...]]
    skipped: Mapping[str, int]
    notices: tuple[str, ...] = ()


@functools.lru_cache(maxsize=16)  # asked for every scan without a label
def label_hint(path: Path) -> str:
    """The end of an error about a file or folder that is no label: why not, if it is or holds a DICOM label; else empty."""
    for file in [path] if path.is_file() else sorted(path.rglob("*")):
        with contextlib.suppress(VolumeError, OSError):
            if file.is_file() and is_dicom(file) and read_header(file)[0] == Kind.LABEL:
                return f"; {LABELS_NOT_READ}"
    return ""


def sort_series(files: Iterable[Path]) -> DicomFound:
    """Read the headers of DICOM files, each once, and part them into volumes."""
    slices: dict[str, list[DicomSlice]] = defaultdict(list)
    broken: dict[Path, list[int]] = defaultdict(list)
    skipped: Counter[str] = Counter()
    places: Counter[Path] = Counter()
    notices: tuple[str, ...] = ()
    for file in sorted(files, key=lambda file: (len(file.parts), file)):  # of copies, the one that lies less deep is kept
        places[file.parent] += 1
        try:
            kind, found = read_header(file)
        except VolumeError:
            broken[file.parent].append(places[file.parent])
            continue
        if not found:
            skipped[NO_IMAGE] += 1
        if kind == Kind.LABEL:
            notices = (LABELS_NOT_READ,)
        for one in found:
            slices[one.series].append(one)
    joined = sorted(_join_singles(map(tuple, slices.values())), key=lambda group: (group.slices[0].number, group.slices[0].series))
    series = tuple(part for group in joined for part in _volumes_of(group, skipped))
    return DicomFound(series=series, broken={folder: tuple(at) for folder, at in broken.items()}, skipped=skipped, notices=notices)


def _join_singles(groups: Iterable[Slices]) -> Iterator[DicomSeries]:
    """Join series of one slice each that share a grid: some tools give every slice a SeriesInstanceUID of its own.

    Slices of other folders are joined only if they name the same frame of reference.
    """
    alone: list[DicomSlice] = []
    for group in groups:
        if len(group) > 1 or not group[0].placed:
            yield DicomSeries(slices=group)
        else:
            alone += group
    alike = grouped(
        alone,
        lambda one: (one.frame_of_reference or one.file.parent, one.modality, one.number, one.grid, _axes(one), one.identifiers),
    )
    for same in alike.values():
        if len(same) < MIN_SLICES:
            yield from (DicomSeries(slices=(one,)) for one in same)
        else:
            yield DicomSeries(slices=same, notes=(f"joined from {len(same)} series of one slice each",))


def _axes(one: DicomSlice) -> tuple[float, ...]:
    """The orientation, to be compared."""
    return tuple(np.round(one.orientation, 2).tolist())


def _volumes_of(group: DicomSeries, skipped: Counter[str]) -> list[DicomSeries]:
    """The volumes of one series, without what is no slice of theirs."""
    slices, notes = group.slices, list(group.notes)

    def leave_out(unwanted: Callable[[DicomSlice], bool], kind: str, why: str) -> None:
        nonlocal slices
        kept = tuple(one for one in slices if not unwanted(one))
        if kept and len(kept) < len(slices):
            skipped[kind] += len({one.file for one in slices} - {one.file for one in kept})
            notes.append(f"{len(slices) - len(kept)} of {len(slices)} slices left out: {why}")
            slices = kept

    leave_out(lambda one: one.is_of_type("LOCALIZER"), _LOCALIZER, "localizers")
    leave_out(lambda one: not one.placed and one.is_of_type("SECONDARY"), _CAPTURE, "captures without a place in the patient")
    if not all(one.placed for one in slices):
        return [DicomSeries(slices=slices, notes=tuple(notes))]
    few = [one for same in by_orientation(slices).values() if len(same) < MIN_SLICES for one in same]
    leave_out(set(few).__contains__, _LOCALIZER, "their orientation is not that of the others")
    leave_out(_copies_in(slices).__contains__, _COPY, "exact copies of others")
    parts = parts_of(slices)
    if len(parts) == 1 and not is_one_stack(slices):
        copies = _twins_in(slices)
        if is_one_stack([one for one in slices if one not in copies]):
            leave_out(copies.__contains__, _COPY, "the voxels and the place of others")
            parts = parts_of(slices)
    return [DicomSeries(slices=part.slices, notes=(*notes, *part.notes)) for part in parts]


def _copies_in(slices: Slices) -> set[DicomSlice]:
    """Slices of the same SOPInstanceUID, place and voxels as one before them.

    Between folders that are whole series each, and share UIDs because a tool made them constant, a slice in common is no copy: then only
    copies in one folder count, and folders of nothing but copies.
    """
    copies: dict[DicomSlice, DicomSlice] = {}
    for same in grouped(slices, lambda one: (one.uid, one.frame, one.origin, one.orientation)).values():
        copies |= {one: same[0] for one in same[1:] if _same_voxels(same[0], one)}
    if not copies or is_one_stack([one for one in slices if one not in copies]):
        return set(copies)
    unlike = {one.file.parent for one in slices if one not in copies}
    return {one for one, first in copies.items() if one.file.parent == first.file.parent or one.file.parent not in unlike}


def _twins_in(slices: Slices) -> set[DicomSlice]:
    """Slices of the same place as one before them; none if any of them has other voxels than that."""
    twins: set[DicomSlice] = set()
    for same in grouped(slices, lambda one: tuple(np.round(one.origin, 2).tolist())).values():
        for one in same[1:]:
            if not _same_voxels(same[0], one):
                return set()
            twins.add(one)
    return twins


def _same_voxels(first: DicomSlice, second: DicomSlice) -> bool:
    if first.frames == 1 and first.file.read_bytes() == second.file.read_bytes():
        return True
    try:
        plane, other = read_planes([first, second], what=lambda _: "slice")
    except VolumeError:
        return False
    return np.array_equal(plane, other)
