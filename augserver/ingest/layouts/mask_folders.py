"""TotalSegmentator: a folder per case with ct.nii.gz or mri.nii.gz, and segmentations/ with a mask per class."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from augserver.errors import ConfigError
from augserver.ingest.label_source import LabelMasks
from augserver.ingest.layouts.arrangement import Arrangement, by_stem, require_scans, scan_of_case
from augserver.ingest.listing import Listing
from augserver.ingest.sources import Said, Source

_SCANS = {"ct": "ct", "mri": "mr"}  # stem -> modality
_BACKGROUND = "background"
_MASKS = "segmentations"


def is_mask_folders(listing: Listing) -> bool:
    return any(scans and masks for scans, masks in _cases(listing).values())


def arrange_mask_folders(listing: Listing, classes: Mapping[int, str]) -> Arrangement:
    """Cases of one folder each; their masks are merged into one label.

    Args:
        classes: label id -> name of the mask; empty: the names that occur, in alphabetical order, from 1. A mask called "background"
            is left out: it says nothing that the others do not.
    Raises:
        ConfigError: more masks than ids, or masks without a class.
    """
    cases = _cases(listing)
    names = sorted({name for _, masks in cases.values() for name in masks if name != _BACKGROUND})
    if not classes:
        classes = dict(enumerate(names, 1))
    ids = {name: key for key, name in classes.items() if key}
    unknown = [name for name in names if name not in ids]
    if unknown or len(names) > 255:
        raise ConfigError(f"--layout totalsegmentator: {len(names)} masks, of which {unknown[:3]} have no id 1 to 255 in --classes")
    scans = tuple(_source(case, listing.root, *cases[case], ids) for case in sorted(cases))
    return Arrangement(scans=require_scans(scans, "totalsegmentator", f"folders with ct.nii.gz and {_MASKS}"), classes=classes)


def _cases(listing: Listing) -> dict[Path, tuple[list[Path], dict[str, list[Path]]]]:
    """Folder of a case -> its scans, and name of a mask -> its files."""
    folders = {folder: by_stem(files) for folder, files in listing.by_folder().items()}
    found = {}
    for case in {folder.parent if folder.name == _MASKS else folder for folder in folders}:
        if not case.is_relative_to(listing.root):  # the folder of masks itself was named
            continue
        stems = folders.get(case, {})
        scans = [file for stem in _SCANS for file in stems.get(stem, [])]
        masks = dict(folders.get(case / _MASKS, {}))
        if scans or masks:
            found[case] = (scans, masks)
    return found


def _source(case: Path, root: Path, scans: list[Path], masks: dict[str, list[Path]], ids: Mapping[str, int]) -> Source:
    source = scan_of_case(case, root, scans, "ct.nii.gz or mri.nii.gz")
    stem = next((stem for stem in _SCANS if scans and scans[0].name.startswith(f"{stem}.")), "")
    problem = source.problem
    if not masks:
        problem = problem or f"{case.name}: no masks found; looked in its folder {_MASKS}; add them, or take the case out"
    for name, files in masks.items():
        if len(files) > 1:
            problem = problem or f"{case.name}: has {len(files)} masks called {name}; leave one"
    label = LabelMasks({ids[name]: files[0] for name, files in masks.items() if name in ids})
    says = Said(_SCANS[stem], f"its file is called {stem}") if stem else None
    return replace(source, label=label, problem=problem, says=says)
