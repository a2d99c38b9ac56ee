"""A server that cannot start leaves nothing behind: no thread, no descriptor, no socket file."""

from __future__ import annotations

import gc
import os
import socket
import stat
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from augserver.config import ServerConfig, parse_config
from augserver.errors import BudgetError, StateError
from augserver.kernel import Backend, open_backend
from augserver.service import server as server_module
from augserver.service.call_threads import SPARE_THREADS, start_call_threads
from augserver.service.server import Server
from augserver.store import Dataset


@pytest.fixture(scope="module")
def backend() -> Iterator[Backend]:
    """Opened once: a backend that fails to start is not what is looked at here."""
    opened = open_backend("cpu", threads=1)
    yield opened
    opened.close()


@pytest.fixture
def taken() -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"127.0.0.1:{listener.getsockname()[1]}"


def config(sockets: Path, **sections: dict[str, object]) -> ServerConfig:
    return parse_config(
        {"listen": {"address": "127.0.0.1:0"}, "local": {"folder": str(sockets)}, "metrics": {"traces": "http://127.0.0.1:9"}} | sections
    )


def threads() -> set[threading.Thread]:
    return set(threading.enumerate())


def descriptors_of_ours() -> int:
    """Listening sockets of this process, TCP and local: what a start opens. gRPC's own come and go."""
    count = 0
    for name in os.listdir("/proc/self/fd"):
        try:
            if stat.S_ISSOCK(os.fstat(int(name)).st_mode):
                with socket.socket(fileno=os.dup(int(name))) as one:
                    count += bool(one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
        except OSError:  # gone since
            continue
    return count


def assert_nothing_is_left(before: set[threading.Thread], descriptors: int, sockets: Path) -> None:
    for thread in threads() - before:
        thread.join(10)
        assert not thread.is_alive(), thread.name
    gc.collect()
    assert descriptors_of_ours() <= descriptors
    assert not sockets.exists() or list(sockets.iterdir()) == []


@pytest.fixture
def refused(dataset: Dataset, backend: Backend) -> Iterator[Path]:
    """The folder of sockets of a test that starts servers in vain; pytest's own folders may be too long for a socket's path."""
    with tempfile.TemporaryDirectory(prefix="aug-") as folder:
        Server(dataset, backend, config(Path(folder, "first"))).stop()  # what is loaded at the first start stays loaded
        before, descriptors = threads(), descriptors_of_ours()
        yield Path(folder, "sockets")
        assert_nothing_is_left(before, descriptors, Path(folder, "sockets"))


def test_a_taken_port(refused: Path, dataset: Dataset, backend: Backend, taken: str) -> None:
    for _ in range(3):
        with pytest.raises(StateError, match="cannot listen on"):
            Server(dataset, backend, config(refused, listen={"address": taken}))


def test_a_taken_port_for_metrics(refused: Path, dataset: Dataset, backend: Backend, taken: str) -> None:
    for _ in range(3):
        with pytest.raises(StateError, match=r"cannot listen on .* for metrics"):
            Server(dataset, backend, config(refused, metrics={"address": taken, "traces": "http://127.0.0.1:9"}))


def test_a_volume_larger_than_the_cache(refused: Path, dataset: Dataset, backend: Backend) -> None:
    with pytest.raises(BudgetError, match=r"cache\.max_bytes"):
        Server(dataset, backend, config(refused, cache={"max_bytes": 100}))


def test_a_local_socket_that_cannot_be_made(refused: Path, dataset: Dataset, backend: Backend) -> None:
    with pytest.raises(StateError, match=r"local\.folder /proc/none"):
        Server(dataset, backend, config(refused, local={"mode": "on", "folder": "/proc/none"}))


@pytest.mark.parametrize("step", ["Tracing", "VerdictLog", "open_local_delivery", "AugService", "start_call_threads", "_bind"])
def test_whatever_step_fails(refused: Path, dataset: Dataset, backend: Backend, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(server_module, step, fail)
    with pytest.raises(OSError, match="Too many open files"):
        Server(dataset, backend, config(refused))


def test_threads_that_the_system_does_not_give_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    start, started, before = threading.Thread.start, [], threads()

    def short(thread: threading.Thread) -> None:
        if len(started) == 5:
            raise RuntimeError("can't start new thread")
        started.append(thread)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", short)
    with pytest.raises(
        BudgetError, match=rf"takes {8 + SPARE_THREADS} threads, 8 of them for calls, and the system gave 5 .*lower streams\.max_streams"
    ):
        start_call_threads(8)
    monkeypatch.undo()
    for thread in threads() - before:
        thread.join(10)
        assert not thread.is_alive()
