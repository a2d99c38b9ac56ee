"""Volumes that turned out damaged while they were served: set aside, counted, and replaced, within a budget.

    read fails with VolumeError -> set aside (one line in the log) -> the plan's replacements are tried in their order
    more than the budget        -> every stream ends, as so many losses are no accident and would bend what is learnt

A volume is damaged where its content is not the one that was ingested: whoever reads it finds the same, so servers agree on the samples
without speaking to each other. What this machine could not read now (UnavailableError, BudgetError) is never set aside.
A volume stays set aside as long as the server runs, even if its files are restored: a sample must not change back in mid-job.
"""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass

from augserver.errors import VolumeError

_log = logging.getLogger(__name__)

_NAMED = 10  # volumes named in an error; GetDataset lists all


@dataclass(frozen=True, slots=True, kw_only=True)
class QuarantineStatistics:
    """Volumes set aside since the start, how many may be, and samples that were made of another volume than planned."""

    volumes: int
    max_volumes: int
    replaced_samples: int


class Quarantine:
    """Volumes set aside by one server. Thread-safe.

    Args:
        max_volumes: streams go on with so many set aside. 0 is strict: none ever is, and its error ends the streams that need it.
    """

    def __init__(self, max_volumes: int) -> None:
        self._max_volumes = max_volumes
        self._lock = threading.Lock()
        self._errors: dict[str, VolumeError] = {}  # one per volume of the dataset at most
        self._replaced_samples = 0

    def __contains__(self, volume_id: str) -> bool:
        return volume_id in self._errors

    def set_aside(self, volume_id: str, error: VolumeError) -> None:
        """Keep a volume out of all samples from now on; the log says so the first time.

        Raises:
            VolumeError: `error` itself where the quarantine is strict, or what `require_budget` raises.
        """
        if not self._max_volumes:
            raise error
        with self._lock:
            known = volume_id in self._errors
            if not known:
                # a copy without traceback, which would keep the batch alive that was under way
                self._errors[volume_id] = VolumeError(str(error))
            count = len(self._errors)
        if not known:
            _log.error(
                "volume %r is set aside, other volumes take its places (%d of quarantine.max_volumes = %d): %s",
                volume_id,
                count,
                self._max_volumes,
                error,
            )
        self.require_budget()

    def require_budget(self) -> None:
        """Check that not too many volumes are lost.

        Raises:
            VolumeError: more than the budget; names them.
        """
        with self._lock:
            lost = sorted(self._errors)
        if len(lost) > self._max_volumes:
            raise VolumeError(
                f"{len(lost)} volumes are damaged, quarantine.max_volumes = {self._max_volumes} may be: {name_volumes(lost)}; "
                "restore them from a copy or ingest them again, then start the server again; or raise that budget to go on without them"
            )

    def count_replaced(self, samples: int) -> None:
        """Count samples that were made of a replacement."""
        with self._lock:
            self._replaced_samples += samples

    def errors(self) -> dict[str, VolumeError]:
        """Why each volume was set aside, by id in order; messages may hold paths."""
        with self._lock:
            return dict(sorted(self._errors.items()))

    def statistics(self) -> QuarantineStatistics:
        """Counters at this moment."""
        with self._lock:
            return QuarantineStatistics(volumes=len(self._errors), max_volumes=self._max_volumes, replaced_samples=self._replaced_samples)


def name_volumes(ids: list[str]) -> str:
    """Ids for an error: the first ones, and how many more there are."""
    more = f" and {len(ids) - _NAMED} more" if len(ids) > _NAMED else ""
    return ", ".join(map(repr, ids[:_NAMED])) + more
