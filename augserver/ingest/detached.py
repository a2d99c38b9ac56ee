"""Which files hold the voxels of a header beside them: the .img of a .hdr, and what the header of an NRRD or MetaImage names."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

from augserver.errors import VolumeError
from augserver.ingest.readers.formats import files_of, split_suffix

VOXEL_FILES = (".img", ".img.gz", ".img.bz2", ".raw", ".raw.gz", ".zraw")
_NAMING = (".hdr", ".hdr.gz", ".hdr.bz2", ".mhd", ".mha", ".nhdr", ".nrrd")
_HEAD_BYTES = 1 << 16  # of a header that is text


def voxel_files(headers: Iterable[Path], files: Iterable[Path]) -> Mapping[Path, list[Path]]:
    """Header -> the files beside or below it that hold its voxels.

    Args:
        headers: files of any format.
        files: others, that may belong to them.
    """
    others = set(files)
    candidates: dict[Path, list[Path]] = defaultdict(list)
    for file in others:
        candidates[file.parent].append(file)
        candidates[file.parent.parent].append(file)
    owned: dict[Path, list[Path]] = {}
    for header in headers:
        stem, suffix = split_suffix(header)
        beside = candidates.get(header.parent, []) if suffix in _NAMING else []
        if not beside:
            continue
        try:
            found = [file for file in files_of(header) if file in others]
        except (VolumeError, OSError):  # it is refused when it is read; what it may name is its own all the same
            text = _head(header)
            several = b"LIST" in text or b"%" in text
            found = [
                file
                for file in beside
                if file.name.encode() in text
                or file.name in (f"{stem}.img", f"{stem}.img.gz")
                or (several and file.name.lower().endswith(VOXEL_FILES))
            ]
        if found:
            owned[header] = sorted(found)
    return owned


def _head(header: Path) -> bytes:
    try:
        with header.open("rb") as file:
            return file.read(_HEAD_BYTES)
    except OSError:
        return b""
