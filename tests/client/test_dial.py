"""Connecting: the addresses of a name race each other, and the one that answered is asked first from then on."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import pytest
from augclient.wire import dial
from augclient.wire.address import parse_address
from augclient.wire.dial import Dial


@pytest.fixture(autouse=True)
def forget(monkeypatch) -> None:
    monkeypatch.setattr(dial, "_good", {})


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as made:
        yield made


@pytest.fixture
def hole() -> Iterator[socket.socket]:
    """A listener whose backlog is full: who connects waits."""
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        made.listen(0)
        waiting = [socket.socket() for _ in range(4)]
        for each in waiting:
            each.setblocking(False)
            each.connect_ex(made.getsockname())
        yield made
        for each in waiting:
            each.close()


def refusing() -> tuple[str, int]:
    with socket.create_server(("127.0.0.1", 0)) as made:
        place: tuple[str, int] = made.getsockname()
        return place


@pytest.fixture
def name_gives(monkeypatch):
    """Lets the name "some.host" have these addresses."""

    def give(*places: tuple[str, int]) -> None:
        def look_up(host: str, port: int, *, type: int, flags: int = 0) -> list[object]:
            if flags & socket.AI_NUMERICHOST:
                raise socket.gaierror(socket.EAI_NONAME, "no number")
            return [(socket.AF_INET, type, 0, "", place) for place in places]

        monkeypatch.setattr(socket, "getaddrinfo", look_up)

    return give


def connect(text: str = "some.host:1") -> tuple[socket.socket, float]:
    began = time.monotonic()
    return Dial(parse_address(text), None, None).connect(), time.monotonic() - began


def test_a_dead_first_address_costs_one_attempt_in_a_process(name_gives, hole, listener):
    name_gives(hole.getsockname(), listener.getsockname())
    spent = []
    for _ in range(3):
        link, seconds = connect()
        assert link.getpeername() == listener.getsockname()
        link.close()
        spent.append(seconds)
    assert dial.NEXT_ATTEMPT_S <= spent[0] < 2
    assert max(spent[1:]) < dial.NEXT_ATTEMPT_S


def test_an_address_that_refuses_costs_nothing_and_the_last_good_one_may_die(name_gives, hole, listener):
    name_gives(refusing(), listener.getsockname())
    link, seconds = connect()
    assert link.getpeername() == listener.getsockname()
    assert seconds < dial.NEXT_ATTEMPT_S
    link.close()
    dial._good["some.host", 1] = (socket.AF_INET, hole.getsockname())
    name_gives(listener.getsockname(), hole.getsockname())
    link, seconds = connect()
    assert link.getpeername() == listener.getsockname()
    assert dial.NEXT_ATTEMPT_S <= seconds < 2
    link.close()


def test_none_that_answers_is_an_error_in_bounded_time(name_gives, hole, monkeypatch):
    monkeypatch.setattr(dial, "CONNECT_TIMEOUT_S", 0.6)
    name_gives(hole.getsockname(), refusing(), hole.getsockname())
    began = time.monotonic()
    with pytest.raises(OSError, match=r"refused|timed out"):
        connect()
    assert time.monotonic() - began < 3


def test_cancel_ends_the_race(name_gives, hole):
    name_gives(hole.getsockname(), hole.getsockname())
    attempt = Dial(parse_address("some.host:1"), None, None)
    threading.Timer(0.4, attempt.cancel).start()
    began = time.monotonic()
    with pytest.raises(OSError, match="cancelled"):
        attempt.connect()
    assert time.monotonic() - began < 2
    assert not attempt._sockets
