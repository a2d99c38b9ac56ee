"""The slots of one stream and what each is doing.

    free --claim--> filling --finish--> ready --lease--> leased --give_back--> free
    (nobody)        (a worker)          (waits)          (sender, or a client on this host)

One ring for each stream, not one for the server: a client maps the whole memory that it is given, and must see no other stream's batches
in it; and a stream's memory goes back in one piece, to the system as well as to the budget, when its stream and its client are gone.

    shared memory   | slot 0: image, C order | pad to 64 | label | pad to 4096 | slot 1: image | ...
                    ^ 0                                  ^ label_offset        ^ slot_stride

Private memory has the same slots, each an allocation of its own on huge pages, which shared memory has not.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum

from augserver.pipeline.batch_layout import Slot
from augserver.pipeline.sealed_memory import SealedMemory


class SlotState(Enum):
    """See the drawing above."""

    FREE = "free"
    FILLING = "filling"
    READY = "ready"
    LEASED = "leased"


_BUSY = (SlotState.FILLING, SlotState.LEASED)


@dataclass(frozen=True, slots=True, kw_only=True)
class RingStatistics:
    """Slots in each state, and the bytes of all of them."""

    free: int
    filling: int
    ready: int
    leased: int
    size_bytes: int


class SlotRing:
    """Thread-safe. Its memory is freed when nobody holds the ring, and no slot is being filled or leased.

    Args:
        slots: all free; the ring is held once, by its maker.
        size_bytes: of all of them, for statistics.
        memory: in which they lie, where it is shared.
        on_free: called once, when the memory is free; no lock held.
    """

    def __init__(self, slots: Sequence[Slot], size_bytes: int, memory: SealedMemory | None, on_free: Callable[[], None]) -> None:
        self.memory = memory
        self._size_bytes = size_bytes
        self._on_free = on_free
        self._lock = threading.Lock()
        self._states = dict.fromkeys(slots, SlotState.FREE)
        # the slot given back last is taken first: its pages are in the caches, and those never needed are never backed by memory
        self._free = list(slots)[::-1]
        self._holders = 1

    @property
    def has_free(self) -> bool:
        """Whether `claim` would find a slot."""
        return bool(self._free)

    def claim(self) -> Slot:
        """Take a free slot to fill it; IndexError where there is none."""
        with self._lock:
            slot = self._free.pop()
            self._states[slot] = SlotState.FILLING
            return slot

    def finish(self, slot: Slot) -> None:
        """A slot is filled."""
        self._move(slot, SlotState.FILLING, SlotState.READY)

    def lease(self, slot: Slot) -> None:
        """A filled slot goes to its reader."""
        self._move(slot, SlotState.READY, SlotState.LEASED)

    def give_back(self, slot: Slot) -> None:
        """A slot may be overwritten, whatever it was doing."""
        with self._lock:
            self._states[slot] = SlotState.FREE
            self._free.append(slot)
        self._free_if_idle()

    def hold(self) -> None:
        """Keep the memory until a `let_go` more."""
        with self._lock:
            self._holders += 1

    def let_go(self) -> None:
        """Undo one `hold`, or the maker's own."""
        with self._lock:
            self._holders -= 1
        self._free_if_idle()

    def statistics(self) -> RingStatistics:
        """Counters at this moment."""
        with self._lock:
            states = list(self._states.values())
        count = states.count
        return RingStatistics(
            free=count(SlotState.FREE),
            filling=count(SlotState.FILLING),
            ready=count(SlotState.READY),
            leased=count(SlotState.LEASED),
            size_bytes=self._size_bytes,
        )

    def _move(self, slot: Slot, before: SlotState, after: SlotState) -> None:
        with self._lock:
            if self._states[slot] is not before:
                raise ValueError(f"slot is {self._states[slot].value}, due is {before.value}")
            self._states[slot] = after

    def _free_if_idle(self) -> None:
        with self._lock:
            if self._holders or not self._states or any(state in _BUSY for state in self._states.values()):
                return
            self._states.clear()  # its arrays with it: the last views of the memory
            self._free.clear()
        if self.memory is not None:
            self.memory.close()
        self._on_free()
