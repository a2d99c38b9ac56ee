"""How the server is doing now, as the page shows it. The one place of the page that knows a running server."""

from __future__ import annotations

import dataclasses
import time
from collections import deque
from collections.abc import Mapping
from typing import Any

from augserver.pipeline.stage_clock import StageStatistics
from augserver.service.server import Server
from augserver.service.verdict import judge

_SPAN_S = 10.0  # what "now" means: longer than a batch of any size takes, short enough to follow
_PERIOD_S = 1.0  # between two readings of a page


class LiveView:
    """Reads counters of a server. One thread; rates are the reader's, from the differences of two readings."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._started = time.monotonic()
        self._readings: deque[tuple[float, int, Mapping[str, StageStatistics]]] = deque()

    def read(self) -> dict[str, Any]:
        """Counters and states at this moment, JSON-able; `at_s` is on a clock that never jumps.

        `verdict`, `made` (batches) and `stages` (seconds of threads, and bytes, in each) are of the last `span_s`, ten seconds at most. It
        is 0 where nobody has read for so long: then the verdict is the one on the log's running interval.
        """
        server = self._server
        now, batches, after = self._look()
        self._readings.append((now, batches, after))
        while self._readings[0][0] < now - _SPAN_S - _PERIOD_S:
            self._readings.popleft()
        began, batches_before, before = self._readings[0]
        verdict = judge(before, after) if now > began else server.verdict()
        return {
            "at_s": now,
            "up_s": now - self._started,
            "span_s": now - began,
            "made": batches - batches_before,
            "verdict": dataclasses.asdict(verdict),
            "stages": {
                name: {
                    "seconds": after[name].seconds - before[name].seconds,
                    "size_bytes": after[name].size_bytes - before[name].size_bytes,
                }
                for name in after
            },
            "open_calls": server.service.streams,
            "scheduler": dataclasses.asdict(server.scheduler.statistics()),
            "cache": dataclasses.asdict(server.cache.statistics()),
            "slots": dataclasses.asdict(server.slots.statistics()),
            "quarantine": dataclasses.asdict(server.quarantine.statistics()),
            "damaged": sorted(server.quarantine.errors()),
        }

    def _look(self) -> tuple[float, int, Mapping[str, StageStatistics]]:
        return time.monotonic(), self._server.scheduler.statistics().batches, self._server.clock.statistics()
