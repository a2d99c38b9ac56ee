"""CT-ORG and LiTS: volume-N.nii.gz beside labels-N.nii.gz or segmentation-N.nii.gz."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from augserver.ingest.layouts.arrangement import Arrangement, by_stem, left_labels, require_scans, with_label_file
from augserver.ingest.listing import Listing
from augserver.ingest.readers.formats import split_suffix
from augserver.ingest.sources import Source, file_source

CT_ORG = {1: "liver", 2: "bladder", 3: "lungs", 4: "kidneys", 5: "bone", 6: "brain"}
LITS = {1: "liver", 2: "tumor"}
_SCAN = re.compile(r"volume-(\d+)")


def is_ct_org(listing: Listing) -> bool:
    return _has_pair(listing, "labels")


def is_lits(listing: Listing) -> bool:
    return _has_pair(listing, "segmentation")


def arrange_ct_org(listing: Listing, classes: Mapping[int, str]) -> Arrangement:
    """Scans volume-N with labels-N in the same folder, at any depth."""
    return _arrange(listing, "labels", CT_ORG, "ct-org")


def arrange_lits(listing: Listing, classes: Mapping[int, str]) -> Arrangement:
    """Scans volume-N with segmentation-N in the same folder, at any depth."""
    return _arrange(listing, "segmentation", LITS, "lits")


def _has_pair(listing: Listing, label: str) -> bool:
    stems = {split_suffix(file)[0] for file in listing.files if split_suffix(file)[1]}
    return any(_SCAN.fullmatch(stem) for stem in stems) and any(stem.startswith(f"{label}-") for stem in stems)


def _arrange(listing: Listing, label: str, classes: dict[int, str], layout: str) -> Arrangement:
    scans: list[Source] = []
    left: dict[Path, str] = {}
    for files in listing.by_folder().values():
        stems = by_stem(files)
        labels = {stem: found for stem, found in stems.items() if re.fullmatch(rf"{label}-\d+", stem)}
        here = [
            with_label_file(file_source(file, listing.root), labels.get(f"{label}-{number[1]}", []), f"{label}-{number[1]}")
            for stem, found in stems.items()
            if (number := _SCAN.fullmatch(stem))
            for file in found
        ]
        scans += here
        left |= left_labels(labels, here)
    return Arrangement(
        scans=require_scans(tuple(sorted(scans, key=lambda scan: scan.path)), layout, "files volume-N"),
        collection_classes=classes,
        collection_modality="ct",
        left=left,
    )
