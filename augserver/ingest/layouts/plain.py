"""No layout: every file is a scan, but for those that --labels names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from augserver.ingest.labels import LabelRule
from augserver.ingest.layouts.arrangement import LABEL_ALONE, Arrangement, files_named
from augserver.ingest.listing import Listing, list_files
from augserver.ingest.readers.formats import split_suffix
from augserver.ingest.run import select_scans
from augserver.ingest.sources import find_sources


def arrange_plain(roots: Sequence[Path], labels: LabelRule | None) -> Arrangement:
    """All scans below some paths, with their labels where a rule says.

    Raises:
        NotFoundError: a path does not exist.
    """
    found = find_sources(roots)
    scans = tuple(select_scans(found.sources, labels))
    used = {path for scan in scans for path in files_named(scan)}
    ours = {source.path for source in found.sources if labels is not None and labels.is_label(source)}
    folder = labels.folder if labels is not None else None
    beside = list_files(folder) if folder is not None else Listing(root=Path(), files=())
    elsewhere = {file for file in beside.files if split_suffix(file)[1]}
    known = {each.path for each in found.unread}
    skipped = Counter(found.skipped)
    if ours - used:
        skipped[LABEL_ALONE] += len(ours - used)
    return Arrangement(
        scans=scans,
        skipped=dict(skipped),
        alone=tuple(sorted((ours | elsewhere) - used)),
        unread=found.unread + tuple(each for each in beside.unread if each.path not in known),
        hidden=found.hidden,
        files=found.files,
        voxel_files=found.voxel_files,
        spoilt=found.spoilt,
        notices=found.notices,
    )
