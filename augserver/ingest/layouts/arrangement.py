"""What a layout makes of a folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from augserver.errors import ConfigError
from augserver.ingest.label_source import LabelFile
from augserver.ingest.readers.formats import READERS
from augserver.ingest.sources import Source


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrangement:
    """Scans with their labels.

    Attributes:
        scans: each with its label, or with the problem that it has none.
        classes: label id -> name, where the data itself says (dataset.json, names of masks); a file given by --classes goes before.
        collection_classes: label id -> name, if the data is the collection that the layout is called after. Names of files are no proof
            of that, so these count only where the user named the layout.
        fourth_axis: "channels" if the layout says that a fourth axis means channels.
        skipped: number of files by kind that are no scans.
    """

    scans: tuple[Source, ...]
    classes: Mapping[int, str] = field(default_factory=dict)
    collection_classes: Mapping[int, str] = field(default_factory=dict)
    fourth_axis: str = "refuse"
    skipped: Mapping[str, int] = field(default_factory=dict)


def with_label_file(source: Source, folder: Path, stem: str) -> Source:
    """The source with the one label file of this stem in the folder, or with the problem that there is none or several."""
    present = [file for suffix in READERS if (file := folder / (stem + suffix)).is_file()]
    if len(present) == 1:
        return replace(source, label=LabelFile(present[0]))
    found = f"has {len(present)} labels" if present else "no label found"
    return replace(
        source, problem=f"{source.stem}: {found}; looked for one {stem} with one of {', '.join(READERS)} in the layout's folder of labels"
    )


def require_scans(scans: tuple[Source, ...], layout: str, wanted: str) -> tuple[Source, ...]:
    """The scans, of which there is at least one.

    Raises:
        ConfigError: there is none.
    """
    if not scans:
        raise ConfigError(f"--layout {layout}: no scan found; wanted {wanted}; choose another --layout, or 'plain'")
    return scans
