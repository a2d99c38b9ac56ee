"""Part a series that holds several volumes: stacks of several orientations, or acquisitions, kernels, echoes, ... that overlap.

Slices that overlap are parted by the first trait that explains it: every part is then one even stack. If none does, they are parted by a
sure trait of which some parts are even, and `dicom.stack_of` refuses the others. Slices that nothing parts are refused together.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from itertools import combinations
from math import log
from typing import NamedTuple, TypeVar

import numpy as np

from augserver.ingest.readers.dicom import MIN_SLICES, heights_of, is_one_stack
from augserver.ingest.readers.dicom_header import TRAITS, DicomSlice

_TURNED = 0.02  # between direction cosines: slices that far apart (1 degree) were not planned as one stack
_TOUCHING_MM = 1e-3
_KEYS = ("folder", "pixel grid", *TRAITS)
_SURE = TRAITS[:5]  # they part what interleaves evenly even where no header says how far apart the slices are
Slices = tuple[DicomSlice, ...]
Key = TypeVar("Key", bound=Hashable)


class Part(NamedTuple):
    """Slices of one volume, and how they were told from the others of their series."""

    slices: Slices
    notes: tuple[str, ...] = ()


def parts_of(slices: Slices) -> list[Part]:
    """The volumes that slices with a place make: one, unless they differ in orientation or frame of reference, or overlap."""
    frames_of_reference = grouped(slices, lambda one: one.frame_of_reference)
    for trait, groups in (
        ("orientation", list(by_orientation(slices).values())),
        ("FrameOfReferenceUID", list(frames_of_reference.values()) if "" not in frames_of_reference else []),
    ):
        if len(groups) > 1 and min(map(len, groups)) >= MIN_SLICES:
            parted = _numbered(trait, groups)
            return [Part(part.slices, (*outer.notes, *part.notes)) for outer in parted for part in parts_of(outer.slices)]
    even = is_one_stack(slices)
    for trait, groups in _partings(slices, pairs=not even):
        if _overlap(groups) and all(map(is_one_stack, groups)) and not (even and _belong_together(trait, slices, groups)):
            return _numbered(trait, groups)
    for trait in _SURE if not even else ():
        groups = list(grouped(slices, lambda one: one.traits.get(trait, "")).values())  # noqa: B023 - called before the next trait
        if len(groups) > 1 and _overlap(groups) and any(map(is_one_stack, groups)) and not any(map(_collide, groups)):
            return _numbered(trait, groups)
    return [Part(slices)]


def by_orientation(slices: Slices) -> dict[int, Slices]:
    """Slices by orientation, within about a degree."""
    known: list[tuple[float, ...]] = []

    def nearest(one: DicomSlice) -> int:
        for index, axes in enumerate(known):
            if max(abs(a - b) for a, b in zip(axes, one.orientation, strict=True)) < _TURNED:
                return index
        known.append(one.orientation)
        return len(known) - 1

    return grouped(slices, nearest)


def grouped(slices: Iterable[DicomSlice], key: Callable[[DicomSlice], Key]) -> dict[Key, Slices]:
    """Slices by key, keys in the order of their first slice."""
    groups: dict[Key, list[DicomSlice]] = {}
    for one in slices:
        groups.setdefault(key(one), []).append(one)
    return {value: tuple(group) for value, group in groups.items()}


def _partings(slices: Slices, *, pairs: bool) -> Iterator[tuple[str, list[Slices]]]:
    """Ways to part slices into groups that are large enough, by one trait and then by two, with the trait's name."""
    varied = [trait for trait in _KEYS if len({_value(one, trait) for one in slices}) > 1]
    for traits in [(trait,) for trait in varied] + list(combinations(varied, 2) if pairs else ()):
        by_values: dict[Hashable, list[DicomSlice]] = {}
        for one in slices:
            by_values.setdefault(tuple(_value(one, trait) for trait in traits), []).append(one)
        if min(map(len, by_values.values())) >= MIN_SLICES:
            yield " and ".join(traits), list(map(tuple, by_values.values()))


def _value(one: DicomSlice, trait: str) -> Hashable:
    if trait == "folder":
        return one.file.parent
    return one.grid if trait == "pixel grid" else one.traits.get(trait, "")


def _overlap(groups: Sequence[Slices]) -> bool:
    """Whether every group shares heights with another one: groups that only adjoin are one volume, scanned in turns."""
    first = groups[0][0]
    spans = sorted((heights.min(), heights.max()) for heights in (heights_of(group, first) for group in groups))
    return all(
        any(other is not span and other[0] <= span[1] + _TOUCHING_MM and span[0] <= other[1] + _TOUCHING_MM for other in spans)
        for span in spans
    )


def _collide(slices: Slices) -> bool:
    gaps = np.diff(np.sort(heights_of(slices, slices[0])))
    return bool((gaps <= _TOUCHING_MM).any())


def _belong_together(trait: str, slices: Slices, groups: Sequence[Slices]) -> bool:
    """Whether groups that interleave evenly are one volume scanned in turns, by what the header says of the slice distance."""
    if trait == "folder":
        return True
    for declared in ({one.distance_mm for one in slices}, {one.thickness_mm for one in slices}):
        if len(declared) == 1 and min(declared) > 0:
            wanted = log(declared.pop())
            together, apart = (abs(log(_step_mm(group)) - wanted) for group in (slices, groups[0]))
            return together <= apart
    return trait not in _SURE


def _step_mm(slices: Slices) -> float:
    heights = heights_of(slices, slices[0])
    return float(np.ptp(heights)) / (len(slices) - 1)


def _numbered(trait: str, groups: Sequence[Slices]) -> list[Part]:
    notes = (f"part {number} of {len(groups)} of its series, parted by {trait}" for number in range(1, len(groups) + 1))
    return [Part(group, (note,)) for group, note in zip(groups, notes, strict=True)]
