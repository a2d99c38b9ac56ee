"""A network that falls silent, and a reader that does: keepalive tells them apart."""

from __future__ import annotations

import socket
import threading

import augclient
import pytest
from augclient import errors
from augclient.wire.methods import client_options

pytestmark = pytest.mark.usefixtures("each_receiver")

RECIPE = augclient.Recipe()


class Relay:
    """A TCP relay that can stop forwarding without closing anything, as a cut cable does."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._open = threading.Event()
        self._open.set()
        self._sockets = [self._listener]
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        self._open.clear()

    def close(self) -> None:
        self._open.set()
        for each in self._sockets:
            try:
                each.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue  # already gone
            finally:
                each.close()

    def _accept(self) -> None:
        try:
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._target))
                self._sockets += [client, server]
                for pair in ((client, server), (server, client)):
                    threading.Thread(target=self._pump, args=pair, daemon=True).start()
        except OSError:
            return  # closed

    def _pump(self, source: socket.socket, target: socket.socket) -> None:
        try:
            while data := source.recv(1 << 16):
                self._open.wait()
                target.sendall(data)
        except OSError:
            return  # closed


@pytest.fixture
def impatient(monkeypatch):
    """Keepalive after 0.3 s of silence, dead after another 0.3 s."""
    short = {**dict(client_options()), "grpc.keepalive_time_ms": 300}
    short |= {name: 300 for name in short if name.endswith("_timeout_ms")}
    monkeypatch.setattr("augclient.channel.client_options", lambda: list(short.items()))


@pytest.mark.slow
def test_cut_network_is_noticed_without_a_reset(running, impatient):
    running.servicer.part_bytes = 1 << 20
    relay = Relay(running.port)
    try:
        with augclient.connect(relay.address, timeout_s=5) as server:
            stream = server.stream(RECIPE, patch=(40, 50, 60), batch_size=4, reconnect_s=0.0)
            next(stream)
            relay.cut()
            with pytest.raises(errors.UnavailableError, match="restart the server and resume"):
                list(stream)
    finally:
        relay.close()


@pytest.mark.slow
def test_reader_that_pauses_for_longer_than_keepalive_keeps_its_stream(running, impatient):
    """While nobody reads, the flow-control window is full: the pings must pass all the same."""
    running.servicer.part_bytes = 1 << 20
    pause = threading.Event()
    with augclient.connect(running.address) as server:
        stream = server.stream(RECIPE, patch=(40, 100, 100), batch_size=4, reconnect_s=0.0)
        next(stream)
        assert not pause.wait(2.0)
        assert [next(stream).step for _ in range(5)] == [1, 2, 3, 4, 5]
        assert len(running.servicer.requests) == 1
