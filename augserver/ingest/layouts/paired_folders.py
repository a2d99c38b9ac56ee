"""Collections with scans in one folder and labels in another beside it: BTCV and FLARE.

BTCV    img/img0001.nii.gz, label/label0001.nii.gz, or the number alone; imagesTr/img0001.nii.gz, labelsTr/label0001.nii.gz
FLARE   images/X_0000.nii.gz, labels/X.nii.gz (2022); imagesTr2200, labelsTr2200 (2023); TrainingImg, TrainingMask (2021)
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from augserver.ingest.layouts.arrangement import Arrangement, by_stem, left_labels, require_scans, with_label_file
from augserver.ingest.layouts.dataset_json import NAME, DatasetJson
from augserver.ingest.listing import Listing
from augserver.ingest.sources import Source, file_source

BTCV = {
    1: "spleen", 2: "right kidney", 3: "left kidney", 4: "gallbladder", 5: "esophagus", 6: "liver", 7: "stomach", 8: "aorta",
    9: "inferior vena cava", 10: "portal vein and splenic vein", 11: "pancreas", 12: "right adrenal gland", 13: "left adrenal gland",
}  # fmt: skip
FLARE_2021 = {1: "liver", 2: "kidney", 3: "spleen", 4: "pancreas"}
FLARE_2022 = {
    1: "liver", 2: "right kidney", 3: "spleen", 4: "pancreas", 5: "aorta", 6: "inferior vena cava", 7: "right adrenal gland",
    8: "left adrenal gland", 9: "gallbladder", 10: "esophagus", 11: "stomach", 12: "duodenum", 13: "left kidney", 14: "tumor",
}  # fmt: skip
_NO_LABELS = "scan without a folder of labels"
_BTCV_SCAN, _BTCV_LABEL = re.compile(r"(?:img)?(\d+)"), re.compile(r"(?:label)?(\d+)")
_FLARE_2021_FOLDERS = ("TrainingImg", "TrainingMask")
_FLARE_SCAN = re.compile(r"(.+)_0000")
_ANY = re.compile("(.+)")


def is_btcv(listing: Listing) -> bool:
    if listing.root / NAME in listing.files:  # the Decathlon's, which names the labels
        return False
    return any(_has_pair(scans, labels, _BTCV_SCAN, _BTCV_LABEL) for scans, labels in _btcv_folders(listing))


def is_flare(listing: Listing) -> bool:
    if listing.root / NAME in listing.files:  # nnU-Net
        return False
    pairs = list(_flare_folders(listing))
    one_channel = all(_FLARE_SCAN.fullmatch(stem) for scans, _ in pairs for stem in by_stem(scans))
    return one_channel and any(_has_pair(scans, labels, _FLARE_SCAN, _ANY) for scans, labels in pairs)


def arrange_btcv(listing: Listing, classes: Mapping[int, str]) -> Arrangement:
    """Scans in a folder img, labels of the same number in the folder label beside it, at any depth."""
    scans: list[Source] = []
    left: dict[Path, str] = {}
    for files, label_files in _btcv_folders(listing):
        numbers: dict[str, list[Path]] = {}
        for stem, found in by_stem(label_files).items():
            if match := _BTCV_LABEL.fullmatch(stem):
                numbers.setdefault(match[1], []).extend(found)
        here = [
            with_label_file(file_source(file, listing.root), numbers.get(match[1], []), f"label{match[1]}")
            for stem, found in by_stem(files).items()
            if (match := _BTCV_SCAN.fullmatch(stem))
            for file in found
        ]
        if label_files:
            scans += here
            left |= left_labels(numbers, here)
        else:
            left |= {scan.path: _NO_LABELS for scan in here}
    return Arrangement(
        scans=require_scans(tuple(scans), "btcv", "folders img with imgNNNN beside label"),
        collection_classes=BTCV,
        collection_modality="ct",
        left=left,
    )


def arrange_flare(listing: Listing, classes: Mapping[int, str]) -> Arrangement:
    """Scans X_0000 (or X) in a folder of images, labels X in the folder of labels beside it, at any depth."""
    scans: list[Source] = []
    left: dict[Path, str] = {}
    for files, label_files in _flare_folders(listing):
        labels = by_stem(label_files)
        here = []
        for stem, found in by_stem(files).items():
            match = _FLARE_SCAN.fullmatch(stem)
            name = match[1] if match and stem not in labels else stem
            for source in (file_source(file, listing.root) for file in found):
                source = replace(source, stem=name, name=(*source.name[:-1], name))
                here.append(with_label_file(source, labels.get(name, []), name))
        if label_files:
            scans += here
            left |= left_labels(labels, here)
        else:
            left |= {scan.path: _NO_LABELS for scan in here}
    first = any(file.parent.name in _FLARE_2021_FOLDERS for file in listing.files)
    info = DatasetJson.read(listing.root)
    return Arrangement(
        scans=require_scans(tuple(scans), "flare", "folders images with X_0000 beside labels"),
        classes=info.classes() if "labels" in info.content and not classes else {},
        collection_classes=FLARE_2021 if first else FLARE_2022,
        collection_modality="ct",
        left=left,
    )


def _btcv_folders(listing: Listing) -> Iterator[tuple[list[Path], list[Path]]]:
    """The files of each folder of scans, and of the folder of labels beside it."""
    folders = listing.by_folder()
    for folder, files in folders.items():
        if folder.name == "img":
            yield files, folders.get(folder.parent / "label", [])
        elif folder.name == "imagesTr":
            scans, labels = (
                [each for each in found if each.name.startswith(start)]
                for found, start in ((files, "img"), (folders.get(folder.parent / "labelsTr", []), "label"))
            )
            yield scans, labels


def _flare_folders(listing: Listing) -> Iterator[tuple[list[Path], list[Path]]]:
    folders = listing.by_folder()
    scans, labels = _FLARE_2021_FOLDERS
    for folder, files in folders.items():
        if folder.name == scans:
            yield files, folders.get(folder.parent / labels, [])
        elif folder.name.startswith("images"):
            yield files, folders.get(folder.parent / f"labels{folder.name.removeprefix('images')}", [])


def _has_pair(scans: list[Path], labels: list[Path], scan: re.Pattern[str], label: re.Pattern[str]) -> bool:
    named = {match[1] for stem in by_stem(scans) if (match := scan.fullmatch(stem))}
    return not named.isdisjoint({match[1] for stem in by_stem(labels) if (match := label.fullmatch(stem))})
