"""Memory for what clients send: bounded for one call and for all calls together.

A call waits for itself alone: while it holds something that will be given back, a further request waits (back-pressure); with nothing of
its own to wait for, what does not fit is refused at once. So no call ever waits for another, and none can starve.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from types import TracebackType

from augserver.errors import BudgetError, StateError


@dataclass(frozen=True, slots=True, kw_only=True)
class ByteStatistics:
    """Bytes that all calls hold, and their bound."""

    used_bytes: int
    max_bytes: int


class ByteBudget:
    """Hands out shares.

    Args:
        max_bytes: of all shares together.
        max_share_bytes: of one share.
        section: of the settings that hold the two, for errors.
    """

    def __init__(self, max_bytes: int, max_share_bytes: int, *, section: str) -> None:
        self.max_bytes = max_bytes
        self.max_share_bytes = max_share_bytes
        self.section = section
        self.changed = threading.Condition()
        self.used_bytes = 0

    def open(self) -> BudgetShare:
        """A share that holds nothing yet; close it."""
        return BudgetShare(self)

    def statistics(self) -> ByteStatistics:
        """Sizes at this moment."""
        with self.changed:
            return ByteStatistics(used_bytes=self.used_bytes, max_bytes=self.max_bytes)


class BudgetShare:
    """What one call holds. One thread takes, another may give and close."""

    def __init__(self, budget: ByteBudget) -> None:
        self._budget = budget
        self._held = 0
        self._closed = False

    def take(self, size_bytes: int, what: str) -> None:
        """Take bytes; waits while they do not fit and this share holds some.

        Args:
            what: needs them, for errors.
        Raises:
            BudgetError: they do not fit, and this share has nothing to wait for.
            StateError: the share was closed.
        """
        budget = self._budget
        if size_bytes > budget.max_share_bytes:
            raise BudgetError(
                f"{what} takes {size_bytes} bytes with its result, and {budget.section}.max_stream_bytes is {budget.max_share_bytes}; "
                "crop or split it, or raise that budget"
            )
        with budget.changed:
            budget.changed.wait_for(lambda: self._closed or not self._held or self._fits(size_bytes))
            if self._closed:
                raise StateError(f"{what} came after the end of its call")
            if not self._fits(size_bytes):
                raise BudgetError(
                    f"{what} takes {size_bytes} bytes with its result, and of {budget.section}.max_bytes = {budget.max_bytes} other calls "
                    f"hold {budget.used_bytes}; try again later, or raise that budget"
                )
            self._held += size_bytes
            budget.used_bytes += size_bytes

    def give(self, size_bytes: int) -> None:
        """Give bytes back."""
        with self._budget.changed:
            self._held -= size_bytes
            self._budget.used_bytes -= size_bytes
            self._budget.changed.notify_all()

    def close(self) -> None:
        """Give everything back, and wake who waits; twice is fine."""
        with self._budget.changed:
            self._closed = True
            self._budget.used_bytes -= self._held
            self._held = 0
            self._budget.changed.notify_all()

    def _fits(self, size_bytes: int) -> bool:
        budget = self._budget
        return self._held + size_bytes <= budget.max_share_bytes and budget.used_bytes + size_bytes <= budget.max_bytes

    def __enter__(self) -> BudgetShare:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
