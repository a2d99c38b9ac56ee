"""How the server is doing now, as the page shows it. The one place of the page that knows a running server."""

from __future__ import annotations

import dataclasses
import time
from typing import Any

from augserver.pipeline.batch_slots import SlotStatistics
from augserver.service.server import Server


class LiveView:
    """Reads counters of a server; rates are the reader's, from the differences of two readings."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._started = time.monotonic()

    def read(self) -> dict[str, Any]:
        """Counters and states at this moment, JSON-able; `at_s` is on a clock that never jumps."""
        server = self._server
        slots = server.slots.statistics()
        limit, why = find_limit(slots)
        return {
            "at_s": time.monotonic(),
            "up_s": time.monotonic() - self._started,
            "limited_by": limit,
            "why": why,
            "open_calls": server.service.streams,
            "scheduler": dataclasses.asdict(server.scheduler.statistics()),
            "cache": dataclasses.asdict(server.cache.statistics()),
            "slots": dataclasses.asdict(slots),
            "quarantine": dataclasses.asdict(server.quarantine.statistics()),
            "damaged": sorted(server.quarantine.errors()),
        }


def find_limit(slots: SlotStatistics) -> tuple[str, str]:
    """What keeps batches from being faster, judged by where they wait, and why; ("", ...) where nothing is asked for."""
    if slots.rings == 0:
        return "", "nobody streams"
    if slots.filling == 0 and slots.ready:
        return "trainers", "batches are ready and wait to be fetched: training, or the way to it, takes longer than making them"
    if slots.ready == 0:
        return "kernel", "trainers wait while batches are made: decoding volumes, or the kernel, takes longer than training on them"
    return "nothing", "batches are made about as fast as they are fetched"
