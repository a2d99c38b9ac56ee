"""Which volumes lie in device memory: least recently used first out, never one that a batch in flight reads.

A volume is known by its arrays, not by its name: volumes are read-only by contract, so the same array object means the same voxels,
in whatever dataset. What an array that may still be written held is uploaded for one batch and forgotten.
"""

from __future__ import annotations

import functools
import itertools
import threading
import weakref
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from augserver.errors import BudgetError
from augserver.volume import Volume

Key = tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ResidencyStatistics:
    """Counters since the start, and sizes now."""

    hits: int
    misses: int
    evictions: int
    volumes: int
    used_bytes: int
    max_bytes: int


class Resident:
    """One volume on the device.

    Attributes:
        place: what the upload made of it, for the kernel's parameters.
        users: batches in flight that read it.
    """

    __slots__ = ("key", "place", "size_bytes", "users", "watches")

    def __init__(self, key: Key, size_bytes: int, place: Any) -> None:
        self.key = key
        self.size_bytes = size_bytes
        self.place = place
        self.users = 0
        self.watches: list[weakref.ref[Any]] = []


class Residency:
    """Device-resident volumes under a budget.

    `acquire` belongs to the owner thread; `release` may be called from the drainer.

    Args:
        max_bytes: budget.
        setting: the name of the setting that holds it, for errors.
        size_of: volume -> bytes of the budget that it takes.
        load: enqueues the upload of a volume and returns its place; None where there is no room (or a hole too small) for it.
        drop: frees a place that no batch uses.
    """

    def __init__(
        self,
        max_bytes: int,
        setting: str,
        *,
        size_of: Callable[[Volume], int],
        load: Callable[[Volume], Any],
        drop: Callable[[Any], None],
    ) -> None:
        self._max_bytes = max_bytes
        self._setting = setting
        self._size_of = size_of
        self._load = load
        self._drop = drop
        self._lock = threading.Condition()
        self._entries: OrderedDict[Key, Resident] = OrderedDict()
        self._pinned = 0  # entries with users
        self._dead: deque[Key] = deque()  # keys of arrays that were collected
        self._serial = itertools.count()
        self._hits = self._misses = self._evictions = 0

    def acquire(self, volumes: Sequence[Volume]) -> list[Resident]:
        """Make every volume resident and keep it so until `release`; waits for batches in flight where they hold the room.

        Volumes that are already there, or on their way for an earlier batch, are not uploaded again.

        Raises:
            BudgetError: these volumes do not fit at once; says the budget they need. Or the device has less memory than the budget.
            Exception: of `load`; whatever this call had acquired is released.
        """
        self._forget_dead()
        keys = self._keys(volumes)
        distinct = dict(zip(keys, volumes, strict=True))
        need = sum(self._size_of(volume) for volume in distinct.values())
        if need > self._max_bytes:
            raise BudgetError(
                f"a batch of {len(distinct)} distinct volumes needs {need} bytes of device memory at once, and {self._setting} is "
                f"{self._max_bytes}; raise it to at least {need}, or ask for a smaller batch"
            )
        held: dict[Key, Resident] = {}
        placed_anew = False
        try:
            while (missing := next((key for key in distinct if key not in held), None)) is not None:
                resident = self._find(missing) or self._upload(missing, distinct[missing])
                if resident is not None:
                    held[missing] = resident
                elif not self._make_room(len(held)):
                    if placed_anew:
                        raise BudgetError(
                            f"the device has no room for {need} bytes of volumes, though {self._setting} is {self._max_bytes}; "
                            f"lower it to what the device has free, or end other processes that use the device"
                        )
                    # Only this batch's own volumes are left, and the room between them is too scattered: place them anew.
                    placed_anew = True
                    self.release(list(held.values()))
                    held.clear()
                    self.evict_unused()
        except BaseException:
            self.release(list(held.values()))
            raise
        return [held[key] for key in keys]

    def release(self, residents: Sequence[Resident]) -> None:
        """End the use that `acquire` began, once for each distinct volume it returned."""
        with self._lock:
            for resident in {id(each): each for each in residents}.values():
                resident.users -= 1
                self._pinned -= resident.users == 0
            self._lock.notify_all()

    def evict_unused(self) -> int:
        """Free every volume that no batch uses; returns how many there were."""
        count = 0
        while self._evict_one():
            count += 1
        return count

    def clear(self) -> None:
        """Free everything; no batch may be in flight."""
        for resident in self._entries.values():
            self._drop(resident.place)
        self._entries.clear()
        self._pinned = 0

    def statistics(self) -> ResidencyStatistics:
        """Numbers at this moment."""
        with self._lock:
            return ResidencyStatistics(
                hits=self._hits,
                misses=self._misses,
                evictions=self._evictions,
                volumes=len(self._entries),
                used_bytes=sum(each.size_bytes for each in self._entries.values()),
                max_bytes=self._max_bytes,
            )

    def _find(self, key: Key) -> Resident | None:
        with self._lock:
            resident = self._entries.get(key)
            if resident is None:
                return None
            self._entries.move_to_end(key)
            self._hits += 1
            self._use(resident)
            return resident

    def _upload(self, key: Key, volume: Volume) -> Resident | None:
        size = self._size_of(volume)
        if sum(each.size_bytes for each in self._entries.values()) + size > self._max_bytes:
            return None
        place = self._load(volume)
        if place is None:
            return None
        resident = Resident(key, size, place)
        for array in (volume.image, volume.label):
            if array is not None:
                resident.watches.append(weakref.ref(array, functools.partial(_mark_dead, self._dead, key)))
        with self._lock:
            self._misses += 1
            self._entries[key] = resident
            self._use(resident)
        return resident

    def _use(self, resident: Resident) -> None:
        self._pinned += resident.users == 0
        resident.users += 1

    def _make_room(self, own: int) -> bool:
        """Free one volume, or wait until a batch in flight has ended; False where neither can help: all that is used is this batch's."""
        if self._evict_one():
            return True
        with self._lock:
            if self._pinned <= own:
                return False
            self._lock.wait_for(lambda: self._pinned <= own or any(each.users == 0 for each in self._entries.values()))
            return True

    def _evict_one(self) -> bool:
        with self._lock:
            unused = next((each for each in self._entries.values() if each.users == 0), None)
            if unused is None:
                return False
            self._evictions += 1
            self._remove(unused)
            return True

    def _forget_dead(self) -> None:
        """Free what nobody can ask for again: arrays that were collected, and past batches' uploads of arrays that may be written."""
        with self._lock:
            while self._dead:
                resident = self._entries.get(self._dead.popleft())
                if resident is not None and any(watch() is None for watch in resident.watches):
                    self._remove(resident)  # a batch in flight would hold the array
            for resident in [each for each in self._entries.values() if len(each.key) > 2 and each.users == 0]:
                self._remove(resident)

    def _keys(self, volumes: Sequence[Volume]) -> list[Key]:
        """One key per volume: of its arrays' identities, and for arrays that may be written a number that is used once."""
        serial = next(self._serial)
        keys: list[Key] = []
        for volume in volumes:
            ids = (id(volume.image), 0 if volume.label is None else id(volume.label))
            writable = volume.image.flags.writeable or (volume.label is not None and volume.label.flags.writeable)
            keys.append((*ids, serial) if writable else ids)
        return keys

    def _remove(self, resident: Resident) -> None:  # the lock is held
        del self._entries[resident.key]
        self._drop(resident.place)


def _mark_dead(dead: deque[Key], key: Key, _: weakref.ref[Any]) -> None:
    dead.append(key)
