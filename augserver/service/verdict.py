"""What limits the streams: one word for the operator, from where they spent their time.

Calls wait for a batch (the server is slow: then the workers' busiest stage is the one), or gRPC sends (the wire), or nobody reads (the
trainer is busy, and all is well).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from augserver.pipeline.stage_clock import StageStatistics

_log = logging.getLogger(__name__)

_MADE_BY = ("store", "plan", "kernel")  # stages of a worker
_SAID_ABOVE_S = 1.0  # streams that did less in an interval have no opinion


@dataclass(frozen=True, slots=True)
class Verdict:
    """The judgement of an interval.

    Attributes:
        limited_by: "store", "plan", "kernel", "copy", "wire" or "trainer"; "" where nothing streamed.
        share: of the streams' time that went there, 0 to 1.
        reason: for people.
    """

    limited_by: str
    share: float
    reason: str

    def __str__(self) -> str:
        return f"limited by: {self.limited_by} ({self.reason})" if self.limited_by else self.reason


def judge(before: Mapping[str, StageStatistics], after: Mapping[str, StageStatistics]) -> Verdict:
    """The verdict on the time between two readings of a StageClock."""
    seconds = {stage: after[stage].seconds - before[stage].seconds for stage in after}
    waits = {
        "server": seconds["batch_wait"],
        "copy": seconds["copy"],
        "wire": seconds["wire"],
        "trainer": seconds["client"] + seconds["lease_wait"],
    }
    total = sum(waits.values())
    if total == 0.0:
        return Verdict("", 0.0, "nobody streams")
    longest = max(waits, key=lambda name: waits[name])
    share = waits[longest] / total
    if longest != "server":
        what = {
            "copy": "copying batches into messages; clients on this host can share memory instead",
            "wire": "sending; a smaller image_dtype, or a client on this host, needs less of it",
            "trainer": "waiting for trainers, which have what they need",
        }[longest]
        return Verdict(longest, share, f"streams spent {share:.0%} of their time {what}")
    busiest = max(_MADE_BY, key=lambda stage: seconds[stage])
    part = seconds[busiest] / max(sum(seconds[stage] for stage in _MADE_BY), 1e-9)
    what = {
        "store": "decoding volumes: a larger cache.max_bytes keeps more of them",
        "plan": "drawing parameters",
        "kernel": "the kernel: more threads, a GPU or a second server make it faster",
    }[busiest]
    return Verdict(busiest, share, f"streams waited {share:.0%} of their time for batches, and {part:.0%} of the workers' time is {what}")


class VerdictLog:
    """Says the verdict in the log at the end of every interval in which something streamed, until closed.

    Args:
        read: statistics of the server's StageClock.
        interval_s: between two verdicts.
    """

    def __init__(self, read: Callable[[], Mapping[str, StageStatistics]], interval_s: float) -> None:
        self._read = read
        self._interval_s = interval_s
        self._closed = threading.Event()
        self._before = read()
        self._thread = threading.Thread(target=self._run, name="verdict", daemon=True)
        self._thread.start()

    def now(self) -> Verdict:
        """The verdict on the interval that is running, from its beginning to this moment."""
        return judge(self._before, self._read())

    def close(self) -> None:
        """End the thread; twice is fine."""
        self._closed.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._closed.wait(self._interval_s):
            before, self._before = self._before, self._read()
            if _total(self._before) - _total(before) > _SAID_ABOVE_S:
                _log.info("%s", judge(before, self._before))


def _total(stages: Mapping[str, StageStatistics]) -> float:
    return sum(each.seconds for each in stages.values())
