"""What a scan's file, its name or the file beside it says of its modality, where no DICOM header does. No voxel is read here."""

from __future__ import annotations

import json
import re
from pathlib import Path

from augserver.ingest.readers.formats import split_suffix
from augserver.ingest.sources import Said, Source

_HEAD_BYTES = 1 << 14
_META_IMAGE = re.compile(rb"^Modality\s*=\s*MET_MOD_(CT|MR)", re.MULTILINE)
_NRRD = re.compile(rb"^(?:modality\s*:=\s*(CT|MR|DWMRI)|DICOM\.?_?Modality\s*:=\s*(CT|MR))", re.MULTILINE | re.IGNORECASE)
_WORDS = {
    "mr": {"mr", "mri", "t1w", "t2w", "flair", "bold", "dwi", "t1ce", "t1c", "t1gd", "pdw"},
    "ct": {"ct", "cbct", "ldct", "ctac", "cta", "cect"},
}
_ECHO = re.compile(rb"\bTE=[\d.]+")  # dcm2niix writes it into the description of MR alone
_DESCRIPTION = slice(148, 228)  # of NIfTI-1


def said_of(source: Source) -> Said | None:
    """What is said of a scan: by its dataset, its header, the JSON beside it, or words of its name; None if nothing, or both."""
    if source.says is not None or source.slices:
        return source.says
    stem, suffix = split_suffix(source.path)
    return _by_header(source.path, suffix) or _by_sidecar(source.path.with_name(f"{stem}.json")) or _by_name(stem)


def _by_header(path: Path, suffix: str) -> Said | None:
    if suffix in (".mha", ".mhd"):
        match = _META_IMAGE.search(_head(path))
        return Said(match[1].decode().lower(), "its header says so") if match else None
    if suffix in (".nrrd", ".nhdr"):
        match = _NRRD.search(_head(path).split(b"\n\n")[0])
        return Said("ct" if b"CT" in match[0].upper() else "mr", "its header says so") if match else None
    if suffix in (".nii", ".hdr") and _ECHO.search(_head(path)[_DESCRIPTION]):
        return Said("mr", "its description gives an echo time")
    return None


def _by_sidecar(path: Path) -> Said | None:
    """Of the JSON that dcm2niix and BIDS put beside a file."""
    try:
        content = json.loads(path.read_bytes()[: 1 << 20])
    except (OSError, ValueError):
        return None
    modality = str(content.get("Modality", "")).lower() if isinstance(content, dict) else ""
    return Said(modality, "the JSON beside it says so") if modality in ("ct", "mr") else None


def _by_name(stem: str) -> Said | None:
    words = set(re.split(r"[\W_]+", stem.lower()))
    found = [modality for modality, known in _WORDS.items() if words & known]
    return Said(found[0], "its name says so", sure=False) if len(found) == 1 else None


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_HEAD_BYTES)
    except OSError:
        return b""  # it is refused when it is read
