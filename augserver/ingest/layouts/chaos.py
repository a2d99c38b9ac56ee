"""CHAOS: DICOM_anon folders with slices, Ground folders with a PNG per slice.

CT/1/DICOM_anon/*.dcm          CT/1/Ground/*.png              255 liver
MR/1/T1DUAL/DICOM_anon/InPhase/*.dcm, OutPhase/*.dcm, MR/1/T1DUAL/Ground/*.png, MR/1/T2SPIR/...    63 liver, 126, 189, 252
"""

from __future__ import annotations

import contextlib
from collections import Counter
from dataclasses import replace
from pathlib import Path

from augserver.ingest.label_source import LabelPictures
from augserver.ingest.layouts.arrangement import LABEL_ALONE, Arrangement, require_scans
from augserver.ingest.listing import Listing
from augserver.ingest.readers.dicom_header import is_dicom
from augserver.ingest.sources import Source, series_sources

_SLICES, _PICTURES = "DICOM_anon", "Ground"
CT_CLASSES, CT_GREYS = {1: "liver"}, {0: 0, 1: 1, 255: 1}
MR_CLASSES = {1: "liver", 2: "right kidney", 3: "left kidney", 4: "spleen"}
MR_GREYS = {0: 0, 63: 1, 126: 2, 189: 3, 252: 4}


def is_chaos(listing: Listing) -> bool:
    folders = {folder for file in listing.files for folder in file.parents if folder.is_relative_to(listing.root)}
    return any(folder.name == _SLICES and folder.parent / _PICTURES in folders for folder in folders)


def arrange_chaos(listing: Listing, modality: str) -> Arrangement:
    """Series of one modality with their pictures; the slices of the other modality are counted."""
    root, folders = listing.root, listing.by_folder()
    scans: list[Source] = []
    left: dict[Path, str] = {}
    greys = CT_GREYS if modality == "ct" else MR_GREYS
    pictures_of = {
        folder.parent: tuple(file for file in files if file.suffix.lower() == ".png")
        for folder, files in folders.items()
        if folder.name == _PICTURES
    }
    for folder in sorted(folders):
        slices = folder if folder.name == _SLICES else folder.parent
        if slices.name != _SLICES:
            continue
        pictures = pictures_of.get(slices.parent, ())
        files = [file for file in folders[folder] if _is_dicom(file)]
        for source in series_sources(dict.fromkeys(files, root), Counter()).sources:
            if source.slices and source.slices[0].modality.lower() != modality:
                left |= {one.file: f"slice of {source.slices[0].modality}" for one in source.slices}
                continue
            # 1/T1DUAL/DICOM_anon/InPhase is called 1_T1DUAL_InPhase; the folders of one name say nothing.
            named = tuple(part for part in source.name[:-1] if part not in (root.name, _SLICES))
            tail = () if source.stem.startswith(_SLICES) else (source.stem,)
            name = (root.name, "_".join((*named, *tail)))
            problem = source.problem or ("" if pictures else f"{name[-1]}: no label found; looked for PNG files in {_PICTURES}")
            scans.append(replace(source, stem=name[-1], name=name, label=LabelPictures(pictures, source.slices, greys), problem=problem))
            if source.problem:
                left |= dict.fromkeys(files, "DICOM file of a series that is refused")
    used = {(each if each.name == _SLICES else each.parent).parent for each in folders if _SLICES in (each.name, each.parent.name)}
    left |= {picture: LABEL_ALONE for case, pictures in pictures_of.items() if case not in used for picture in pictures}
    wanted = f"folders {_SLICES} with {modality.upper()} slices beside {_PICTURES}"
    return Arrangement(
        scans=require_scans(tuple(scans), "chaos", wanted),
        collection_classes=CT_CLASSES if modality == "ct" else MR_CLASSES,
        left=left,
    )


def _is_dicom(file: Path) -> bool:
    with contextlib.suppress(OSError):
        return is_dicom(file)
    return True  # perhaps a slice: its series is refused
