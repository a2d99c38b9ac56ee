"""A limit on how long a peer may be silent while it owes an answer: a proxy that answers pings hides a server that stands still."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any


class SilenceLimit:
    """Cancels a call when nothing came for `limit_s` although something was due; a thread of its own looks.

    Args:
        call: has cancel(), which any thread may call.
        owes: whether the peer owes anything now; its silence does not count if not.

    Attributes:
        broken: whether the limit was exceeded and the call cancelled.
    """

    def __init__(self, call: Any, limit_s: float, owes: Callable[[], bool] = lambda: True) -> None:
        self.broken = False
        self._call = call
        self._limit_s = limit_s
        self._owes = owes
        self._since: float | None = None
        self._ended = threading.Event()
        threading.Thread(target=self._watch, name="augclient-silence", daemon=True).start()

    def listen(self) -> None:
        """Something came, or somebody begins to wait: the limit counts from now."""
        self._since = time.monotonic()

    def pause(self) -> None:
        """Nobody waits."""
        self._since = None

    def close(self) -> None:
        """Let the thread end; any number of times."""
        self._ended.set()

    def _watch(self) -> None:
        while not self._ended.wait(self._limit_s / 20):
            since = self._since
            if since is None or not self._owes():
                if since is not None:
                    self._since = time.monotonic()
            elif time.monotonic() >= since + self._limit_s:
                self.broken = True
                self._call.cancel()
                return
