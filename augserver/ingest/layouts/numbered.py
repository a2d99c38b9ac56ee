"""CT-ORG and LiTS: volume-N.nii.gz beside labels-N.nii.gz or segmentation-N.nii.gz."""

from __future__ import annotations

import re
from pathlib import Path

from augserver.ingest.layouts.arrangement import Arrangement, require_scans, with_label_file
from augserver.ingest.sources import Source, file_source, find_sources

CT_ORG = {1: "liver", 2: "bladder", 3: "lungs", 4: "kidneys", 5: "bone", 6: "brain"}
LITS = {1: "liver", 2: "tumor"}
_SCAN = re.compile(r"volume-(\d+)")


def is_ct_org(root: Path) -> bool:
    return _has_pair(root, "labels")


def is_lits(root: Path) -> bool:
    return _has_pair(root, "segmentation")


def arrange_ct_org(root: Path) -> Arrangement:
    """Scans volume-N with labels-N in the same folder, at any depth."""
    return _arrange(root, "labels", CT_ORG, "ct-org")


def arrange_lits(root: Path) -> Arrangement:
    """Scans volume-N with segmentation-N in the same folder, at any depth."""
    return _arrange(root, "segmentation", LITS, "lits")


def _has_pair(root: Path, label: str) -> bool:
    return root.is_dir() and any(_SCAN.match(file.name) for file in root.rglob("volume-*")) and any(root.rglob(f"{label}-*"))


def _arrange(root: Path, label: str, classes: dict[int, str], layout: str) -> Arrangement:
    found = find_sources([root])
    scans: list[Source] = []
    others = 0
    for source in found.sources:
        number = _SCAN.fullmatch(source.stem)
        if number:
            scans.append(with_label_file(file_source(source.path, root), source.path.parent, f"{label}-{number[1]}"))
        elif not source.stem.startswith(f"{label}-"):
            others += 1
    skipped = found.skipped | ({"other scans": others} if others else {})
    return Arrangement(scans=require_scans(tuple(scans), layout, "files volume-N"), collection_classes=classes, skipped=skipped)
