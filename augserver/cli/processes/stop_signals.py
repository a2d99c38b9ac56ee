"""SIGINT and SIGTERM as something to wait for."""

from __future__ import annotations

import os
import select
import signal
from types import FrameType, TracebackType


class StopSignals:
    """While entered, SIGINT and SIGTERM interrupt nothing and are taken by `wait`, in order. Main thread only.

    Python's C handler writes each signal into a pipe, whichever thread the system delivers it to; no lock is taken in a handler.
    """

    def __enter__(self) -> StopSignals:
        self._read_fd, self._write_fd = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._wakeup_before = signal.set_wakeup_fd(self._write_fd, warn_on_full_buffer=False)
        self._handlers_before = {number: signal.signal(number, _ignore) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for number, handler in self._handlers_before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._wakeup_before)
        os.close(self._read_fd)
        os.close(self._write_fd)

    def fileno(self) -> int:
        """Readable when `wait(0)` may have a signal: for a selector."""
        return self._read_fd

    def wait(self, timeout_s: float | None = None) -> int:
        """Wait for the next stop signal and return its number; 0 if none came in time."""
        while select.select([self._read_fd], [], [], timeout_s)[0]:
            [number] = os.read(self._read_fd, 1)
            if number in self._handlers_before:  # other signals with a Python handler land in the pipe as well
                return number
        return 0


def _ignore(number: int, frame: FrameType | None) -> None:
    """Its being there makes Python's C handler run."""
