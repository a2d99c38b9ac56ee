"""Medical Segmentation Decathlon, AMOS, WORD and nnU-Net: imagesTr, labelsTr and dataset.json.

The Decathlon keeps channels in a fourth axis, nnU-Net in files of their own: case_0000.nii.gz, case_0001.nii.gz. AMOS and WORD number
their cases so (amos_0004.nii.gz): whether a number is a channel is told by the names of the labels, then by dataset.json.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from augserver.ingest.layouts.arrangement import Arrangement, by_stem, left_labels, require_scans, told_modality, with_label_file
from augserver.ingest.layouts.dataset_json import NAME, DatasetJson
from augserver.ingest.listing import Listing
from augserver.ingest.readers.formats import split_suffix
from augserver.ingest.sources import Said, Source, file_source

AMOS = {
    1: "spleen", 2: "right kidney", 3: "left kidney", 4: "gall bladder", 5: "esophagus", 6: "liver", 7: "stomach", 8: "aorta",
    9: "postcava", 10: "pancreas", 11: "right adrenal gland", 12: "left adrenal gland", 13: "duodenum", 14: "bladder",
    15: "prostate/uterus",
}  # fmt: skip
WORD = {
    1: "liver", 2: "spleen", 3: "left kidney", 4: "right kidney", 5: "stomach", 6: "gallbladder", 7: "esophagus", 8: "pancreas",
    9: "duodenum", 10: "colon", 11: "intestine", 12: "adrenal", 13: "rectum", 14: "bladder", 15: "left head of femur",
    16: "right head of femur",
}  # fmt: skip
_IMAGES, _LABELS = "imagesTr", "labelsTr"
_CHANNEL = re.compile(r"(.+)_(\d{4})")
_AMOS_MR = re.compile(r"amos_0[5-9]\d\d")  # 0001 to 0500 are CT
_AMOS_LAST_CT = "amos_0500"


def is_decathlon(listing: Listing) -> bool:
    return _is_image_set(listing) and not _numbers_are_channels(listing)


def is_nnunet(listing: Listing) -> bool:
    return _is_image_set(listing) and _numbers_are_channels(listing)


def arrange_decathlon(listing: Listing, classes: Mapping[int, str]) -> Arrangement:
    """Cases imagesTr/NAME with labelsTr/NAME; a fourth axis is channels."""
    return _whole_files(listing, classes or DatasetJson.read(listing.root).classes(), "decathlon")


def arrange_amos(listing: Listing, classes: Mapping[int, str]) -> Arrangement:
    """AMOS and WORD: as the Decathlon, with the collection's own class names if dataset.json is absent."""
    info = DatasetJson.read(listing.root)
    if not classes and "labels" in info.content:
        classes = info.classes()
    found = _whole_files(listing, classes, "amos")
    stems = [scan.stem for scan in found.scans]
    scans = tuple(
        replace(scan, says=Said("mr", "AMOS numbers its MR scans from 0501", sure=False))
        if _AMOS_MR.fullmatch(scan.stem) and scan.stem != _AMOS_LAST_CT
        else scan
        for scan in found.scans
    )
    return replace(found, scans=scans, collection_classes=WORD if all(stem.startswith("word_") for stem in stems) else AMOS)


def arrange_nnunet(listing: Listing, classes: Mapping[int, str]) -> Arrangement:
    """Cases imagesTr/NAME_0000, NAME_0001 ... with labelsTr/NAME."""
    root, info = listing.root, DatasetJson.read(listing.root)
    labels = by_stem(_in_folder(listing, _LABELS))
    cases: dict[str, dict[int, Source]] = defaultdict(dict)
    scans = []
    for source in _images(listing):
        match = _CHANNEL.fullmatch(source.stem)
        if match is None:
            problem = f"{source.stem}: has no channel number; wanted is {source.stem}_0000; rename it, or pass --layout decathlon"
            scans.append(replace(source, problem=problem))
        elif int(match[2]) in cases[match[1]]:
            scans.append(replace(source, problem=f"{source.stem}: is there in two formats; leave one"))
        else:
            cases[match[1]][int(match[2])] = source
    for name, channels in cases.items():
        first = channels[min(channels)]
        source = replace(
            first,
            stem=name,
            name=(*first.name[:-1], name),
            channels=tuple(channels[key].path for key in sorted(channels) if key != min(channels)),
        )
        if sorted(channels) != list(range(len(channels))):
            source = replace(
                source,
                problem=f"{name}: has the channels {sorted(channels)}, must be 0 to {len(channels) - 1}; add the missing ones"
                + ("" if name in labels else "; if these are numbers of cases, pass --layout decathlon"),
            )
        scans.append(with_label_file(source, labels.get(name, []), name))
    scans.sort(key=lambda scan: scan.stem)
    modality, words = info.modality
    found = told_modality(scans, modality, f"{NAME} says {words!r}")
    return Arrangement(
        scans=require_scans(found, "nnunet", f"{_IMAGES} with files NAME_0000"),
        classes=classes or info.classes(),
        left=left_labels(labels, scans) | _left_folders(root, listing),
    )


def _whole_files(listing: Listing, classes: Mapping[int, str], layout: str) -> Arrangement:
    labels = by_stem(_in_folder(listing, _LABELS))
    info = DatasetJson.read(listing.root)
    scans = []
    for source in _images(listing):
        wanted = source.stem if source.stem in labels else info.label_stems.get(source.stem, source.stem)
        scans.append(with_label_file(source, labels.get(wanted, []), wanted))
    modality, words = info.modality
    if layout == "amos":
        modality = "" if modality == "ct" else modality  # it says CT of its MR scans too
    return Arrangement(
        scans=require_scans(told_modality(scans, modality, f"{NAME} says {words!r}"), layout, f"{_IMAGES} with NIfTI files"),
        classes=classes,
        fourth_axis="channels",
        left=left_labels(labels, scans) | _left_folders(listing.root, listing),
    )


def _is_image_set(listing: Listing) -> bool:
    return listing.root / NAME in listing.files and bool(_images(listing))


def _numbers_are_channels(listing: Listing) -> bool:
    """Whether NAME_0001 is the second channel of a case rather than a case."""
    labels = by_stem(_in_folder(listing, _LABELS))
    matches = [(source.stem, _CHANNEL.fullmatch(source.stem)) for source in _images(listing)]
    numbered = [(stem, match[1], int(match[2])) for stem, match in matches if match]
    whole = sum(stem in labels for stem, _ in matches)
    cut = sum(name in labels and stem not in labels for stem, name, _ in numbered)
    if whole != cut:
        return cut > whole
    info = DatasetJson.read(listing.root)
    if len(numbered) < len(matches):
        return False
    return info.has_channel_names or max(number for _, _, number in numbered) < max(1, len(info.channels))


def _in_folder(listing: Listing, folder: str) -> list[Path]:
    return [file for file in listing.files if file.parent == listing.root / folder]


def _images(listing: Listing) -> list[Source]:
    return [file_source(file, listing.root) for file in _in_folder(listing, _IMAGES) if split_suffix(file)[1]]


def _left_folders(root: Path, listing: Listing) -> dict[Path, str]:
    """Files of the other sets, such as imagesTs, by the name of their folder."""
    places = {file: file.relative_to(root).parts[0] for file in listing.files}
    return {file: f"file of {top}" for file, top in places.items() if re.fullmatch(r"(images|labels)(Ts|Va|Val|Te|Test|Ts\d*)", top)}
