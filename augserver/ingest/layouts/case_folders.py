"""Collections with a folder per case, or files of one case told apart by the ends of their names: KiTS, BraTS, ACDC.

KiTS    case_00000/imaging.nii.gz, segmentation.nii.gz (in KiTS21 aggregated_MAJ_seg.nii.gz), instances/...
BraTS   X_flair, X_t1, X_t1ce, X_t2, X_seg (2018 to 2021), or X-t2f, X-t1n, X-t1c, X-t2w, X-seg (from 2023)
ACDC    patient001_frame01, patient001_frame01_gt, patient001_4d
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from augserver.errors import ConfigError
from augserver.ingest.layouts.arrangement import (
    Arrangement,
    by_stem,
    left_labels,
    require_scans,
    scan_of_case,
    told_modality,
    with_label_file,
)
from augserver.ingest.listing import Listing
from augserver.ingest.readers.formats import split_suffix
from augserver.ingest.sources import Source, file_source

KITS = {1: "kidney", 2: "tumor", 3: "cyst"}
BRATS_2018 = {1: "necrotic and non-enhancing tumor core", 2: "peritumoral edema", 4: "enhancing tumor"}
BRATS_2023 = {1: "necrotic tumor core", 2: "surrounding non-enhancing FLAIR hyperintensity", 3: "enhancing tumor"}
ACDC = {1: "right ventricle", 2: "myocardium", 3: "left ventricle"}

_KITS_SCAN, _KITS_LABELS = "imaging", ("segmentation", "aggregated_MAJ_seg")
_KITS_PARTS = ("instances", "segmentations")
# In the order of the channels: T1, T1 with contrast, T2, FLAIR.
_BRATS_FILES = (("t1", "t1ce", "t2", "flair"), ("t1n", "t1c", "t2w", "t2f"))
_BRATS = re.compile(r"(.+)[_-](t1|t1ce|t2|flair|t1n|t1c|t2w|t2f|seg)", re.IGNORECASE)
_ACDC = re.compile(r"patient\d+_frame\d+")
_ACDC_4D = re.compile(r"patient\d+_4d")


def is_kits(listing: Listing) -> bool:
    folders = [by_stem(files) for files in listing.by_folder().values()]
    return any(_KITS_SCAN in stems and any(label in stems for label in _KITS_LABELS) for stems in folders)


def is_brats(listing: Listing) -> bool:
    return any("seg" in files and any(set(names) <= files.keys() for names in _BRATS_FILES) for files in _brats_cases(listing).values())


def is_acdc(listing: Listing) -> bool:
    stems = {split_suffix(file)[0] for file in listing.files}
    return any(_ACDC.fullmatch(stem) and f"{stem}_gt" in stems for stem in stems)


def arrange_kits(listing: Listing, classes: Mapping[int, str]) -> Arrangement:
    """Folders with imaging and segmentation, at any depth; masks of single instances are counted."""
    scans = []
    left: dict[Path, str] = {}
    for folder, files in listing.by_folder().items():
        if folder.name in _KITS_PARTS and folder != listing.root:
            left |= {file: "mask of one instance" for file in files if split_suffix(file)[1]}
            continue
        stems = by_stem(files)
        labels = next((stems[name] for name in _KITS_LABELS if name in stems), [])
        if _KITS_SCAN in stems or labels:
            source = scan_of_case(folder, listing.root, stems.get(_KITS_SCAN, []), f"{_KITS_SCAN}.nii.gz")
            scans.append(with_label_file(source, labels, " or ".join(_KITS_LABELS)))
    found = require_scans(tuple(sorted(scans, key=lambda scan: scan.name)), "kits", f"folders with {_KITS_SCAN}.nii.gz")
    return Arrangement(scans=found, collection_classes=KITS, collection_modality="ct", left=left)


def arrange_brats(listing: Listing, classes: Mapping[int, str]) -> Arrangement:
    """Cases of four channels, T1, T1 with contrast, T2 and FLAIR, and a label.

    Raises:
        ConfigError: names of both notations, whose ids mean different classes.
    """
    cases = _brats_cases(listing)
    notations = {number for files in cases.values() for number, names in enumerate(_BRATS_FILES) if not files.keys().isdisjoint(names)}
    if len(notations) > 1:
        raise ConfigError(
            "--layout brats: there are cases of 2018 to 2021 (X_t1ce) and from 2023 on (X-t1c), whose label ids mean different classes; "
            "ingest them one after the other"
        )
    names = _BRATS_FILES[max(notations, default=0)]
    scans = [_brats_source(folder, stem, files, names, listing.root) for (folder, stem), files in sorted(cases.items())]
    found = require_scans(tuple(scans), "brats", f"files X_{names[0]}, X_{names[1]}, X_{names[2]}, X_{names[3]} and X_seg")
    return Arrangement(
        scans=told_modality(found, "mr", f"its files are called {names[0]}, {names[1]}, {names[2]} and {names[3]}"),
        collection_classes=(BRATS_2018, BRATS_2023)[max(notations, default=0)],
        collection_modality="mr",
    )


def arrange_acdc(listing: Listing, classes: Mapping[int, str]) -> Arrangement:
    """Frames patientNNN_frameNN with patientNNN_frameNN_gt in the same folder, at any depth; the 4-D series are counted."""
    scans: list[Source] = []
    left: dict[Path, str] = {}
    for files in listing.by_folder().values():
        stems = by_stem(files)
        labels = {stem: found for stem, found in stems.items() if stem.endswith("_gt") and _ACDC.fullmatch(stem.removesuffix("_gt"))}
        here = [
            with_label_file(file_source(file, listing.root), labels.get(f"{stem}_gt", []), f"{stem}_gt")
            for stem, found in stems.items()
            if _ACDC.fullmatch(stem)
            for file in found
        ]
        scans += here
        left |= left_labels(labels, here) | {
            file: "4-D series" for stem, found in stems.items() if _ACDC_4D.fullmatch(stem) for file in found
        }
    found = require_scans(tuple(sorted(scans, key=lambda scan: scan.path)), "acdc", "files patientNNN_frameNN")
    return Arrangement(scans=told_modality(found, "mr", "ACDC is cine MR"), collection_classes=ACDC, collection_modality="mr", left=left)


def _brats_cases(listing: Listing) -> dict[tuple[Path, str], dict[str, list[Path]]]:
    """(folder, stem of the case) -> end of a name -> files."""
    cases: dict[tuple[Path, str], dict[str, list[Path]]] = defaultdict(dict)
    for folder, files in listing.by_folder().items():
        for stem, found in by_stem(files).items():
            match = _BRATS.fullmatch(stem)
            if match:
                cases[folder, match[1]].setdefault(match[2].lower(), []).extend(found)
    return cases


def _brats_source(folder: Path, stem: str, files: dict[str, list[Path]], names: tuple[str, ...], root: Path) -> Source:
    channels = [file for name in names for file in files.get(name, [])]
    first = channels[0] if channels else files["seg"][0]
    source = replace(file_source(first, root), stem=stem, channels=tuple(channels[1:]))
    source = replace(source, name=(*source.name[:-1], stem))
    missing = [name for name in names if name not in files]
    double = [name for name in (*names, "seg") if len(files.get(name, ())) > 1]
    problem = ""
    if missing:
        problem = f"{stem}: has no {', '.join(missing)}; wanted are {', '.join(names)} and seg; add them, or take the case out"
    elif double:
        problem = f"{stem}: has {double[0]} in two formats; leave one"
    return with_label_file(replace(source, problem=problem), files.get("seg", []), f"{stem} with seg at its end")
