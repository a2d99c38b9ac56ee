"""Connections end with those who opened them, however a stream was left."""

from __future__ import annotations

import os
import socket
import stat
import time

import augclient
import pytest


def open_sockets() -> int:
    """TCP sockets of this process that have a peer."""
    count = 0
    for name in os.listdir("/proc/self/fd"):
        try:
            if not stat.S_ISSOCK(os.fstat(int(name)).st_mode):
                continue
            with socket.socket(fileno=os.dup(int(name))) as one:
                count += one.family in (socket.AF_INET, socket.AF_INET6) and one.getpeername() is not None
        except OSError:  # gone since, or listening
            continue
    return count


@pytest.mark.parametrize("taken", [0, 1, 5])
def test_no_socket_outlives_its_server_object(toy, running, taken):
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
    assert open_sockets() == before
