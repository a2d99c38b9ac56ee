"""CT-ORG and LiTS: volume-N.nii.gz with labels-N.nii.gz or segmentation-N.nii.gz, beside it or in another folder."""

from __future__ import annotations

import re
from collections.abc import Mapping

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
    """Scans volume-N with labels-N in the same folder, or in another if the number is unique; at any depth."""
    return _arrange(listing, "labels", CT_ORG, "ct-org")


def arrange_lits(listing: Listing, classes: Mapping[int, str]) -> Arrangement:
    """Scans volume-N with segmentation-N in the same folder, or in another if the number is unique; at any depth."""
    return _arrange(listing, "segmentation", LITS, "lits")


def _has_pair(listing: Listing, label: str) -> bool:
    stems = {split_suffix(file)[0] for file in listing.files if split_suffix(file)[1]}
    return any(_SCAN.fullmatch(stem) for stem in stems) and any(stem.startswith(f"{label}-") for stem in stems)


def _arrange(listing: Listing, label: str, classes: dict[int, str], layout: str) -> Arrangement:
    stems = by_stem(listing.files)
    labels = {stem: files for stem, files in stems.items() if re.fullmatch(rf"{label}-\d+", stem)}
    scans: list[Source] = []
    for stem, files in stems.items():
        number = _SCAN.fullmatch(stem)
        for file in files if number else ():
            wanted = f"{label}-{number[1]}" if number else ""
            everywhere = labels.get(wanted, [])
            beside = [each for each in everywhere if each.parent == file.parent]
            # Elsewhere it is this scan's only if no other has its number.
            found = beside or (everywhere if len(files) == 1 else [])
            scans.append(with_label_file(file_source(file, listing.root), found, wanted))
    return Arrangement(
        scans=require_scans(tuple(sorted(scans, key=lambda scan: scan.path)), layout, "files volume-N"),
        collection_classes=classes,
        collection_modality="ct",
        left=left_labels(labels, scans),
    )
