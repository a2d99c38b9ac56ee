"""Memory that batches are computed into: a ring of slots for each stream, taken when it opens and reused batch after batch.

The pool is bounded in bytes, for one stream and for all, and a ring is made at once or refused: a stream that runs never waits for the
memory of another.
"""

from __future__ import annotations

import mmap
import threading
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from augserver.errors import BudgetError
from augserver.pipeline.batch_layout import BatchLayout, Slot
from augserver.pipeline.sealed_memory import SealedMemory
from augserver.pipeline.slot_ring import RingStatistics, SlotRing


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotStatistics:
    """Bytes that streams have reserved, and their bound; the rings, and their slots by state."""

    reserved_bytes: int
    max_bytes: int
    rings: int
    shared_rings: int
    free: int
    filling: int
    ready: int
    leased: int


class SlotPool:
    """Bounded memory for the slots of all streams.

    Args:
        max_bytes: of all rings together.
        allocate: size in bytes -> uint8 array of that size, in private memory.
        share: mapped pages -> uint8 array of all of them, as the kernel writes to them fastest.
        max_ring_bytes: of one ring; None: as many as of all.
    """

    def __init__(
        self,
        max_bytes: int,
        allocate: Callable[[int], NDArray[np.uint8]],
        *,
        share: Callable[[mmap.mmap], NDArray[np.uint8]] = lambda pages: np.frombuffer(pages, np.uint8),
        max_ring_bytes: int | None = None,
    ) -> None:
        self._max_bytes = max_bytes
        self._max_ring_bytes = max_bytes if max_ring_bytes is None else max_ring_bytes
        self._allocate = allocate
        self._share = share
        self._lock = threading.Lock()
        self._reserved_bytes = 0
        self._rings: set[SlotRing] = set()

    def open_ring(self, layout: BatchLayout, count: int, *, shared: bool = False) -> SlotRing:
        """Make a ring of `count` slots; `let_go` of it when done.

        Args:
            shared: in memory that other processes can map.
        Raises:
            BudgetError: it does not fit the budgets, or the machine has not the memory; nothing was taken.
        """
        wanted = count * (layout.slot_stride if shared else layout.slot_bytes)
        what = f"{count} slots of {layout.slot_bytes} bytes for this stream"
        self._reserve(wanted, what)
        try:
            slots, memory = self._make_slots(layout, count, shared=shared)
        except BaseException as error:
            with self._lock:
                self._reserved_bytes -= wanted
            if isinstance(error, MemoryError):
                raise BudgetError(
                    f"the machine has no memory for {what}, which streams.max_slot_bytes = {self._max_bytes} allows; "
                    "ask for a smaller batch or patch, or lower that budget and cache.max_bytes to what the machine has"
                ) from error
            raise

        def give_bytes_back() -> None:
            with self._lock:
                self._reserved_bytes -= wanted
                self._rings.discard(ring)

        ring = SlotRing(slots, wanted, memory, give_bytes_back)
        with self._lock:
            self._rings.add(ring)
        return ring

    def statistics(self) -> SlotStatistics:
        """Sizes and states at this moment."""
        with self._lock:
            rings, reserved = list(self._rings), self._reserved_bytes
        each: list[RingStatistics] = [ring.statistics() for ring in rings]
        return SlotStatistics(
            reserved_bytes=reserved,
            max_bytes=self._max_bytes,
            rings=len(rings),
            shared_rings=sum(ring.memory is not None for ring in rings),
            free=sum(ring.free for ring in each),
            filling=sum(ring.filling for ring in each),
            ready=sum(ring.ready for ring in each),
            leased=sum(ring.leased for ring in each),
        )

    def _reserve(self, wanted: int, what: str) -> None:
        with self._lock:
            if wanted > self._max_ring_bytes:
                raise BudgetError(
                    f"{what} exceed the budget streams.max_stream_bytes = {self._max_ring_bytes} bytes; ask for a smaller batch or patch, "
                    "or, on the server's host, for less prefetch"
                )
            if self._reserved_bytes + wanted > self._max_bytes:
                raise BudgetError(
                    f"{what} exceed the budget streams.max_slot_bytes = {self._max_bytes} bytes, "
                    f"of which {self._reserved_bytes} are in use; ask for a smaller batch or patch, or try again later"
                )
            self._reserved_bytes += wanted

    def _make_slots(self, layout: BatchLayout, count: int, *, shared: bool) -> tuple[list[Slot], SealedMemory | None]:
        if not shared:
            return [Slot(self._allocate(layout.slot_bytes), layout) for _ in range(count)], None
        stride = layout.slot_stride
        memory = SealedMemory(count * stride)
        try:
            whole = self._share(memory.pages)
        except BaseException:
            memory.close()
            raise
        offsets = range(0, count * stride, stride)
        return [Slot(whole[offset : offset + layout.slot_bytes], layout, offset) for offset in offsets], memory
