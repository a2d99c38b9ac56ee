"""What a layout makes of a folder."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from augserver.errors import ConfigError
from augserver.ingest.detached import voxel_files
from augserver.ingest.label_source import LabelFile
from augserver.ingest.listing import NO_FILES, Listing, Unread
from augserver.ingest.readers.formats import READERS, split_suffix
from augserver.ingest.sources import Said, Source, kind_of

LABEL_ALONE = "label without its scan"
OTHER_SCAN = "file of another kind of scan or label"


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrangement:
    """Scans with their labels.

    Attributes:
        scans: each with its label, or with the problem that it has none.
        classes: label id -> name, where the data itself says (dataset.json, names of masks); a file given by --classes goes before.
        collection_classes: label id -> name, if the data is the collection that the layout is called after. Names of files are no proof
            of that, so these count only where the user named the layout.
        collection_modality: what the scans of that collection are, "ct" or "mr"; empty if both, or unknown. Counts as those do.
        fourth_axis: "channels" if the layout says that a fourth axis means channels.
        left: files that are neither scans nor labels here -> what they are; those that it does not name are counted by suffix.
        skipped: number of files and other things by kind that are not used.
        alone: labels without a scan.
        unread: what could not be looked at.
        hidden: number of hidden files and folders.
        files: that were looked at.
        voxel_files: header -> files that hold its voxels.
        spoilt: how many files cannot be read and may belong to a scan that is refused therefore.
        notices: on what was skipped, for the report.
    """

    scans: tuple[Source, ...]
    classes: Mapping[int, str] = field(default_factory=dict)
    collection_classes: Mapping[int, str] = field(default_factory=dict)
    collection_modality: str = ""
    fourth_axis: str = "refuse"
    left: Mapping[Path, str] = field(default_factory=dict)
    skipped: Mapping[str, int] = field(default_factory=dict)
    alone: tuple[Path, ...] = ()
    unread: tuple[Unread, ...] = ()
    hidden: int = 0
    files: frozenset[Path] = frozenset()
    voxel_files: Mapping[Path, list[Path]] = field(default_factory=dict)
    spoilt: int = 0
    notices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class FileCount:
    """What became of the files: found == taken + refused + skipped. A folder that cannot be read, a link or a pipe counts as one file."""

    found: int
    taken: int
    refused: int
    skipped: int


def count_files(arrangement: Arrangement, taken: Collection[int]) -> FileCount:
    """Count the files of an arrangement.

    Args:
        taken: indices of the scans that are volumes now; the others are refused.
    """
    sets: tuple[set[Path], set[Path]] = set(), set()
    for index, scan in enumerate(arrangement.scans):
        named = files_named(scan)
        sets[index not in taken].update(named, *(arrangement.voxel_files.get(path, ()) for path in named))
    inside, outside = (each & arrangement.files for each in sets)
    skipped = sum(arrangement.skipped.values())
    not_files = sum(count for kind, count in arrangement.skipped.items() if kind in NO_FILES)
    opened = sum(each.path in arrangement.files for each in arrangement.unread)
    return FileCount(
        found=len(arrangement.files) + not_files - opened,
        taken=len(inside),
        refused=len(outside - inside) + arrangement.spoilt,
        skipped=skipped,
    )


def counted(arrangement: Arrangement, listing: Listing) -> Arrangement:
    """The arrangement with every file of the listing counted that no scan or label of it uses."""
    used = {path for scan in arrangement.scans for path in files_named(scan)}
    unused = [file for file in listing.files if file not in used]
    owned = voxel_files(listing.files, unused)
    unused = sorted(set(unused) - {file for header, files in owned.items() if header in used for file in files})
    skipped = Counter(listing.skipped)
    for file in unused:
        skipped[arrangement.left.get(file) or (OTHER_SCAN if split_suffix(file)[1] else kind_of(file))] += 1
    return replace(
        arrangement,
        skipped=dict(skipped),
        alone=tuple(file for file in unused if arrangement.left.get(file) == LABEL_ALONE),
        unread=listing.unread,
        hidden=listing.hidden,
        files=frozenset(listing.files),
        voxel_files=owned,
    )


def files_named(scan: Source) -> set[Path]:
    """The files that a scan and its label name."""
    return {*scan.paths(), *(scan.label.paths() if scan.label is not None else ())}


def by_stem(files: Iterable[Path]) -> dict[str, list[Path]]:
    """Stem -> files of a known format with that stem; 3D Slicer calls its segmentation of case1 case1.seg.nrrd."""
    found: dict[str, list[Path]] = defaultdict(list)
    for file in files:
        stem, suffix = split_suffix(file)
        if suffix:
            found[stem.removesuffix(".seg")].append(file)
    return found


def with_label_file(source: Source, present: Sequence[Path], wanted: str) -> Source:
    """The source with its one label file, or with the problem that there is none or several.

    Args:
        present: the files that may be its label.
        wanted: stem that was looked for, for the error.
    """
    if len(present) == 1:
        return replace(source, label=LabelFile(present[0]))
    found = f"has {len(present)} labels" if present else "no label found"
    return replace(
        source,
        problem=source.problem
        or f"{source.stem}: {found}; looked for one {wanted} with one of {', '.join(READERS)} in the layout's folder of labels; "
        "add it, or take the scan out",
    )


def left_labels(labels: Mapping[str, Collection[Path]], scans: Iterable[Source]) -> dict[Path, str]:
    """The label files that no scan has."""
    used = {path for scan in scans for path in files_named(scan)}
    return {file: LABEL_ALONE for files in labels.values() for file in files if file not in used}


def scan_of_case(case: Path, root: Path, found: Sequence[Path], wanted: str) -> Source:
    """The source of a folder that holds one case and is called after it; with a problem if the scan is not one file.

    Args:
        found: the files that may be the scan.
        wanted: what it should be called, for the error.
    """
    name = (root.name, *case.relative_to(root).parts)
    source = Source(path=found[0] if found else case, root=root, stem=case.name, name=name)
    if len(found) == 1:
        return source
    many = f"has {len(found)} scans" if found else "has a label and no scan"
    return replace(source, problem=f"{case.name}: {many}; looked for one {wanted} in its folder; leave one, or take the case out")


def told_modality(scans: Iterable[Source], modality: str, because: str) -> tuple[Source, ...]:
    """The scans, which are said to be of a modality ("ct", "mr" or "" for unknown)."""
    said = Said(modality, because) if modality else None
    return tuple(scan if scan.says or said is None else replace(scan, says=said) for scan in scans)


def require_scans(scans: tuple[Source, ...], layout: str, wanted: str) -> tuple[Source, ...]:
    """The scans, of which there is at least one.

    Raises:
        ConfigError: there is none.
    """
    if not scans:
        raise ConfigError(f"--layout {layout}: no scan found; wanted {wanted}; choose another --layout, or 'plain'")
    return scans
