"""Find the scans under the folders and files that a user names, and say what each of them is. No voxel is read here."""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from augserver.errors import NotFoundError
from augserver.ingest.dicom import DicomSlice, is_dicom, read_series, sort_series
from augserver.ingest.itk_file import read_metaimage, read_nrrd
from augserver.ingest.nifti import image_of_pair, read_nifti
from augserver.ingest.scan import Scan

READERS: dict[str, Callable[[Path], Scan]] = {
    ".nii.gz": read_nifti,
    ".nii": read_nifti,
    ".hdr.gz": read_nifti,
    ".hdr": read_nifti,
    ".nrrd": read_nrrd,
    ".nhdr": read_nrrd,
    ".mha": read_metaimage,
    ".mhd": read_metaimage,
}
"""By suffix, longest first."""

_VOXEL_FILES = (".img", ".img.gz", ".raw", ".raw.gz", ".zraw")  # found through their headers


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One scan that may become a volume.

    Attributes:
        path: its file (of a pair, the header), or the folder of a DICOM series.
        root: the folder under which it was found.
        stem: name without suffix; labels are looked up by it.
        name: folders below and including the root, then the stem; see names.volume_ids.
        slices: of a DICOM series, else empty.
        problem: why it cannot be read, known before trying; else empty.
    """

    path: Path
    root: Path
    stem: str
    name: tuple[str, ...]
    slices: tuple[DicomSlice, ...] = ()
    problem: str = ""

    def files(self) -> list[Path]:
        """Every file that its voxels and geometry come from, as far as the name tells."""
        if self.slices:
            return [one.file for one in self.slices]
        if split_suffix(self.path)[1] in (".hdr", ".hdr.gz"):
            return [self.path, image_of_pair(self.path)]
        return [self.path]

    def size_bytes(self) -> int:
        """Size of its files on disk, for the progress bar; what cannot be seen counts 0."""
        files = [one.file for one in self.slices] or [self.path]
        return sum(file.stat().st_size for file in files if file.is_file())

    def read(self, modality: str) -> Scan:
        """Read it with the reader of its kind.

        Raises:
            VolumeError: as the readers.
        """
        if self.slices:
            return read_series(self.slices, name=self.stem, modality=modality)
        return read_file(self.path)


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a search turned up.

    Attributes:
        sources: sorted by path.
        skipped: number of files by kind that are no scans, such as {".txt": 3}.
    """

    sources: tuple[Source, ...]
    skipped: dict[str, int]


def read_file(path: Path) -> Scan:
    """Read one file by its suffix, which READERS must have.

    Raises:
        VolumeError: as the readers.
    """
    return READERS[split_suffix(path)[1]](path)


def split_suffix(path: Path) -> tuple[str, str]:
    """Stem and known suffix ("" if unknown) of a file name; case does not count."""
    for suffix in READERS:
        if path.name.lower().endswith(suffix):
            return path.name[: -len(suffix)], suffix
    return path.stem, ""


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
                sources.setdefault(file, [_file_source(file, root)])
            elif not os.access(file, os.R_OK):
                skipped["unreadable"] += 1
            elif is_dicom(file):
                folders[file.parent].append(file)
            elif not file.name.lower().endswith(_VOXEL_FILES):
                skipped[file.suffix.lower() or "no suffix"] += 1
        for folder, files in folders.items():
            sources.setdefault(folder, _series_sources(folder, files, root, skipped))
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


def _file_source(file: Path, root: Path) -> Source:
    stem = split_suffix(file)[0]
    return Source(path=file, root=root, stem=stem, name=(root.name, *file.relative_to(root).parts[:-1], stem))


def _series_sources(folder: Path, files: Sequence[Path], root: Path, skipped: dict[str, int]) -> list[Source]:
    """A source per series of one folder; a broken slice may belong to any of them, so it spoils them all."""
    found = sort_series(files)
    if found.other:
        skipped["DICOM without image"] += found.other
    problem = ""
    if found.broken:
        problem = (
            f"{folder.name}: {len(found.broken)} DICOM file(s) of this folder cannot be read, {found.broken[0]} first: "
            "truncated or corrupt, and perhaps a slice of this volume; copy them again, or take them out if they are none"
        )
    parts = (root.name, *folder.relative_to(root).parts)
    sources = []
    for number, slices in enumerate(found.series, 1):
        stem = folder.name if len(found.series) == 1 else f"{folder.name}_{number}"
        sources.append(Source(path=folder, root=root, stem=stem, name=(*parts[:-1], stem), slices=slices, problem=problem))
    if problem and not sources:
        sources.append(Source(path=folder, root=root, stem=folder.name, name=parts, problem=problem))
    return sources
