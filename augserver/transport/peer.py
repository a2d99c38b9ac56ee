"""One client on the Unix socket: its token, the memory it was given, and the leases it holds."""

from __future__ import annotations

import errno
import itertools
import socket
import threading
from collections.abc import Callable

from augclient.local.protocol import encode_ring

from augserver.errors import BudgetError, StateError, UnavailableError

_GONE = (errno.EPIPE, errno.ECONNRESET, errno.ENOTCONN, errno.EBADF)


class LocalPeer:
    """A connected client. Thread-safe; its socket is read by the listener alone.

    Attributes:
        token: what the client must show in its gRPC call.
    """

    def __init__(self, connection: socket.socket, token: bytes) -> None:
        self.token = token
        self._socket = connection
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._leases: dict[int, Callable[[], None]] = {}
        self._on_close: list[Callable[[], None]] = []
        self._attached = False
        self._closed = False

    @property
    def leases(self) -> int:
        """Slots that the client holds."""
        with self._lock:
            return len(self._leases)

    def attach(self, descriptor: int, size_bytes: int, on_close: Callable[[], None]) -> None:
        """Hand over the memory of the stream that this connection is for.

        Args:
            descriptor: of the sealed memfd; may be closed afterwards.
            on_close: called once when the client is gone, after its leases have ended; at once where it is gone already.
        Raises:
            StateError: the connection has a stream, or had one. UnavailableError: the client is gone.
            BudgetError: the system does not let a descriptor be handed over.
        """
        with self._lock:
            if self._attached:
                raise StateError("local.token: its connection has served a stream already; connect to the socket again for another one")
            self._attached = True
            gone = self._closed
            if not gone:
                self._on_close.append(on_close)
        if gone:
            on_close()
            raise UnavailableError("the client has closed its local socket")
        try:
            socket.send_fds(self._socket, [encode_ring(size_bytes)], [descriptor])
        except OSError as error:
            if error.errno in _GONE:
                raise UnavailableError(f"the client's local socket broke: {error.strerror}") from error
            raise BudgetError(
                f"the server's system does not let it hand memory over (sendmsg with a descriptor: {error.strerror}); "
                "allow that in the server's sandbox, or use transport='grpc', which takes none"
            ) from error

    def lease(self, end: Callable[[], None]) -> int:
        """Count a lease on a slot.

        Args:
            end: called once, when the client returns it or is gone.
        Returns:
            Its number, for the client.
        Raises:
            UnavailableError: the client is gone; `end` was called.
        """
        with self._lock:
            if not self._closed:
                number = next(self._numbers)
                self._leases[number] = end
                return number
        end()
        raise UnavailableError("the client has closed its local socket")

    def end_lease(self, number: int) -> bool:
        """Take a lease back; False where the client does not hold it."""
        with self._lock:
            end = self._leases.pop(number, None)
        if end is None:
            return False
        end()
        return True

    def close(self) -> None:
        """The client is gone, or shall go: end its leases, then what waits for it. Twice is fine."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            ends = [*self._leases.values(), *self._on_close]
            self._leases.clear()
            self._on_close.clear()
        self._socket.close()
        for end in ends:
            end()
