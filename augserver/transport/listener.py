"""Accepts clients of allowed users on a Unix socket and reads what they return; one thread for all of them.

    client connects -> SO_PEERCRED: which user -> HELLO with a random token -> the client names the token in StreamBatches
    -> the service finds the peer by it and attaches a ring -> RELEASE, RELEASE, ... -> the socket closes: the client is gone

What a peer sends is checked here: anything but the return of a lease that it holds ends its connection, and hurts nobody else.
"""

from __future__ import annotations

import contextlib
import errno
import hmac
import logging
import os
import secrets
import selectors
import socket
import struct
import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from augclient.local.protocol import MAX_PACKET, TOKEN_BYTES, decode_release, encode_hello

from augserver.errors import WireError
from augserver.transport.peer import LocalPeer
from augserver.transport.runtime_folder import bind_socket, open_folder

_log = logging.getLogger(__name__)

_CREDENTIALS = struct.Struct("3i")  # pid, uid, gid
_PACKETS_AT_ONCE = 64  # read from one peer before the next one's turn
_USED_UP = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_PAUSE_S = 0.1  # without listening while descriptors are used up: a socket with a waiting client stays readable, and select() never waits


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalStatistics:
    """Clients on the socket and the slots that they hold; clients refused since the start, by user or number."""

    peers: int
    max_peers: int
    leases: int
    refused: int


class LocalListener:
    """Listens from construction to close().

    Args:
        folder: of the socket; made if it is not there.
        permissions: of the folder, at most.
        users: ids of the users whose clients are let in.
        max_peers: connections at a time.
        peer_user: connected socket -> id of the user at its other end.
    Raises:
        ConfigError, StateError: the folder or the socket in it cannot be used.
    """

    def __init__(
        self,
        folder: Path,
        *,
        permissions: int,
        users: Collection[int],
        max_peers: int,
        peer_user: Callable[[socket.socket], int] | None = None,
    ) -> None:
        self._users = frozenset(users)
        self._max_peers = max_peers
        self._peer_user = peer_user or _read_peer_user
        self._lock = threading.Lock()
        self._peers: dict[socket.socket, LocalPeer] = {}
        self._refused = 0
        self._listen_at: float | None = None  # when the socket is listened on again; None: it is now
        self._told_used_up = False
        with contextlib.ExitStack() as undo:
            descriptor = open_folder(folder, permissions)
            try:
                self._socket, self.path = bind_socket(folder, descriptor, backlog=max_peers)
            finally:
                os.close(descriptor)
            undo.callback(self._socket.close)
            undo.callback(self.path.unlink, missing_ok=True)
            self._selector = undo.enter_context(selectors.DefaultSelector())
            self._wake, self._woken = socket.socketpair()
            undo.callback(self._wake.close)
            undo.callback(self._woken.close)
            self._selector.register(self._socket, selectors.EVENT_READ)
            self._selector.register(self._woken, selectors.EVENT_READ)
            self._thread = threading.Thread(target=self._run, name="local-listener", daemon=True)
            self._thread.start()
            undo.pop_all()

    def find(self, token: bytes) -> LocalPeer | None:
        """The connected client that was given this token."""
        with self._lock:
            # every token is compared, each in constant time: how long this takes says nothing of how much was guessed
            found = [peer for peer in self._peers.values() if hmac.compare_digest(peer.token, token)]
        return found[0] if found else None

    def statistics(self) -> LocalStatistics:
        """Counters at this moment."""
        with self._lock:
            peers = list(self._peers.values())
            refused = self._refused
        return LocalStatistics(peers=len(peers), max_peers=self._max_peers, leases=sum(peer.leases for peer in peers), refused=refused)

    def close(self) -> None:
        """Take the socket away and close all connections; memory that clients have mapped stays theirs until they drop it."""
        with contextlib.suppress(FileNotFoundError):
            self.path.unlink()
        self._wake.close()
        self._thread.join()
        for connection in list(self._peers):
            self._drop(connection)
        self._selector.close()
        self._socket.close()
        self._woken.close()

    def _run(self) -> None:
        while True:
            wait_s = None if self._listen_at is None else max(0.0, self._listen_at - time.monotonic())
            ready = self._selector.select(wait_s)
            if self._listen_at is not None and time.monotonic() >= self._listen_at:
                self._listen_again()
            for key, _ in ready:
                if key.fileobj is self._woken:
                    return
                if key.fileobj is self._socket:
                    self._accept()
                elif isinstance(key.fileobj, socket.socket):
                    self._read(key.fileobj)

    def _accept(self) -> None:
        try:
            connection, _ = self._socket.accept()
        except OSError as error:
            if error.errno in _USED_UP:
                self._pause(error)
            return  # else it went away again
        connection.setblocking(False)
        try:
            user = self._peer_user(connection)
            if user not in self._users:
                raise PermissionError(f"user {user} is not one of {sorted(self._users)}")
            if len(self._peers) >= self._max_peers:
                raise PermissionError(f"{self._max_peers} clients are connected, as many as may be")
            token = secrets.token_bytes(TOKEN_BYTES)
            peer = LocalPeer(connection, token)
            with self._lock:
                self._peers[connection] = peer  # before the token is told
            self._selector.register(connection, selectors.EVENT_READ)
            connection.send(encode_hello(token))
        except OSError as error:
            if connection in self._peers:
                self._drop(connection)  # it went away again, as a server does that looks for stale sockets
                return
            _log.warning("refused a client on %s: %s", self.path, error)
            with self._lock:
                self._refused += 1
            connection.close()

    def _pause(self, error: OSError) -> None:
        """Do not listen until a peer leaves its descriptor, or for a moment; clients wait in the backlog meanwhile."""
        if not self._told_used_up:
            self._told_used_up = True
            _log.warning(
                "clients wait on %s: %s; raise the limit of the server's descriptors (ulimit -n); said once", self.path, error.strerror
            )
        self._selector.unregister(self._socket)
        self._listen_at = time.monotonic() + _PAUSE_S

    def _listen_again(self) -> None:
        if self._listen_at is not None:
            self._listen_at = None
            self._selector.register(self._socket, selectors.EVENT_READ)

    def _read(self, connection: socket.socket) -> None:
        peer = self._peers[connection]
        try:
            for _ in range(_PACKETS_AT_ONCE):
                packet = connection.recv(MAX_PACKET + 1)
                if not packet:
                    self._drop(connection)
                    return
                lease = decode_release(packet)
                if not peer.end_lease(lease):
                    raise WireError(f"lease {lease} was returned, which the client does not hold")
        except BlockingIOError:
            return
        except WireError as error:
            _log.warning("closed a client on %s: %s", self.path, error)
            self._drop(connection)
        except OSError:
            self._drop(connection)

    def _drop(self, connection: socket.socket) -> None:
        with self._lock:
            peer = self._peers.pop(connection)
        self._selector.unregister(connection)
        peer.close()
        self._listen_again()


def _read_peer_user(connection: socket.socket) -> int:
    _, user, _ = _CREDENTIALS.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    return int(user)
