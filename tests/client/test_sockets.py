"""Connections end with those who opened them, however a stream was left."""

from __future__ import annotations

import time

import augclient
import pytest

pytestmark = pytest.mark.usefixtures("each_receiver")


@pytest.mark.parametrize("taken", [0, 1, 5])
def test_no_socket_outlives_its_server_object(toy, running, taken, open_sockets):
    before = open_sockets()
    for _ in range(8):
        with augclient.connect(running.address) as server:
            stream = server.stream(augclient.Recipe(), patch=(3, 5, 7), batch_size=4, steps=5)
            for _ in range(taken):
                next(stream)
            server.volume("case_0")
    deadline = time.monotonic() + 10
    while open_sockets() > before and time.monotonic() < deadline:  # gRPC closes them on a thread of its own
        time.sleep(0.01)
    assert open_sockets() <= before  # less, if those of an earlier test were still being closed
