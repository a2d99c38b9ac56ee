"""The waits between attempts to reach a server."""

from __future__ import annotations

import time

FIRST_DELAY_S = 0.05
MAX_DELAY_S = 2.0


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
