"""Connections of browsers: a bounded number, in which nobody who keeps the page waiting holds a place that another needs.

It is the client's turn while a request has not come whole and while an answer is not taken. A client that lets its turn last _PATIENCE_S is
cut off. Where all places are taken, a newcomer gets the place of the one whose turn has lasted longest, so that idle connections lock
nobody out for a moment; where every place computes an answer, uvicorn tells the newcomer 503.
"""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.h11_impl import H11Protocol

MAX_CONNECTIONS = 64  # a browser opens six
_PATIENCE_S = 20.0  # for 48 KiB of an answer through a slow tunnel; a request's body has its own limit, half as long


class BoundedProtocol(H11Protocol):
    """HTTP/1.1 on one connection as uvicorn speaks it, and an end to waiting."""

    _overdue: asyncio.TimerHandle | None = None  # runs while it is the client's turn

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > MAX_CONNECTIONS:
            waiting = {each: each._overdue.when() for each in self.connections if isinstance(each, BoundedProtocol) and each._overdue}
            if waiting:
                min(waiting, key=waiting.__getitem__)._cut_off()
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_watching()
        super().connection_lost(exc)

    def handle_events(self) -> None:
        super().handle_events()
        self._watch()

    def on_response_complete(self) -> None:
        self._watch()
        super().on_response_complete()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._stop_watching()
        self._watch()

    def _watch(self) -> None:
        """Start the clock, stop it, or let it run on: single bytes of a request win no time."""
        cycle = self.cycle
        if cycle is not None and not (cycle.response_complete or cycle.more_body or self.flow.write_paused):
            self._stop_watching()
        elif self._overdue is None:
            self._overdue = self.loop.call_later(_PATIENCE_S, self._cut_off)

    def _stop_watching(self) -> None:
        if self._overdue is not None:
            self._overdue.cancel()
            self._overdue = None

    def _cut_off(self) -> None:
        self._stop_watching()
        self.connections.discard(self)  # its place is free at once: others may come before the loop gets to connection_lost
        self.transport.abort()  # close() would wait for the client to take what was written
