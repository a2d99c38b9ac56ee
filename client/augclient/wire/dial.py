"""From an address to a connected socket, with TLS or without; cancelled from another thread wherever it stands.

    the last good place -> 0.25 s -> the next one of the name -> 0.25 s -> ...      all of them wait; the first that answers is taken

So an address that swallows connections costs a quarter of a second once in a process, and nothing from then on.
"""

from __future__ import annotations

import os
import queue
import selectors
import socket
import ssl
import threading
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, TypeAlias, cast

from augclient.wire.address import Address

CONNECT_TIMEOUT_S = 5.0  # from the last attempt that was begun, and for each handshake
NEXT_ATTEMPT_S = 0.25  # RFC 8305, section 5

Place: TypeAlias = tuple[int, Any]  # the family of a socket, and its address

_Selector = getattr(selectors, "PollSelector", selectors.SelectSelector)  # neither takes a descriptor
_NUMERIC = socket.AI_NUMERICHOST  # asks nobody
_good: dict[tuple[str, int], Place] = {}  # where a name's server answered last, in this process


class Dial:
    """One attempt to connect; `cancel` and `close` work during it and after it.

    Args:
        address: of the server.
        tls: None: no encryption.
        tls_name: what the server's certificate must be for; None: the host.
    """

    def __init__(self, address: Address, tls: ssl.SSLContext | None, tls_name: str | None) -> None:
        self._address = address
        self._tls = tls
        self._tls_name = tls_name or address.host.rstrip(".") or "localhost"
        # re-entrant, as a garbage collection under it may end a stream and cancel its call
        self._lock = threading.RLock()
        self._answers: queue.SimpleQueue[Any] = queue.SimpleQueue()  # of the name service
        self._sockets: set[socket.socket] = set()  # those that cancel() must reach
        self._cancelled = False

    def connect(self) -> socket.socket:
        """Connect, which may take seconds.

        Raises:
            OSError: nobody answers, the name has no address, or the certificate is not to be trusted; after cancel().
        """
        places = self._places()
        name = (self._address.host, self._address.port)
        if _good.get(name) in places:
            places.sort(key=lambda place: place != _good[name])
        failure = OSError("the name has no address")
        while places:
            place, connection = self._race(places)
            try:
                connection.settimeout(CONNECT_TIMEOUT_S)
                if not self._address.path:
                    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                if self._tls is not None:
                    connection = self._encrypt(connection, self._tls)
            except OSError as error:
                self.close()
                failure = error
                if self._cancelled:
                    break
                places.remove(place)
                continue
            _good[name] = place
            return connection
        raise failure

    def cancel(self) -> None:
        """Wake whoever connects or reads, with an error; any thread, any number of times."""
        with self._lock:
            self._cancelled = True
            self._answers.put(None)
            for each in self._sockets:
                _shut_down(each)

    def close(self) -> None:
        """Close the connection. For the thread that connects and reads; any number of times."""
        with self._lock:
            left, self._sockets = self._sockets, set()
        for each in left:
            _shut_down(each)  # a forked child may hold it too
            each.close()

    def _places(self) -> list[Place]:
        """Each place where the server may be."""
        if self._address.path:
            return [(socket.AF_UNIX, self._address.path)]
        host, port = self._address.host, self._address.port
        with suppress(socket.gaierror, UnicodeError):
            return [(family, place) for family, _, _, _, place in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=_NUMERIC)]
        # in a thread of its own: a name service that does not answer cannot be interrupted
        threading.Thread(target=self._look_up, args=(host, port), name="augclient-name", daemon=True).start()
        answer = self._answers.get()
        if isinstance(answer, OSError):
            raise answer
        return [] if answer is None else [(family, place) for family, _, _, _, place in answer]

    def _look_up(self, host: str, port: int) -> None:
        try:
            self._answers.put(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except (OSError, UnicodeError) as error:
            self._answers.put(OSError(f"{host!r} is no name of a host: {error}"))

    def _race(self, places: Sequence[Place]) -> tuple[Place, socket.socket]:
        """The first of the places that takes a connection, the others left; OSError if none does, the last one's own."""
        ahead = deque(places)
        begun: dict[socket.socket, Place] = {}
        failure: OSError = TimeoutError("timed out")
        next_at = deadline = time.monotonic()
        with _Selector() as selector:
            try:
                while ahead or begun:
                    now = time.monotonic()
                    if ahead and (now >= next_at or not begun):
                        place = ahead.popleft()
                        connection = socket.socket(place[0], socket.SOCK_STREAM)
                        begun[connection] = place
                        self._adopt(connection)
                        error = _begin(connection, place)
                        if error is None:
                            selector.register(connection, selectors.EVENT_WRITE)
                            next_at, deadline = now + NEXT_ATTEMPT_S, now + CONNECT_TIMEOUT_S
                        else:
                            failure = error
                            self._drop(connection)
                            del begun[connection]
                        continue
                    for key, _ in selector.select(max((min(next_at, deadline) if ahead else deadline) - time.monotonic(), 0.0)):
                        connection = cast(socket.socket, key.fileobj)
                        selector.unregister(connection)
                        code = connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                        self._check_cancelled()  # which may look like a connection
                        if not code:
                            return begun.pop(connection), connection
                        failure = OSError(code, os.strerror(code))
                        self._drop(connection)
                        del begun[connection]
                    if not ahead and time.monotonic() >= deadline:
                        break
            finally:
                for each in begun:
                    self._drop(each)
        raise failure

    def _encrypt(self, connection: socket.socket, tls: ssl.SSLContext) -> ssl.SSLSocket:
        wrapped = tls.wrap_socket(connection, server_hostname=self._tls_name, do_handshake_on_connect=False)
        with self._lock:
            self._sockets.discard(connection)  # which has lost its descriptor to the other
        self._adopt(wrapped)
        wrapped.do_handshake()
        if wrapped.selected_alpn_protocol() != "h2":
            raise OSError("what answers there with TLS does not speak HTTP/2, and so no gRPC")
        return wrapped

    def _adopt(self, connection: Any) -> Any:
        """Let cancel() reach a socket; OSError if it was called before."""
        with self._lock:
            self._sockets.add(connection)
            self._check_cancelled()
        return connection

    def _drop(self, connection: socket.socket) -> None:
        with self._lock:
            self._sockets.discard(connection)
        connection.close()

    def _check_cancelled(self) -> None:
        if self._cancelled:
            raise OSError("the call was cancelled")


def _begin(connection: socket.socket, place: Place) -> OSError | None:
    """Begin to connect without waiting; what failed at once."""
    connection.setblocking(False)
    try:
        connection.connect(place[1])
    except BlockingIOError as error:
        return error if place[0] == getattr(socket, "AF_UNIX", None) else None  # a Unix socket's backlog is full: it does not go on
    except OSError as error:
        return error
    return None


def _shut_down(connection: socket.socket) -> None:
    with suppress(OSError):  # not connected yet, or no more
        socket.socket.shutdown(connection, socket.SHUT_RDWR)  # an SSLSocket's own would forget its keys under the reader
