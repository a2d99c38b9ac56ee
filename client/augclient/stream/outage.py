"""The waits between attempts to reach a server, and what counts as a server that is gone."""

from __future__ import annotations

import time

import grpc

from augclient.errors import UnavailableError
from augclient.wire.status import named_error

FIRST_DELAY_S = 0.05
MAX_DELAY_S = 2.0

# What gRPC itself reports when a server dies, stops or is paused under a call; anything else is an answer.
_LOST = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED, grpc.StatusCode.DEADLINE_EXCEEDED})


class Outage:
    """Waits that double, capped, without jitter, until `limit_s` from the first is used up; `attempts` counts them."""

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._delay_s = FIRST_DELAY_S
        self._began_at: float | None = None
        self.attempts = 0

    def next_delay_s(self) -> float | None:
        """How long to wait before the next attempt; None: no more."""
        now = time.monotonic()
        self._began_at = now if self._began_at is None else self._began_at
        left_s = self._began_at + self._limit_s - now
        if left_s <= 0:
            return None
        self.attempts += 1
        delay_s = min(self._delay_s, left_s)
        self._delay_s = min(2 * self._delay_s, MAX_DELAY_S)
        return delay_s


def is_lost(error: grpc.RpcError) -> bool:
    """Whether a call failed because its server is gone or leaves, so that another, or the same one later, can give the answer."""
    named = named_error(error)
    return error.code() in _LOST if named is None else isinstance(named, UnavailableError)
