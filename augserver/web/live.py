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


class LiveView:
    """Reads counters of a server. One thread; rates are the reader's, from the differences of two readings."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._started = time.monotonic()
        self._readings = deque([self._look()])

    def read(self) -> dict[str, Any]:
        """Counters and states at this moment, JSON-able; `at_s` is on a clock that never jumps.

        `verdict`, `made` (batches) and `stages` (seconds of threads, and bytes, in each) are of the last `span_s`, about ten seconds.
        """
        server = self._server
        now, batches, after = self._look()
        self._readings.append((now, batches, after))
        while len(self._readings) > 2 and self._readings[1][0] <= now - _SPAN_S:
            self._readings.popleft()
        began, batches_before, before = self._readings[0]
        return {
            "at_s": now,
            "up_s": now - self._started,
            "span_s": now - began,
            "made": batches - batches_before,
            "verdict": dataclasses.asdict(judge(before, after)),
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
