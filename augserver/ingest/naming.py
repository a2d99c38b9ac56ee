"""What volumes are called in the dataset and in the report, and what is kept out of both.

Ids are names of files by default, because people look volumes up by them and labels are paired by them. A name that the DICOM headers
show to be the patient's is never used: such a volume is called by a hash of its content, which says nothing and is the same wherever the
files lie. A hash of the name would not do: patient numbers are few enough to try them all.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Sequence

from augserver.errors import VolumeError
from augserver.ingest.names import volume_ids
from augserver.ingest.readers.formats import split_suffix
from augserver.ingest.sources import Source

_HASH_LENGTH = 12
_WHOLE_WORD = 4  # shorter names are replaced only where they stand alone: a file called a.nii


class Naming:
    """The ids of the scans of one run; safe to share between threads.

    Args:
        scans: in the order of their indices.
        ids: "names", "hashed" or "auto", see IngestConfig.
    """

    def __init__(self, scans: Sequence[Source], ids: str) -> None:
        self._scans = scans
        self._names = volume_ids([scan.name for scan in scans])
        self._hashed = [ids == "hashed" or (ids == "auto" and scan.names_patient) for scan in scans]
        self._taken: dict[str, int] = {}
        self._lock = threading.Lock()

    def expected(self, index: int) -> str | None:
        """The id of a scan before its files are hashed; None where the hash decides."""
        return None if self._hashed[index] else self._names[index]

    def choose(self, index: int, digest: str) -> str:
        """The id of a scan whose files have this digest.

        Raises:
            VolumeError: it is to be called by its content, and another scan of this run has the same.
        """
        if not self._hashed[index]:
            return self._names[index]
        volume_id = f"scan-{digest[:_HASH_LENGTH]}"
        with self._lock:
            if self._taken.setdefault(volume_id, index) != index:
                raise VolumeError(f"has the same content as scan {self._taken[volume_id] + 1}; a volume is taken once")
        return volume_id

    def release(self, index: int) -> None:
        """A scan was refused: another with the same content may be called so."""
        with self._lock:
            self._taken = {volume_id: holder for volume_id, holder in self._taken.items() if holder != index}

    def shown(self, index: int) -> str:
        """What a refused scan is called in the report: its id, or its place where that would tell its name."""
        return f"scan #{index + 1}" if self._hashed[index] else self._names[index]

    def redacted(self, index: int, text: str) -> str:
        """The text without the scan's own names, where they must not be told. Strings alone: nothing here can fail on a disk."""
        if not self._hashed[index]:
            return text
        scan = self._scans[index]
        paths = scan.paths() + (scan.label.paths() if scan.label else ())
        names = {*scan.name, scan.stem}
        for path in paths:
            names |= {str(path), str(path.parent), path.name, split_suffix(path)[0]}
        longest_first = sorted(filter(None, names), key=len, reverse=True)
        patterns = [re.escape(name) if len(name) >= _WHOLE_WORD else rf"(?<!\w){re.escape(name)}(?!\w)" for name in longest_first]
        return re.sub("|".join(patterns), lambda _: self.shown(index), text)
