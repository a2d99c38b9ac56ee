"""A CSV of pairs: the columns image, label and, if you like, id; several channels of an image are parted by semicolons."""

from __future__ import annotations

import csv
import os
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

from augserver.errors import ConfigError
from augserver.ingest.label_source import LabelFile
from augserver.ingest.layouts.arrangement import Arrangement, files_named, require_scans
from augserver.ingest.listing import Listing
from augserver.ingest.names import volume_ids
from augserver.ingest.readers.dicom_series import label_hint
from augserver.ingest.readers.formats import split_suffix
from augserver.ingest.sources import Source, file_source, find_sources


def is_pairs_csv(listing: Listing) -> bool:
    return len(listing.files) == 1 and listing.files[0].suffix.lower() == ".csv"


def arrange_pairs_csv(root: Path) -> Arrangement:
    """One scan per row; paths are relative to the CSV's folder. An image may be a folder with one DICOM series.

    Rows of equal ids are refused.

    Raises:
        ConfigError: the file cannot be read, has no such columns, or an empty cell.
    """
    try:
        with root.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file, skipinitialspace=True))
    except (OSError, ValueError, csv.Error) as error:
        raise ConfigError(f"{root.name}: cannot be read as CSV ({error})") from error
    scans: list[Source] = []
    lines: dict[str, list[int]] = defaultdict(list)
    for number, row in enumerate(rows, 2):
        cells = {
            key.strip().lower(): (value or "").strip() for key, value in row.items() if isinstance(key, str) and isinstance(value, str)
        }
        if not cells.get("image") or not cells.get("label"):
            filled = ", ".join(key for key, value in cells.items() if value) or "none"  # not what is in them: that may be a patient's name
            raise ConfigError(f"{root.name}, line {number}: needs the columns image and label, filled; filled are {filled}")
        images = [Path(os.path.abspath(root.parent / cell.strip())) for cell in cells["image"].split(";")]
        source = _source(images[0], number)
        name = cells.get("id") or source.stem
        named = source.name if not cells.get("id") else (name,)
        lines[_identity(named, source.path)].append(number)
        label = Path(os.path.abspath(root.parent / cells["label"]))
        problem = source.problem
        for path in (label, *images[1:]):
            if not problem and not (os.path.isfile(path) and split_suffix(path)[1]):
                hint = label_hint(path) or "; correct the path"
                problem = f"{name}: line {number} of {root.name} names {path.name}, which is no file of a known kind there{hint}"
        scans.append(replace(source, name=named, channels=tuple(images[1:]), label=LabelFile(label), problem=problem))
    for index, scan in enumerate(scans):
        same = lines[_identity(scan.name, scan.path)]
        if len(same) > 1:
            shown = ", ".join(map(str, same))
            problem = f"{scan.name[-1]}: lines {shown} of {root.name} have this id, or one that is stored under the same; give each its own"
            scans[index] = replace(scan, problem=problem)
    return Arrangement(scans=require_scans(tuple(scans), "csv", "rows with an image and a label"))


def listing_of(root: Path, arrangement: Arrangement) -> Listing:
    """The files that the rows name, as far as they are there."""
    named = {path for scan in arrangement.scans for path in files_named(scan)}
    return Listing(root=root.parent, files=tuple(sorted(path for path in named if os.path.isfile(path))))


def _identity(name: tuple[str, ...], image: Path) -> str:
    """What must differ between rows: the id as it is stored, upper and lower case the same; of a row without one, the image."""
    return volume_ids([name])[0].casefold() if len(name) == 1 else str(image)


def _source(image: Path, number: int) -> Source:
    if os.path.isdir(image):
        series = find_sources([image]).sources
        if len(series) == 1:
            return series[0]
    elif os.path.isfile(image) and split_suffix(image)[1]:
        return file_source(image, image.parent)
    stem = split_suffix(image)[0]
    hint = label_hint(image) or "; correct the path"
    problem = f"{stem}: line {number} names {image.name}, which is no scan and no folder with one DICOM series{hint}"
    return Source(path=image, root=image.parent, stem=stem, name=(stem,), problem=problem)
