"""A page that cannot start says why, and one that was short of a thread draws again."""

from __future__ import annotations

import asyncio
import errno
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import uvicorn

from augserver.errors import StateError, UnavailableError
from augserver.web.workers import Workers


def test_a_page_that_uvicorn_cannot_serve_is_an_error_of_its_start(
    show: Callable[..., Any], ct: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(uvicorn.Server, "run", fail)
    with pytest.raises(StateError, match=r"the page at 127\.0\.0\.1:\d+ cannot be served: .*Too many open files"):
        show(ct)


def test_a_shortage_of_threads_takes_no_place_in_the_line(monkeypatch: pytest.MonkeyPatch) -> None:
    workers = Workers("drawing", queue=1)

    def fail(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    async def draw() -> int:
        with monkeypatch.context() as short:
            short.setattr(threading.Thread, "start", fail)
            for _ in range(3):
                with pytest.raises(UnavailableError, match=r"no thread to draw with .can't start new thread"):
                    await workers.run(lambda: 0)
        return await workers.run(lambda: 7)

    with ThreadPoolExecutor(1) as alone:  # tests in a browser leave an event loop running in this thread
        assert alone.submit(lambda: asyncio.run(draw())).result() == 7
    workers.close()
