"""Where the time goes: seconds and bytes of every stage that a batch passes, added up since the start.

stage        whose time                                              bytes
store        a worker's: reading and decoding a volume               decoded
plan         a worker's: drawing parameters                          -
kernel       a worker's: the backend; on a GPU with its copies       of the finished batch
copy         a call's: from a slot into messages                     copied
wire         a call's: gRPC has a message, up to 0.1 s of it         sent
client       a call's: the rest of that: nobody reads                -
batch_wait   a call's: the next batch is not made yet                -
lease_wait   a call's: it cannot be made, as the client on this      -
             host holds every slot
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

STAGES = ("store", "plan", "kernel", "copy", "wire", "client", "batch_wait", "lease_wait")


@dataclass(frozen=True, slots=True)
class StageStatistics:
    """What one stage took since the start, all its threads together."""

    seconds: float = 0.0
    size_bytes: int = 0


class StageClock:
    """Adds up; thread-safe, about a microsecond for each addition."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seconds = dict.fromkeys(STAGES, 0.0)
        self._bytes = dict.fromkeys(STAGES, 0)

    def add(self, stage: str, seconds: float, size_bytes: int = 0) -> None:
        """`stage`, one of STAGES, took this much more."""
        with self._lock:
            self._seconds[stage] += seconds
            self._bytes[stage] += size_bytes

    @contextmanager
    def timed(self, stage: str, size_bytes: int = 0) -> Iterator[None]:
        """Add the time of the block, however it ends."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.add(stage, time.perf_counter() - began, size_bytes)

    def timed_each(self, stage: str, messages: Iterable[bytes]) -> Iterator[bytes]:
        """`messages`, adding the time that each takes to make, and its bytes."""
        iterator = iter(messages)
        while True:
            began = time.perf_counter()
            message = next(iterator, None)
            if message is None:
                return
            self.add(stage, time.perf_counter() - began, len(message))
            yield message

    def statistics(self) -> Mapping[str, StageStatistics]:
        """All stages at this moment."""
        with self._lock:
            return {stage: StageStatistics(self._seconds[stage], self._bytes[stage]) for stage in STAGES}
