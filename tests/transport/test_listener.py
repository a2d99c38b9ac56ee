"""The server's end of the Unix socket: who is let in, what they may say, and what stays when they are gone."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
import struct
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from augclient.local.protocol import TOKEN_BYTES, decode_hello, encode_release

from augserver.errors import ConfigError, StateError, UnavailableError
from augserver.transport import LocalListener, LocalPeer

ME = os.geteuid()


class Clock:
    """Counts calls and lets a test wait for them."""

    def __init__(self) -> None:
        self.calls = 0
        self._changed = threading.Condition()

    def __call__(self) -> None:
        with self._changed:
            self.calls += 1
            self._changed.notify_all()

    def wait_for(self, calls: int) -> bool:
        with self._changed:
            return self._changed.wait_for(lambda: self.calls >= calls, 10)


@pytest.fixture
def listen(tmp_path: Path) -> Iterator[Callable[..., LocalListener]]:
    made: list[LocalListener] = []

    def make(folder: Path = tmp_path / "run", **how: object) -> LocalListener:
        made.append(LocalListener(folder, **{"permissions": 0o700, "users": {ME}, "max_peers": 8} | how))
        return made[-1]

    yield make
    for each in made:
        with contextlib.suppress(OSError):
            each.close()


def connect(listener: LocalListener) -> socket.socket:
    client = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    client.settimeout(10)
    client.connect(os.fspath(listener.path))
    return client


def meet(listener: LocalListener) -> tuple[socket.socket, LocalPeer]:
    client = connect(listener)
    peer = listener.find(decode_hello(client.recv(64)))
    assert peer is not None
    return client, peer


def test_a_client_gets_a_token_that_names_its_connection_and_no_other(listen: Callable[..., LocalListener]) -> None:
    listener = listen()
    (one, first), (two, second) = meet(listener), meet(listener)
    assert first is not second
    assert len(first.token) == TOKEN_BYTES
    assert listener.find(bytes(TOKEN_BYTES)) is None
    assert listener.find(first.token[:-1]) is None
    assert listener.find(b"") is None
    one.close()
    two.close()


def test_another_user_is_refused_before_anything_is_said(listen: Callable[..., LocalListener]) -> None:
    listener = listen(peer_user=lambda connection: ME + 1)
    with connect(listener) as client:
        assert client.recv(64) == b""
    assert listener.statistics().refused == 1
    assert listener.statistics().peers == 0


def test_a_user_that_the_settings_name_is_let_in(listen: Callable[..., LocalListener]) -> None:
    listener = listen(peer_user=lambda connection: ME + 1, users={ME, ME + 1})
    client, _ = meet(listener)
    client.close()


def test_no_more_clients_than_may_be(listen: Callable[..., LocalListener]) -> None:
    listener = listen(max_peers=1)
    client, _ = meet(listener)
    with connect(listener) as late:
        assert late.recv(64) == b""
    client.close()


@pytest.mark.parametrize(
    "packet",
    [
        b"x",
        b"AUGF",
        encode_release(1)[:-1],
        encode_release(1) + b"\0",
        b"AUGX" + encode_release(1)[4:],
        struct.pack("<4sIQ", b"AUGF", 1, 1),
        encode_release(2),  # never given
        encode_release(2**64 - 1),
        b"AUGF" * 1000,
    ],
)
def test_a_malformed_packet_ends_its_connection_and_its_leases_and_no_others(listen: Callable[..., LocalListener], packet: bytes) -> None:
    listener, ended, others = listen(), Clock(), Clock()
    (bad, guilty), (good, innocent) = meet(listener), meet(listener)
    assert guilty.lease(ended) == 1
    assert innocent.lease(others) == 1
    bad.send(packet)
    assert bad.recv(64) == b""  # closed
    assert ended.wait_for(1)
    assert listener.find(innocent.token) is innocent
    good.send(encode_release(1))
    assert others.wait_for(1)
    bad.close()
    good.close()
    assert (ended.calls, others.calls) == (1, 1)


def test_a_lease_ends_once_when_it_is_returned(listen: Callable[..., LocalListener]) -> None:
    listener, ended = listen(), Clock()
    client, peer = meet(listener)
    numbers = [peer.lease(ended) for _ in range(3)]
    client.send(encode_release(numbers[1]))
    assert ended.wait_for(1)
    assert peer.leases == 2
    client.send(encode_release(numbers[1]))  # a second time: a client that does not count is not to be trusted with memory
    assert ended.wait_for(3)
    assert ended.calls == 3
    client.close()


def test_a_client_that_dies_returns_all_leases_and_ends_its_stream(listen: Callable[..., LocalListener]) -> None:
    listener, ended, over = listen(), Clock(), Clock()
    client, peer = meet(listener)
    memory = os.memfd_create("test")
    peer.attach(memory, 4096, over)
    with pytest.raises(StateError, match="has served a stream already"):
        peer.attach(memory, 4096, over)
    os.close(memory)
    for _ in range(5):
        peer.lease(ended)
    client.close()
    assert ended.wait_for(5)
    assert over.wait_for(1)
    with pytest.raises(UnavailableError):
        peer.lease(ended)
    assert (ended.calls, over.calls) == (6, 1)  # the one that came too late has ended as well


def test_memory_for_a_client_that_is_gone_is_let_go_at_once(listen: Callable[..., LocalListener]) -> None:
    listener, gone, over = listen(), Clock(), Clock()
    client, peer = meet(listener)
    peer.lease(gone)
    client.close()
    assert gone.wait_for(1)
    with pytest.raises(UnavailableError):
        peer.attach(0, 4096, over)
    assert over.calls == 1


def test_stale_sockets_go_and_live_ones_stay(listen: Callable[..., LocalListener], tmp_path: Path) -> None:
    first = listen()
    folder = first.path.parent
    dead = folder / "augserver-dead.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as corpse:
        corpse.bind(os.fspath(dead))  # as kill -9 leaves it: bound, and nobody listens
    (folder / "augserver-file.sock").write_text("not ours to delete")
    (folder / "other.sock").write_text("nor this")
    second = listen()
    assert not dead.exists()
    assert sorted(each.name for each in folder.iterdir()) == sorted(
        ["augserver-file.sock", "other.sock", first.path.name, second.path.name]
    )
    client, _ = meet(first)
    client.close()


def test_closing_takes_the_socket_away_and_ends_every_connection(listen: Callable[..., LocalListener]) -> None:
    listener, ended = listen(), Clock()
    client, peer = meet(listener)
    peer.lease(ended)
    listener.close()
    assert client.recv(64) == b""
    assert ended.calls == 1
    assert list(listener.path.parent.iterdir()) == []
    client.close()


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A folder with room for a socket's path below it, which has at most 107 bytes; pytest's own names take most of them."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def test_the_folder_is_the_users_alone(listen: Callable[..., LocalListener], short_path: Path) -> None:
    listener = listen(short_path / "deep" / "run")
    assert stat.S_IMODE(listener.path.parent.stat().st_mode) == 0o700
    open_to_all = short_path / "open"
    open_to_all.mkdir(mode=0o755)
    open_to_all.chmod(0o755)
    with pytest.raises(StateError, match=r"permissions 755; due are user .* at most 700"):
        listen(open_to_all)
    assert listen(open_to_all, permissions=0o755).path.parent == open_to_all
    link = short_path / "link"
    link.symlink_to(listener.path.parent)
    with pytest.raises(StateError, match="cannot be used"):
        listen(link)
    (short_path / "file").write_text("")
    with pytest.raises(StateError, match="cannot be used"):
        listen(short_path / "file")


def test_a_folder_too_long_for_a_socket_is_named(listen: Callable[..., LocalListener], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"too long: a socket's path in it has \d+ bytes, at most 107"):
        listen(tmp_path / ("x" * 100))


USED_UP = """
import os, resource, socket, sys, time
from pathlib import Path
from augserver.transport import LocalListener

