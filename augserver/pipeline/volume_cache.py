"""Keep decoded volumes in host memory: least recently used, under a byte budget, one decode for concurrent requests.

A volume in use is leased and is never evicted; the budget counts leased, loading and idle volumes alike, so memory stays
bounded whatever is asked. Who holds a lease must not wait for another one (two of them could wait for each other for ever):
`try_lease` answers None instead, and the caller finishes and releases what it holds first.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import TracebackType

from augserver.errors import BudgetError
from augserver.volume import Volume, VolumeInfo


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheStatistics:
    """What the cache holds now and what it has done since it was made."""

    volumes: int
    leased: int
    used_bytes: int
    max_bytes: int
    hits: int
    misses: int
    evictions: int


class VolumeLease:
    """The right to read one volume until `release()`; a context manager."""

    def __init__(self, volume: Volume, release: Callable[[], None]) -> None:
        self.volume = volume
        self._release: Callable[[], None] | None = release

    def release(self) -> None:
        """Give the volume back; a second call does nothing."""
        release, self._release = self._release, None
        if release is not None:
            release()

    def __enter__(self) -> Volume:
        return self.volume

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.release()


class _Entry:
    """One volume: loading (neither volume nor error), loaded, or failed. `users` counts leases and those that wait for the load."""

    __slots__ = ("error", "size_bytes", "users", "volume")

    def __init__(self, size_bytes: int) -> None:
        self.size_bytes = size_bytes
        self.users = 1
        self.volume: Volume | None = None
        self.error: BaseException | None = None


class VolumeCache:
    """Decoded volumes by id.

    Args:
        describe: id -> VolumeInfo, from memory; raises NotFoundError for an unknown id.
        read: id -> Volume; slow; called without a lock and never twice at a time for one id.
        max_bytes: budget of all volumes together.
    """

    def __init__(self, describe: Callable[[str], VolumeInfo], read: Callable[[str], Volume], max_bytes: int) -> None:
        self._describe = describe
        self._read = read
        self._max_bytes = max_bytes
        self._changed = threading.Condition()
        self._entries: OrderedDict[str, _Entry] = OrderedDict()  # oldest use first
        self._used_bytes = 0
        self._hits = self._misses = self._evictions = 0

    def require_fit(self, ids: Iterable[str]) -> None:
        """Check that each of these volumes can be held at all.

        Raises:
            BudgetError: one is larger than the whole budget.
        """
        for id_ in ids:
            size_bytes = self._describe(id_).size_bytes
            if size_bytes > self._max_bytes:
                raise BudgetError(
                    f"volume {id_!r} takes {size_bytes} bytes decoded, more than the whole cache: cache.max_bytes = {self._max_bytes}; "
                    "raise it, or ingest at a coarser spacing"
                )

    def lease(self, id_: str) -> VolumeLease:
        """Lease a volume, decoding it if it is not here; waits while the leases of others fill the budget.

        Never call this while holding a lease: use `try_lease`.

        Raises:
            NotFoundError, BudgetError, and whatever the store raises for a volume that cannot be read.
        """
        self.require_fit([id_])
        size_bytes = self._describe(id_).size_bytes
        with self._changed:
            while (entry := self._entries.get(id_)) is None and not self._make_room(size_bytes):
                self._changed.wait()
            if entry is not None:
                return self._join(id_, entry)
            entry = self._admit(id_, size_bytes)
        return self._load(id_, entry)

    def try_lease(self, id_: str) -> VolumeLease | None:
        """As `lease`, but None where there is no room now. It may wait for a decode, which needs nothing that the caller holds."""
        self.require_fit([id_])
        size_bytes = self._describe(id_).size_bytes
        with self._changed:
            entry = self._entries.get(id_)
            if entry is not None:
                return self._join(id_, entry)
            if not self._make_room(size_bytes):
                return None
            entry = self._admit(id_, size_bytes)
        return self._load(id_, entry)

    def statistics(self) -> CacheStatistics:
        """Counters and sizes at this moment."""
        with self._changed:
            return CacheStatistics(
                volumes=len(self._entries),
                leased=sum(entry.users > 0 for entry in self._entries.values()),
                used_bytes=self._used_bytes,
                max_bytes=self._max_bytes,
                hits=self._hits,
                misses=self._misses,
                evictions=self._evictions,
            )

    def _make_room(self, size_bytes: int) -> bool:
        """Evict idle volumes, oldest use first, until `size_bytes` fit; evicts nothing where that cannot succeed. Lock held."""
        idle = [(id_, entry.size_bytes) for id_, entry in self._entries.items() if entry.users == 0]
        missing = self._used_bytes + size_bytes - self._max_bytes
        if missing > sum(size for _, size in idle):
            return False
        for id_, size in idle:
            if missing <= 0:
                break
            del self._entries[id_]
            self._used_bytes -= size
            self._evictions += 1
            missing -= size
        return True

    def _admit(self, id_: str, size_bytes: int) -> _Entry:
        """Enter a volume for which there is room, still to be loaded. Lock held."""
        self._misses += 1
        self._used_bytes += size_bytes
        entry = self._entries[id_] = _Entry(size_bytes)
        return entry

    def _load(self, id_: str, entry: _Entry) -> VolumeLease:
        """Decode an admitted volume. Lock not held."""
        try:
            volume = self._read(id_)
        except BaseException as error:
            if isinstance(error, MemoryError):
                error = BudgetError(
                    f"the machine has no memory for volume {id_!r} of {entry.size_bytes} bytes, which cache.max_bytes = {self._max_bytes} "
                    "allows; lower that budget to what the machine has"
                )
            with self._changed:
                entry.error = error
                del self._entries[id_]
                self._used_bytes -= entry.size_bytes
                self._changed.notify_all()
            raise error
        with self._changed:
            entry.volume = volume
            self._changed.notify_all()
        return VolumeLease(volume, lambda: self._release(entry))

    def _join(self, id_: str, entry: _Entry) -> VolumeLease:
        """Share a volume that is here, or on its way: the failure of the thread that decodes is everyone's. Lock held."""
        self._hits += 1
        entry.users += 1
        self._entries.move_to_end(id_)
        while (volume := entry.volume) is None:
            if entry.error is not None:
                raise entry.error
            self._changed.wait()
        return VolumeLease(volume, lambda: self._release(entry))

    def _release(self, entry: _Entry) -> None:
        with self._changed:
            entry.users -= 1
            self._changed.notify_all()
