"""TotalSegmentator: a folder per case with ct.nii.gz or mri.nii.gz, and segmentations/ with a mask per class."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from augserver.errors import ConfigError
from augserver.ingest.label_source import LabelMasks
from augserver.ingest.layouts.arrangement import Arrangement, require_scans
from augserver.ingest.readers.formats import split_suffix
from augserver.ingest.sources import file_source

_SCANS = ("ct", "mri")
_MASKS = "segmentations"


def is_mask_folders(root: Path) -> bool:
    return root.is_dir() and any(_scan_of(case) is not None and (case / _MASKS).is_dir() for case in root.iterdir() if case.is_dir())


def arrange_mask_folders(root: Path, classes: Mapping[int, str]) -> Arrangement:
    """Cases of one folder each; their masks are merged into one label.

    Args:
        classes: label id -> name of the mask; empty: the names that occur, in alphabetical order, from 1.
    Raises:
        ConfigError: more masks than ids, or masks without a class.
    """
    cases = sorted(case for case in root.iterdir() if case.is_dir() and not case.name.startswith(".") and _scan_of(case) is not None)
    masks = {case: _masks_of(case) for case in cases}
    names = sorted({name for found in masks.values() for name in found})
    if not classes:
        classes = dict(enumerate(names, 1))
    ids = {name: key for key, name in classes.items()}
    unknown = [name for name in names if name not in ids]
    if unknown or len(names) > 255:
        raise ConfigError(f"--layout totalsegmentator: {len(names)} masks, of which {unknown[:3]} have no id 1 to 255 in --classes")
    scans = []
    for case in cases:
        scan = _scan_of(case)
        if scan is not None:
            source = replace(file_source(scan, root), stem=case.name, name=(root.name, case.name))
            label = LabelMasks({ids[name]: path for name, path in masks[case].items()})
            problem = "" if masks[case] else f"{case.name}: no masks found; looked in its folder {_MASKS}; add them, or take the case out"
            scans.append(replace(source, label=label, problem=problem))
    return Arrangement(scans=require_scans(tuple(scans), "totalsegmentator", f"folders with ct.nii.gz and {_MASKS}"), classes=classes)


def _scan_of(case: Path) -> Path | None:
    return next((file for name in _SCANS for suffix in (".nii.gz", ".nii") if (file := case / (name + suffix)).is_file()), None)


def _masks_of(case: Path) -> dict[str, Path]:
    folder = case / _MASKS
    files = sorted(folder.iterdir()) if folder.is_dir() else []
    return {split_suffix(file)[0]: file for file in files if split_suffix(file)[1] and not file.name.startswith(".")}
