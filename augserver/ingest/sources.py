"""Find the scans under the folders and files that a user names, and say what each of them is. No voxel is read here."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import operator
import os
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from augserver.errors import NotFoundError, VolumeError
from augserver.ingest.label_source import LabelSource
from augserver.ingest.readers.dicom import read_series
from augserver.ingest.readers.dicom_header import DicomSlice, is_dicom, sort_series
from augserver.ingest.readers.formats import files_of, read_file, split_suffix
from augserver.ingest.scan import Scan

_VOXEL_FILES = (".img", ".img.gz", ".raw", ".raw.gz", ".zraw")  # found through their headers


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
        names_patient: its name contains an identifier of the patient, by the DICOM headers.
        problem: why it cannot be read, known before trying; else empty.
    """

    path: Path
    root: Path
    stem: str
    name: tuple[str, ...]
    slices: tuple[DicomSlice, ...] = ()
    channels: tuple[Path, ...] = ()
    label: LabelSource | None = None
    names_patient: bool = False
    problem: str = ""

    def paths(self) -> tuple[Path, ...]:
        """The files that it names, and the folder of a series; the disk is not asked."""
        return (self.path, *self.channels, *(one.file for one in self.slices))

    def files(self) -> list[Path]:
        """Every file that its voxels and geometry come from, as far as the name tells.

        Raises:
            VolumeError: the second file of a pair is missing.
        """
        if self.slices:
            return [one.file for one in self.slices]
        return [file for path in (self.path, *self.channels) for file in files_of(path)]

    def size_bytes(self) -> int:
        """Size of its files on disk, for the progress bar; what cannot be seen counts 0."""
        files = [one.file for one in self.slices] or [self.path, *self.channels]
        total = 0
        for file in files:
            with contextlib.suppress(OSError):
                total += file.stat().st_size
        return total

    def read(self, modality: str) -> Scan:
        """Read it with the reader of its kind.

        Raises:
            VolumeError: as the readers; or channels on different grids.
        """
        if self.slices:
            return read_series(self.slices, name=self.stem, modality=modality)
        scan = read_file(self.path)
        return _join_channels(scan, [read_file(path) for path in self.channels], name=self.stem) if self.channels else scan


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a search turned up.

    Attributes:
        sources: sorted by path.
        skipped: number of files by kind that are no scans, such as {".txt": 3}.
    """

    sources: tuple[Source, ...]
    skipped: dict[str, int]


def find_sources(paths: Iterable[Path]) -> Found:
    """Look for scans in files and, recursively, folders; hidden files and folders, datasets (.zarr) and linked folders are left out.

    Raises:
        NotFoundError: a path does not exist.
    """
    sources: dict[Path, list[Source]] = {}
    skipped: dict[str, int] = defaultdict(int)
    for path in paths:
        if not path.exists():
            raise NotFoundError(f"there is nothing at {path}; check the path")
        whole = Path(os.path.abspath(path))  # without "..", so that places can be compared
        root = whole if whole.is_dir() else whole.parent
        folders: dict[Path, list[Path]] = defaultdict(list)
        for file in _files_below(whole, skipped):
            if split_suffix(file)[1]:
                sources.setdefault(file, [file_source(file, root)])
            elif not os.access(file, os.R_OK):
                skipped["unreadable"] += 1
            elif is_dicom(file):
                folders[file.parent].append(file)
            elif not file.name.lower().endswith(_VOXEL_FILES):
                skipped[file.suffix.lower() or "no suffix"] += 1
        for folder, files in folders.items():
            sources.setdefault(folder, series_sources(folder, files, root, skipped))
    return Found(sources=tuple(source for key in sorted(sources) for source in sources[key]), skipped=dict(skipped))


def source_digest(files: Sequence[Path]) -> str:
    """sha256 (hex) over the contents of files, whatever their names, places and order: tells whether a source is still the same."""
    digests = []
    for file in files:
        with file.open("rb") as data:
            digests.append(hashlib.file_digest(data, "sha256").digest())
    return hashlib.sha256(b"".join(sorted(digests))).hexdigest()


def _files_below(path: Path, skipped: dict[str, int]) -> list[Path]:
    """The files of a folder and those below it, sorted; links to folders (they may run in circles) and to nothing are only counted."""
    if path.is_file():
        return [path]
    files = []
    for file in path.rglob("*"):
        if any(part.startswith(".") or part.endswith(".zarr") for part in file.relative_to(path).parts):
            continue
        if file.is_file():
            files.append(file)
        elif file.is_symlink():
            skipped["link to a folder" if file.is_dir() else "broken link"] += 1
    return sorted(files)


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


def series_sources(folder: Path, files: Sequence[Path], root: Path, skipped: dict[str, int]) -> list[Source]:
    """A source per series of one folder; a broken slice may belong to any of them, so it spoils them all."""
    found = sort_series(files)
    if found.other:
        skipped["DICOM without image"] += found.other
    problem = ""
    if found.broken:
        problem = (
            f"{folder.name}: {len(found.broken)} of {len(files)} DICOM files of this folder cannot be read, number "
            f"{found.broken[0]} by name first: truncated or corrupt, and perhaps slices of this volume; copy them again, or take them out"
        )
    parts = (root.name, *folder.relative_to(root).parts)
    sources = []
    for number, slices in enumerate(found.series, 1):
        stem = folder.name if len(found.series) == 1 else f"{folder.name}_{number}"
        names = (*parts[:-1], stem)
        patient = functools.reduce(operator.or_, {one.identifiers for one in slices})
        private = any(map(patient.are_in, names))
        sources.append(Source(path=folder, root=root, stem=stem, name=names, slices=slices, names_patient=private, problem=problem))
    if problem and not sources:
        sources.append(Source(path=folder, root=root, stem=folder.name, name=parts, problem=problem))
    return sources
