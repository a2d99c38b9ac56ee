"""Which files hold the voxels of a header beside them: the .img of a .hdr, and what a .mhd or .nhdr names."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

from augserver.ingest.readers.formats import split_suffix

VOXEL_FILES = (".img", ".img.gz", ".raw", ".raw.gz", ".zraw")
_PAIRS = {".hdr": (".img", ".img.gz"), ".hdr.gz": (".img", ".img.gz")}
_NAMING = (".mhd", ".nhdr")
_HEAD_BYTES = 1 << 16  # of a header that is text


def voxel_files(headers: Iterable[Path], files: Iterable[Path]) -> Mapping[Path, list[Path]]:
    """Header -> the files beside or below it that hold its voxels.

    Args:
        headers: files of any format.
        files: others, that may belong to them.
    """
    candidates: dict[Path, list[Path]] = defaultdict(list)
    for file in files:
        candidates[file.parent].append(file)
        candidates[file.parent.parent].append(file)
    owned: dict[Path, list[Path]] = {}
    for header in headers:
        stem, suffix = split_suffix(header)
        beside = candidates.get(header.parent, []) if suffix in _PAIRS or suffix in _NAMING else []
        if not beside:
            continue
        if suffix in _PAIRS:
            found = [file for file in beside if file.parent == header.parent and file.name in {stem + each for each in _PAIRS[suffix]}]
        else:
            text = _head(header)
            # A list or a pattern of file names is not followed: all voxel files beside such a header count as its own.
            several = b"LIST" in text or b"%" in text
            found = [file for file in beside if file.name.encode() in text or (several and file.name.lower().endswith(VOXEL_FILES))]
        if found:
            owned[header] = found
    return owned


def _head(header: Path) -> bytes:
    try:
        with header.open("rb") as file:
            return file.read(_HEAD_BYTES)
    except OSError:
        return b""  # it is refused when it is read
