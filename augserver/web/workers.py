"""Threads that draw for the page: few, of low priority, with a bounded line before them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from augserver.errors import UnavailableError

T = TypeVar("T")

_NICE = 5  # where all cores are busy, a thread that computes batches gets three times the share of this one


class Workers:
    """Runs work of one kind beside the event loop.

    Args:
        name: of the threads.
        queue: pieces of work that may wait or run; one more is refused at once.
    """

    def __init__(self, name: str, *, queue: int) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix=name, initializer=_lower_priority)
        self._queue = queue
        self._pending = 0  # of the event loop's thread alone

    async def run(self, work: Callable[[], T]) -> T:
        """Run `work` in the thread and give its result.

        Raises:
            UnavailableError: the line is full, or the system has no thread. And whatever `work` raises.
        """
        if self._pending >= self._queue:
            raise UnavailableError(f"the page is busy: {self._pending} pictures are waiting to be drawn; try again in a moment")
        try:
            future = self._pool.submit(work)
        except RuntimeError as error:
            raise UnavailableError(f"the page has no thread to draw with ({error}); try again in a moment") from error
        self._pending += 1
        loop = asyncio.get_running_loop()
        future.add_done_callback(lambda _: _call(loop, self._leave))
        return await asyncio.wrap_future(future)

    def close(self) -> None:
        """Drop what waits and end the thread after what runs."""
        self._pool.shutdown(cancel_futures=True)

    def _leave(self) -> None:
        self._pending -= 1


def _call(loop: asyncio.AbstractEventLoop, action: Callable[[], None]) -> None:
    if not loop.is_closed():
        loop.call_soon_threadsafe(action)


def _lower_priority() -> None:
    # Linux keeps a niceness for each thread
    with contextlib.suppress(OSError):  # a sandbox refuses the call: pictures then slow batches a little more
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)