listener = LocalListener(Path(sys.argv[1]), permissions=0o700, users={os.geteuid()}, max_peers=4)
def client():
    made = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    made.settimeout(10)
    return made
first, second, third = client(), client(), client()
first.connect(os.fspath(listener.path))
assert first.recv(64)
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
free = os.dup(0)
os.close(free)
resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
second.connect(os.fspath(listener.path))
third.connect(os.fspath(listener.path))
began = time.process_time()
time.sleep(1)
print(time.process_time() - began, listener.statistics().peers)
first.shutdown(socket.SHUT_RDWR)  # its peer closes, which leaves room for one
assert second.recv(64)
print(listener.statistics().peers)
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
assert third.recv(64)
print(listener.statistics().peers)
listener.close()
"""


def test_without_descriptors_the_listener_rests_until_one_is_free(tmp_path: Path) -> None:
    ended = subprocess.run([sys.executable, "-c", USED_UP, str(tmp_path / "run")], capture_output=True, text=True, timeout=60, check=True)
    seconds, *peers = ended.stdout.split()
    assert float(seconds) < 0.2  # of the one second that it was short
    assert peers == ["1", "1", "2"]
    assert ended.stderr.count("clients wait on") == 1
    assert "Too many open files; raise the limit of the server's descriptors" in ended.stderr
