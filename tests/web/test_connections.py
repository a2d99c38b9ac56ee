"""Clients that say nothing, too little, or take nothing: they cost a place that others do not need, and only for a time."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from augserver.web import connections
from augserver.web.connections import MAX_CONNECTIONS

HEAD = b"POST /api/sheet HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100\r\n"
LIMIT_S = 20.0


def connect(shown: Any, *, small: bool = False) -> socket.socket:
    host, _, port = shown.url.removeprefix("http://").rstrip("/").rpartition(":")
    client = socket.socket()
    if small:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.settimeout(LIMIT_S)
    client.connect((host, int(port)))
    return client


@pytest.fixture
def clients(shown: Any) -> Iterator[Callable[..., list[socket.socket]]]:
    """Connect some, each of which sends something; all are closed at the end."""
    with contextlib.ExitStack() as stack:

        def start(count: int, said: bytes = b"", **options: Any) -> list[socket.socket]:
            made = [stack.enter_context(connect(shown, **options)) for _ in range(count)]
            for client in made:
                client.sendall(said)
            return made

        yield start


def ask(shown: Any, method: str = "GET", path: str = "/api/live", body: bytes | None = None) -> int:
    with contextlib.closing(http.client.HTTPConnection(shown.url.removeprefix("http://").rstrip("/"), timeout=LIMIT_S)) as connection:
        connection.request(method, path, body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        answer.read()
        return answer.status


def is_cut_off(client: socket.socket) -> bool:
    """Whether the server ends it; waits for that."""
    try:
        return client.recv(1) == b""
    except ConnectionResetError:
        return True


def is_open(client: socket.socket) -> bool:
    client.setblocking(False)
    try:
        return client.recv(1) != b""
    except BlockingIOError:
        return True
    except ConnectionResetError:
        return False
    finally:
        client.settimeout(LIMIT_S)


def trickle(client: socket.socket) -> None:
    """Send byte after byte, until the server has enough of it."""
    until = time.monotonic() + LIMIT_S
    while time.monotonic() < until:
        client.sendall(b"x")


def sample(side: int) -> bytes:
    recipe = {"crop": {"pad": True}}
    return json.dumps({"recipe": recipe, "volume": "case_1", "patch": [side] * 3, "seed": 1, "count": 1}).encode()


@pytest.mark.parametrize("said", [b"", b"G", HEAD[:40], HEAD + b"\r\n{"], ids=["nothing", "one byte", "half a head", "half a body"])
def test_clients_that_keep_the_page_waiting_lock_nobody_out(shown: Any, clients: Callable[..., Any], said: bytes) -> None:
    idle = clients(MAX_CONNECTIONS, said)
    assert [ask(shown) for _ in range(3)] == [200] * 3
    assert is_cut_off(idle[0])  # who has waited longest, for the first; the places of the others were then free
    assert is_open(idle[-1])


def test_many_more_idle_clients_than_places_leave_those_that_came_last(shown: Any, clients: Callable[..., Any]) -> None:
    idle = clients(3 * MAX_CONNECTIONS)
    assert ask(shown) == 200
    assert [is_cut_off(client) for client in idle[: 2 * MAX_CONNECTIONS]] == [True] * 2 * MAX_CONNECTIONS
    assert all(is_open(client) for client in idle[2 * MAX_CONNECTIONS + 1 :])


def test_a_turn_that_lasts_too_long_is_ended_whatever_trickles_in(
    shown: Any, clients: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "_PATIENCE_S", 0.2)
    [silent], [trickling] = clients(1), clients(1, b"GET / HTTP/1.1\r\nX: ")
    assert is_cut_off(silent)
    with pytest.raises((BrokenPipeError, ConnectionResetError)):
        trickle(trickling)


def test_a_request_that_is_being_answered_is_never_cut_off(show: Callable[..., Any], ct: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = show(ct)
    monkeypatch.setattr(connections, "_PATIENCE_S", 0.2)
    gate = threading.Event()
    shown.page._routes._drawing._pool.submit(gate.wait)
    with ThreadPoolExecutor(1) as caller:
        answer = caller.submit(ask, shown, "POST", "/api/sheet", sample(8))
        while shown.page._routes._drawing._pending == 0:
            assert ask(shown) == 200
        for _ in range(2):  # as clocks: each lasts as long as a turn may
            with connect(shown) as idle:
                assert is_cut_off(idle)
        gate.set()
        assert answer.result() == 200


def test_clients_that_do_not_take_their_samples_give_the_places_back(
    shown: Any, clients: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "_PATIENCE_S", 1.0)
    body = sample(128)  # 10 MB: more than the buffers on the way hold
    said = b"POST /api/sample HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
    for client in clients(4, said + body, small=True):
        assert client.recv(12) == b"HTTP/1.1 200"
    assert ask(shown, "POST", "/api/sample", body) == 503
    until = time.monotonic() + LIMIT_S
    while (status := ask(shown, "POST", "/api/sample", body)) == 503:
        assert time.monotonic() < until
    assert status == 200
