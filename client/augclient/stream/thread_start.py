"""Start a thread from one that may be interrupted.

Thread.start() waits under locks of Python's own, and an interrupt there ends in a RuntimeError, or in a thread that is listed and never
ran. So another thread calls it, which no interrupt hits: Python raises KeyboardInterrupt in the main thread alone.
"""

from __future__ import annotations

import _thread
import threading
from collections.abc import Callable

from augclient.errors import BudgetError


def start_aside(thread: threading.Thread, failed: Callable[[BudgetError], None]) -> None:
    """Start `thread`; returns before it runs. `failed` is called instead, on another thread, if the system has no thread to give."""
    try:
        _thread.start_new_thread(_start, (thread, failed))
    except RuntimeError as error:
        failed(_no_thread(error))


def _start(thread: threading.Thread, failed: Callable[[BudgetError], None]) -> None:
    try:
        thread.start()
    except RuntimeError as error:
        failed(_no_thread(error))


def _no_thread(error: RuntimeError) -> BudgetError:
    return BudgetError(f"no thread for a stream: {error}; end some of this process, or raise its limit (ulimit -u)")
