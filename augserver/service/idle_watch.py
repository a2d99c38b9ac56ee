"""End streams whose client takes nothing for long: a thread, slots and memory are held for each. Time how long sending takes.

A client of ours reconnects when it wants the next batch, and goes on by number: it loses nothing but that wait.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from augserver.pipeline.stage_clock import StageClock
from augserver.service.access import host_of

_log = logging.getLogger(__name__)
_READER_AWAY_S = 0.1  # a part that takes longer to send waits for a reader that is busy, unless the network carries less than 20 MB/s
_LOOKS = 4  # within the time limit, so that a stream is ended at most a quarter of it late


@dataclass(slots=True, eq=False)
class _Watched:
    context: Any
    moved_at: float


class IdleWatch:
    """Looks after streams; a thread of its own lives while there are any. Thread-safe.

    Args:
        idle_s: how long a stream may stand still.
        clock: gets the time of the stages "wire" and "client".
    """

    def __init__(self, idle_s: float, clock: StageClock) -> None:
        self._idle_s = idle_s
        self._clock = clock
        self._changed = threading.Condition()
        self._streams: set[_Watched] = set()
        self._running = False

    def watched(self, messages: Generator[bytes, None, None], context: Any) -> Iterator[bytes]:
        """`messages`, ended by cancelling the call when neither a message was made nor one was taken for `idle_s`."""
        stream = _Watched(context, time.monotonic())
        with self._changed:
            if not self._running:
                threading.Thread(target=self._watch, name="idle-watch", daemon=True).start()  # waits for this lock
                self._running = True
            self._streams.add(stream)
        try:
            with closing(messages):  # a batch that is being sent is given back now, not when memory is collected
                for message in messages:
                    sent_at = stream.moved_at = time.monotonic()
                    try:
                        yield message
                    finally:  # a client that has its last batch ends the call here
                        stream.moved_at = time.monotonic()
                        self._add(stream.moved_at - sent_at, len(message))
        finally:
            with self._changed:
                self._streams.discard(stream)
                self._changed.notify_all()

    def _add(self, seconds: float, size_bytes: int) -> None:
        self._clock.add("wire", min(seconds, _READER_AWAY_S), size_bytes)
        if seconds > _READER_AWAY_S:
            self._clock.add("client", seconds - _READER_AWAY_S)

    def _watch(self) -> None:
        with self._changed:
            while self._streams:
                self._changed.wait(self._idle_s / _LOOKS)
                now = time.monotonic()
                for stream in [each for each in self._streams if now - each.moved_at > self._idle_s]:
                    self._streams.discard(stream)
                    _log.warning(
                        "a stream of %s took nothing for streams.idle_s = %g s and was ended", host_of(stream.context.peer()), self._idle_s
                    )
                    stream.context.cancel()
            self._running = False
