"""What the threads of a device's queue pass to each other: batches on their way, and calls made for another thread."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from augserver.errors import AugError
from augserver.kernel.batch import PackedBatch


class Ticket:
    """A batch on its way. `wait` returns when its results are written, or raises why they are not."""

    def __init__(self, batch: PackedBatch) -> None:
        self.batch = batch
        self._done = threading.Event()
        self._error: AugError | None = None

    def wait(self) -> None:
        """Block until the batch has ended; its arrays are the caller's again then, also when this raises."""
        try:
            self._done.wait()
        except BaseException:  # Ctrl-C: the device may still be writing into the caller's arrays
            self._done.wait()
            raise
        if self._error is not None:
            raise self._error

    def finish(self, error: AugError | None = None) -> None:
        """End the batch. Called once."""
        self._error = error
        self._done.set()


class Errand:
    """A call that the owner thread makes for another one, between batches."""

    def __init__(self, function: Callable[[], Any]) -> None:
        self._function = function
        self._done = threading.Event()
        self._result: Any = None
        self._error: AugError | None = None

    def run(self, explain: Callable[[Exception], AugError]) -> None:
        """Make the call, in the owner thread; `explain` gives the typed error for one of the driver."""
        try:
            self._result = self._function()
        except Exception as error:
            self._error = explain(error)
        self._done.set()

    def wait(self) -> Any:
        """The call's result, or its error."""
        self._done.wait()
        if self._error is not None:
            raise self._error
        return self._result
