"""Pair scans with their label files by a pattern or a folder."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from augserver.errors import ConfigError, VolumeError
from augserver.ingest.label_source import LABEL_SUFFIXES
from augserver.ingest.readers.dicom_kinds import LABELS_NOT_READ
from augserver.ingest.readers.dicom_series import label_hint
from augserver.ingest.readers.formats import READERS, split_suffix
from augserver.ingest.sources import Source

_ID = "{id}"


@dataclass(frozen=True, slots=True)
class LabelRule:
    """Where the label of a scan is; made by `parse`.

    A pattern such as "{id}_seg.nii.gz" or "labelsTr/{id}.nii.gz", {id} being the scan's stem, is looked up in the scan's folder, then in
    the folders above it up to the one that was named on the command line. A fixed name such as "segmentation.nii.gz" is looked up in the
    same way, but not in the folder that was named, unless the scan lies there: it would serve every scan. A folder is searched for a file
    of the same stem, first in the same place below it as the scan is below its root, then directly.
    """

    pattern: str = ""
    folder: Path | None = None

    @classmethod
    def parse(cls, text: str, roots: Sequence[Path]) -> LabelRule:
        """The rule that `--labels TEXT` means.

        Args:
            roots: the folders named on the command line, where a relative folder is looked up too.
        Raises:
            ConfigError: neither a folder nor a pattern, or a pattern that every scan matches itself.
        """
        if _ID in text:
            if Path(text).is_absolute() or ".." in Path(text).parts or not split_suffix(Path(text))[1]:
                raise ConfigError(
                    f"--labels pattern {text!r} must be relative, without '..', and end in one of {', '.join(READERS)}; "
                    f"for labels elsewhere, give their folder{f'; {LABELS_NOT_READ}' if text.lower().endswith('.dcm') else ''}"
                )
            if split_suffix(Path(text))[0] == _ID and len(Path(text).parts) == 1:
                raise ConfigError(f"--labels pattern {text!r} names the scans themselves; add what differs, such as '{{id}}_seg.nii.gz'")
            return cls(pattern=text)
        for folder in (Path(text), *(root / text for root in roots)):
            if os.path.isdir(folder):
                folder = Path(os.path.abspath(folder))
                if any(Path(os.path.abspath(root)).is_relative_to(folder) for root in roots):
                    raise ConfigError(
                        f"--labels {text!r} is a folder that holds the scans too, so that which files are labels is unknown; "
                        "give a pattern, such as '{id}_seg.nii.gz' or '{id}.seg.nrrd'"
                    )
                return cls(folder=folder)
        if split_suffix(Path(text))[1] and not Path(text).is_absolute() and ".." not in Path(text).parts:
            return cls(pattern=text)
        hint = label_hint(Path(text))
        raise ConfigError(
            f"--labels {text!r} is neither a folder nor a pattern with {{id}}, such as '{{id}}_seg.nii.gz', nor the name of a file in the "
            f"folder of each case, such as 'segmentation.nii.gz'{hint}"
        )

    def is_label(self, source: Source) -> bool:
        """Whether a source is a label file by this rule, not a scan."""
        if self.folder is not None:
            return source.path.is_relative_to(self.folder)
        match = "[^/]+".join(re.escape(part) for part in self.pattern.split(_ID))
        return re.search(f"(^|/){match}$", source.path.as_posix()) is not None

    def find(self, source: Source) -> Path:
        """The label file of a scan.

        Raises:
            VolumeError: there is none, or more than one.
        """
        if self.folder is not None:
            places = [self.folder]
            if source.path != source.root:  # a DICOM series may be the root itself
                places.insert(0, self.folder / source.path.parent.relative_to(source.root))
            found = [[place / (source.stem + suffix) for suffix in LABEL_SUFFIXES] for place in dict.fromkeys(places)]
            looked = f"{source.stem} with one of {', '.join(LABEL_SUFFIXES)} in the folder of labels"
        else:
            # A DICOM series is a folder: its label may lie in it or beside it.
            start = source.path if source.slices else source.path.parent
            above = [start, *start.parents]
            end = above.index(source.root) if source.root in above else 0
            wanted = self.pattern.replace(_ID, source.stem)
            # A fixed name in the folder of all cases would serve every case that has none.
            places = [*above[: end + 1], source.root] if _ID in self.pattern else above[: max(end, 1)]
            found = [[place / wanted] for place in dict.fromkeys(places)]
            looked = f"{wanted} in its folder and those above it"
        for candidates in found:
            present = [file for file in candidates if os.path.isfile(file)]
            if len(present) > 1:
                raise VolumeError(f"{source.stem}: has several labels, {present[0].name} and {present[1].name}; leave one")
            if present:
                return present[0]
        hint = "" if self.folder is None else label_hint(self.folder)
        raise VolumeError(
            f"{source.stem}: no label found; looked for {looked}; add it, or take the scan out, or ingest without --labels{hint}"
        )
