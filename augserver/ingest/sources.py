"""Find the scans under the folders and files that a user names, and say what each of them is. No voxel is read here."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import operator
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from augserver.errors import NotFoundError, VolumeError
from augserver.ingest.detached import VOXEL_FILES, voxel_files
from augserver.ingest.label_source import LabelSource
from augserver.ingest.listing import UNREADABLE_FILE, Listing, Unread, list_files
from augserver.ingest.patient_names import Identifiers
from augserver.ingest.readers.dicom import read_series
from augserver.ingest.readers.dicom_header import DicomSlice, is_dicom
from augserver.ingest.readers.dicom_series import sort_series
from augserver.ingest.readers.formats import files_of, read_file, split_suffix
from augserver.ingest.scan import Scan
from augserver.ingest.segments import segments_of

_MAY_BE_DICOM = ("", ".dcm", ".ima", ".dicom")  # suffixes; digits too: slices are called by their UID


class Said(NamedTuple):
    """What the data says of a scan's modality.

    Attributes:
        modality: "ct" or "mr".
        because: what says so, for a sentence.
        sure: False for what is true of most such data and perhaps not of this.
    """

    modality: str
    because: str
    sure: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One scan that may become a volume.

    Attributes:
        path: its file (of a pair, the header; of several channels, the first), or the folder of a DICOM series.
        root: the folder under which it was found.
        stem: name without suffix; labels are looked up by it.
        name: folders below and including the root, then the stem; see names.volume_ids.
        slices: of a DICOM series, else empty.
        channels: files of the second and further channels.
        label: its label, where a layout says so.
        says: its modality, where the dataset or a name says it.
        names_patient: its name contains an identifier of the patient, by the DICOM headers.
        problem: why it cannot be read, known before trying; else empty.
        notes: on how its files were chosen, for the report.
    """

    path: Path
    root: Path
    stem: str
    name: tuple[str, ...]
    slices: tuple[DicomSlice, ...] = ()
    channels: tuple[Path, ...] = ()
    label: LabelSource | None = None
    says: Said | None = None
    names_patient: bool = False
    problem: str = ""
    notes: tuple[str, ...] = ()

    def paths(self) -> tuple[Path, ...]:
        """The files that it names, and the folder of a series; the disk is not asked."""
        return (self.path, *self.channels, *(one.file for one in self.slices))

    def files(self) -> list[Path]:
        """Every file that its voxels and geometry come from, as far as the name tells.

        Raises:
            VolumeError: the second file of a pair is missing.
        """
        if self.slices:
            return list(dict.fromkeys(one.file for one in self.slices))  # a file may have several frames
        return [file for path in (self.path, *self.channels) for file in files_of(path)]

    def size_bytes(self) -> int:
        """Size of its files on disk, for the progress bar; what cannot be seen counts 0."""
        files = {one.file for one in self.slices} or {self.path, *self.channels}
        total = 0
        for file in files:
            with contextlib.suppress(OSError):
                total += file.stat().st_size
        return total

    def read(self, modality: str, nifti_affine: str = "auto") -> Scan:
        """Read it with the reader of its kind.

        Args:
            modality: what a DICOM series must be, "ct" or "mr".
            nifti_affine: one of nifti_affine.NIFTI_AFFINES.
        Raises:
            VolumeError: as the readers; or channels on different grids, or a segmentation in place of a scan.
        """
        if self.slices:
            return read_series(self.slices, name=self.stem, modality=modality, notes=self.notes)
        segments = segments_of(self.path)
        if segments is not None:
            names = ", ".join(one.name for one in segments) or "no segments"
            raise VolumeError(
                f"{self.path.name}: is a segmentation of 3D Slicer ({names}), no scan; "
                "name it as a label: --labels '{id}.seg.nrrd', or the folder that it is in"
            )
        scan, *channels = [read_file(path, nifti_affine) for path in (self.path, *self.channels)]
        return _join_channels(scan, channels, name=self.stem) if channels else scan


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a search turned up.

    Attributes:
        sources: sorted by path.
        skipped: number of files and other things by kind that are no scans, such as {".txt": 3}.
        unread: what could not be looked at.
        hidden: number of hidden files and folders.
        files: that were looked at.
        voxel_files: header -> files that hold its voxels.
        spoilt: how many files cannot be read and may belong to a source, which has a `problem` therefore.
        notices: on what was skipped, for the report.
    """

    sources: tuple[Source, ...]
    skipped: dict[str, int]
    unread: tuple[Unread, ...] = ()
    hidden: int = 0
    files: frozenset[Path] = frozenset()
    voxel_files: Mapping[Path, list[Path]] = field(default_factory=dict)
    spoilt: int = 0
    notices: tuple[str, ...] = ()


class SeriesFound(NamedTuple):
    """What DICOM files turned out to be: each is of a source, or counted as skipped or spoilt; see Found."""

    sources: list[Source]
    spoilt: int
    notices: tuple[str, ...]


def find_sources(paths: Iterable[Path]) -> Found:
    """Look for scans in files and, recursively, folders; hidden files and folders, datasets (.zarr) and linked folders are left out.

    Raises:
        NotFoundError: a path does not exist.
    """
    sources: dict[Path, list[Source]] = {}
    skipped: dict[str, int] = defaultdict(int)
    unread: list[Unread] = []
    seen: set[Path] = set()
    owned: dict[Path, list[Path]] = {}
    dicom: dict[Path, Path] = {}  # file -> root
    hidden = 0
    for path in paths:
        listing = list_path(path)
        for kind, number in listing.skipped.items():
            skipped[kind] += number
        unread += listing.unread
        hidden += listing.hidden
        files = [file for file in listing.files if file not in seen]
        seen.update(files)
        others: list[Path] = []
        for file in files:
            if split_suffix(file)[1]:
                sources[file] = [file_source(file, listing.root)]
                continue
            try:
                if is_dicom(file):
                    dicom[file] = listing.root
                else:
                    others.append(file)
            except OSError as error:
                if file.suffix.lower() in _MAY_BE_DICOM or file.suffix[1:].isdecimal():
                    dicom[file] = listing.root  # perhaps a slice: its series is refused
                    continue
                unread.append(Unread(path=file, kind=UNREADABLE_FILE, reason=error.strerror or type(error).__name__))
                skipped[UNREADABLE_FILE] += 1
        owned |= voxel_files(sources, others)
        for file in set(others).difference(*owned.values()):
            skipped[kind_of(file)] += 1
    series = series_sources(dicom, skipped)
    for source in series.sources:
        sources.setdefault(source.path, []).append(source)
    ordered = [source for key in sorted(sources) for source in sources[key]]
    return Found(
        sources=tuple(mark_patients(ordered)),
        skipped=dict(skipped),
        unread=tuple(unread),
        hidden=hidden,
        files=frozenset(seen),
        voxel_files=owned,
        spoilt=series.spoilt,
        notices=series.notices,
    )


def list_path(path: Path) -> Listing:
    """The files at a path that the user named.

    Raises:
        NotFoundError: there is nothing, or nobody may look.
    """
    try:
        path.stat()
    except OSError as error:
        raise NotFoundError(f"there is nothing at {path} ({error.strerror}); check the path and its permissions") from error
    return list_files(path)


def kind_of(file: Path) -> str:
    """What a file that is not used is counted as: by its suffix."""
    if file.name.lower().endswith(VOXEL_FILES):
        return "voxel file without a header"
    suffix = file.suffix.lower()
    return "no suffix" if not suffix or suffix[1:].isdecimal() else suffix


def mark_patients(sources: Sequence[Source]) -> list[Source]:
    """The sources, those marked whose name contains an identifier of a patient whose DICOM files were found with them."""
    patients = functools.reduce(operator.or_, {one.identifiers for source in sources for one in source.slices}, Identifiers())
    return [
        replace(source, names_patient=True) if not source.slices and any(map(patients.are_in, source.name)) else source
        for source in sources
    ]


def source_digest(files: Sequence[Path]) -> str:
    """sha256 (hex) over the contents of files, whatever their names, places and order: tells whether a source is still the same."""
    digests = []
    for file in files:
        with file.open("rb") as data:
            digests.append(hashlib.file_digest(data, "sha256").digest())
    return hashlib.sha256(b"".join(sorted(digests))).hexdigest()


def _join_channels(first: Scan, others: Sequence[Scan], *, name: str) -> Scan:
    for number, scan in enumerate(others, 2):
        if (len(scan.voxels), len(first.voxels)) != (1, 1):
            raise VolumeError(f"{name}: channel {number} or the first has a fourth axis; each file must hold one channel")
        if scan.grid != first.grid or not np.allclose(scan.affine, first.affine, atol=1e-3):
            raise VolumeError(f"{name}: channel {number} lies on another grid than the first; channels must share one: resample them first")
    voxels = np.concatenate([first.voxels, *(scan.voxels for scan in others)])
    return Scan(voxels=voxels, affine=first.affine, format=first.format, notes=(*first.notes, f"{len(voxels)} channels from files"))


def file_source(file: Path, root: Path) -> Source:
    """The source that a file below `root` is."""
    stem = split_suffix(file)[0]
    return Source(path=file, root=root, stem=stem, name=(root.name, *file.relative_to(root).parts[:-1], stem))


def series_sources(roots: Mapping[Path, Path], skipped: dict[str, int]) -> SeriesFound:
    """A source per volume in DICOM files; a broken slice may belong to any series of its folder, so it spoils them all.

    Args:
        roots: the folder under which each file was found.
        skipped: counts by kind, which are added to.
    """
    found = sort_series(roots)
    for kind, count in found.skipped.items():
        skipped[kind] += count
    root_of = {file.parent: root for file, root in roots.items()}
    problems = {folder: _broken_text(folder, places, roots) for folder, places in found.broken.items()}
    places = [min(series.folders) if len({root_of[folder] for folder in series.folders}) > 1 else series.folder for series in found.series]
    sources = []
    for series, folder, number in zip(found.series, places, _numbers(places), strict=True):
        root = root_of[min(series.folders)]
        stem = f"{folder.name}_{number}" if number else folder.name
        names = (*(root.name, *folder.relative_to(root).parts)[:-1], stem)
        patient = functools.reduce(operator.or_, {one.identifiers for one in series.slices})
        broken = [problems[each] for each in sorted(series.folders) if each in problems]
        sources.append(
            Source(
                path=folder,
                root=root,
                stem=stem,
                name=names,
                slices=series.slices,
                names_patient=any(map(patient.are_in, names)),
                problem="".join(broken[:1]),
                notes=series.notes,
            )
        )
    spoiled = {folder for series in found.series for folder in series.folders}
    for folder in sorted(problems.keys() - spoiled):
        root = root_of[folder]
        name = (root.name, *folder.relative_to(root).parts)
        sources.append(Source(path=folder, root=root, stem=folder.name, name=name, problem=problems[folder]))
    return SeriesFound(sources, sum(map(len, found.broken.values())), found.notices)


def _numbers(places: Sequence[Path]) -> Iterator[int]:
    """Of series in the same folder, from 1; 0 for one that is alone there."""
    total, so_far = Counter(places), Counter[Path]()
    for place in places:
        so_far[place] += 1
        yield so_far[place] if total[place] > 1 else 0


def _broken_text(folder: Path, places: Sequence[int], files: Iterable[Path]) -> str:
    count = sum(file.parent == folder for file in files)
    return (
        f"{folder.name}: {len(places)} of {count} DICOM files of this folder cannot be read or lack their pixels, number {places[0]} by "
        "name first: truncated or corrupt, and perhaps slices of this volume; copy them again, or take them out"
    )
