"""Ctrl-C and SIGTERM as a wish to stop at the next good moment; a second one stops at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any


class StopRequested(Exception):
    """Unwinds what may be broken off without a loss: waiting for a batch, a validation."""


class StopRequest:
    """While entered, the first signal is remembered, and raised as StopRequested where that does no harm; the second one ends the
    process as it would have without this. Elsewhere than in the main thread no signal arrives, and nothing is changed.
    """

    def __init__(self) -> None:
        self.requested = False
        self._breakable = False
        self._before: dict[int, Any] = {}

    @contextmanager
    def breakable(self) -> Iterator[None]:
        """A stretch that a signal may break off, by StopRequested."""
        self._breakable = True
        try:
            self.check()
            yield
        finally:
            self._breakable = False

    def check(self) -> None:
        """Raise StopRequested if a stop is wished for."""
        if self.requested:
            raise StopRequested

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._handle) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            signal.signal(number, self._before[number])
            signal.raise_signal(number)
            return
        self.requested = True
        if self._breakable:
            raise StopRequested
