"""From an address to a connected socket, with TLS or without; cancelled from another thread wherever it stands."""

from __future__ import annotations

import queue
import socket
import ssl
import threading
from contextlib import suppress
from typing import Any

CONNECT_TIMEOUT_S = 5.0  # for each address of a name, and for the handshake

_NUMERIC = socket.AI_NUMERICHOST  # asks nobody

_UNIX = "unix:"
_SCHEMES = ("ipv4:", "ipv6:", "dns:///", "dns:")


class Dial:
    """One attempt to connect; `cancel` and `close` work during it and after it.

    Args:
        address: "host:port", with or without "ipv4:", "ipv6:" or "dns:" before it, or "unix:path".
        tls: None: no encryption.
        tls_name: what the server's certificate must be for; None: the host.
    """

    def __init__(self, address: str, tls: ssl.SSLContext | None, tls_name: str | None) -> None:
        self._address = address
        self._tls = tls
        self._tls_name = tls_name
        # re-entrant, as a garbage collection under it may end a stream and cancel its call
        self._lock = threading.RLock()
        self._answers: queue.SimpleQueue[Any] = queue.SimpleQueue()  # of the name service
        self._socket: socket.socket | None = None
        self._cancelled = False

    def connect(self) -> socket.socket:
        """Connect, which may take seconds.

        Raises:
            OSError: nobody answers, the name has no address, or the certificate is not to be trusted; after cancel().
        """
        failure: OSError | None = None
        for family, place in self._places():
            try:
                connection = self._adopt(socket.socket(family, socket.SOCK_STREAM))
                connection.settimeout(CONNECT_TIMEOUT_S)
                connection.connect(place)
                if self._cancelled:  # just before, when there was nothing to shut down
                    raise OSError("the call was cancelled")
                if family != getattr(socket, "AF_UNIX", None):
                    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                return connection if self._tls is None else self._encrypt(connection, self._tls)
            except OSError as error:
                self.close()
                failure = error
                if self._cancelled:
                    break
        raise failure or OSError("the name has no address")

    def cancel(self) -> None:
        """Wake whoever connects or reads, with an error; any thread, any number of times."""
        with self._lock:
            self._cancelled = True
            self._answers.put(None)
            if self._socket is not None:
                _shut_down(self._socket)

    def close(self) -> None:
        """Close the connection. For the thread that connects and reads; any number of times."""
        with self._lock:
            connection, self._socket = self._socket, None
        if connection is not None:
            _shut_down(connection)  # a forked child may hold it too
            connection.close()

    def _places(self) -> list[tuple[int, Any]]:
        """(family, address) of each place where the server may be."""
        if self._address.startswith(_UNIX):
            path = self._address.removeprefix(_UNIX)
            return [(socket.AF_UNIX, "/" + path.lstrip("/") if path.startswith("/") else path)]
        host, port = split_host(self._address)
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

    def _encrypt(self, connection: socket.socket, tls: ssl.SSLContext) -> ssl.SSLSocket:
        host = "localhost" if self._address.startswith(_UNIX) else split_host(self._address)[0]
        wrapped = tls.wrap_socket(connection, server_hostname=self._tls_name or host, do_handshake_on_connect=False)
        self._adopt(wrapped)
        wrapped.do_handshake()
        if wrapped.selected_alpn_protocol() != "h2":
            raise OSError("what answers there with TLS does not speak HTTP/2, and so no gRPC")
        return wrapped

    def _adopt(self, connection: Any) -> Any:
        """Let cancel() reach it; OSError where that came before."""
        with self._lock:
            self._socket = connection
            if self._cancelled:
                raise OSError("the call was cancelled")
        return connection


def split_host(address: str) -> tuple[str, int]:
    """Host, without brackets, and port of an address that is no Unix socket."""
    for scheme in _SCHEMES:
        address = address.removeprefix(scheme)
    host, _, port = address.rpartition(":")
    return host.removeprefix("[").removesuffix("]"), int(port)


def _shut_down(connection: socket.socket) -> None:
    with suppress(OSError):  # not connected yet, or no more
        socket.socket.shutdown(connection, socket.SHUT_RDWR)  # an SSLSocket's own would forget its keys under the reader
