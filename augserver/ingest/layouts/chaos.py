"""CHAOS: DICOM_anon folders with slices, Ground folders with a PNG per slice.

CT/1/DICOM_anon/*.dcm          CT/1/Ground/*.png              255 liver
MR/1/T1DUAL/DICOM_anon/InPhase/*.dcm, OutPhase/*.dcm, MR/1/T1DUAL/Ground/*.png, MR/1/T2SPIR/...    63 liver, 126, 189, 252
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from pathlib import Path

from augserver.ingest.label_source import LabelPictures
from augserver.ingest.layouts.arrangement import Arrangement, require_scans
from augserver.ingest.readers.dicom_header import is_dicom
from augserver.ingest.sources import Source, series_sources

_SLICES, _PICTURES = "DICOM_anon", "Ground"
CT_CLASSES, CT_GREYS = {1: "liver"}, {0: 0, 1: 1, 255: 1}
MR_CLASSES = {1: "liver", 2: "right kidney", 3: "left kidney", 4: "spleen"}
MR_GREYS = {0: 0, 63: 1, 126: 2, 189: 3, 252: 4}


def is_chaos(root: Path) -> bool:
    return root.is_dir() and any((folder.parent / _PICTURES).is_dir() for folder in root.rglob(_SLICES))


def arrange_chaos(root: Path, modality: str) -> Arrangement:
    """Series of one modality with their pictures; the other modality is counted as skipped."""
    scans: list[Source] = []
    skipped: dict[str, int] = defaultdict(int)
    greys = CT_GREYS if modality == "ct" else MR_GREYS
    for folder in sorted(root.rglob(_SLICES)):
        pictures = tuple(sorted((folder.parent / _PICTURES).glob("*.png")))
        for series_folder in (folder, *sorted(each for each in folder.iterdir() if each.is_dir())):
            files = [file for file in sorted(series_folder.iterdir()) if file.is_file() and is_dicom(file)]
            for source in series_sources(series_folder, files, root, skipped) if files else []:
                if source.slices and source.slices[0].modality.lower() != modality:
                    skipped[f"series of {source.slices[0].modality}"] += 1
                    continue
                # 1/T1DUAL/DICOM_anon/InPhase is called 1_T1DUAL_InPhase; the folders of one name say nothing.
                named = tuple(part for part in source.name[:-1] if part not in (root.name, _SLICES))
                tail = () if source.stem.startswith(_SLICES) else (source.stem,)
                name = (root.name, "_".join((*named, *tail)))
                problem = source.problem or ("" if pictures else f"{name[-1]}: no label found; looked for PNG files in {_PICTURES}")
                label = LabelPictures(pictures, source.slices, greys)
                scans.append(replace(source, stem=name[-1], name=name, label=label, problem=problem))
    classes = CT_CLASSES if modality == "ct" else MR_CLASSES
    scans_found = require_scans(tuple(scans), "chaos", f"folders {_SLICES} with {modality.upper()} slices beside {_PICTURES}")
    return Arrangement(scans=scans_found, collection_classes=classes, skipped=skipped)
