"""gRPC's call with one request and many answers, for answers of megabytes: each lies in the same buffer when its turn comes.

Client CPU 0.53 -> 0.24 s/GB beside grpcio's own (tests/benchmarks/bench_delivery.py), and nothing that a fork could break. One
connection per call. Every other call goes through grpcio.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Iterator, Sequence
from urllib.parse import unquote

import grpc
import numpy as np

from augclient.errors import AugError, BudgetError, WireError
from augclient.wire.address import Address
from augclient.wire.dial import Dial
from augclient.wire.http2 import Headers, Http2Error, Http2Stream, StreamResetError
from augclient.wire.status import ERROR_KEY, CallError

STAY_ALIVE_S = 0.1  # servers wait 10 s for the answer to a ping, or less where they are told so

_PREFIX_BYTES = 5  # compressed or not, then the length
_STATUSES = {code.value[0]: code for code in grpc.StatusCode}
# What gRPC makes of an answer by HTTP's status alone, and of a call that was broken off
_BY_HTTP_STATUS = {
    "400": grpc.StatusCode.INTERNAL,
    "401": grpc.StatusCode.UNAUTHENTICATED,
    "403": grpc.StatusCode.PERMISSION_DENIED,
    "404": grpc.StatusCode.UNIMPLEMENTED,
} | dict.fromkeys(("429", "502", "503", "504"), grpc.StatusCode.UNAVAILABLE)
_BY_RESET = {
    7: grpc.StatusCode.UNAVAILABLE,
    8: grpc.StatusCode.CANCELLED,
    11: grpc.StatusCode.RESOURCE_EXHAUSTED,
    12: grpc.StatusCode.PERMISSION_DENIED,
}


class UnaryStreamCall:
    """An iterator of encoded messages; connects when the first one is asked for.

    Iterate, stay_alive() and close() on one thread; cancel() from any.

    Args:
        method: "/package.Service/Method".
        request: serialised.
        metadata: pairs of text, names in lower case.
        address, tls, tls_name: as for Dial.
        keepalive_s, keepalive_timeout_s: as for Http2Stream.
        limit_bytes: of one message.
    """

    def __init__(
        self,
        method: str,
        request: bytes,
        metadata: Sequence[tuple[str, str]],
        *,
        address: Address,
        tls: ssl.SSLContext | None,
        tls_name: str | None,
        keepalive_s: float,
        keepalive_timeout_s: float,
        limit_bytes: int,
    ) -> None:
        self._request = request
        self._headers = [
            (":method", "POST"),
            (":scheme", "http" if tls is None else "https"),
            (":path", method),
            (":authority", tls_name or address.authority),
            ("te", "trailers"),
            ("content-type", "application/grpc"),
            ("user-agent", "augclient"),
            ("grpc-accept-encoding", "identity"),
            *metadata,
        ]
        self._keepalive = {"keepalive_s": keepalive_s, "keepalive_timeout_s": keepalive_timeout_s}
        self._limit_bytes = limit_bytes
        self._dial = Dial(address, tls, tls_name)
        self._stream: Http2Stream | None = None
        self._buffer = np.empty(0, np.uint8)
        self._cancelled = self._closed = False
        self._read_at = 0.0  # on time.monotonic, a message or what came aside

    def __iter__(self) -> Iterator[memoryview]:
        return self

    def __next__(self) -> memoryview:
        """The next message, valid until the one after it is asked for.

        Raises:
            CallError: the server refused or ended the call with an error, or is gone; nothing more comes then.
        """
        if self._closed:
            raise StopIteration
        try:
            message = self._read()
            self._read_at = time.monotonic()
        except Http2Error as error:
            self.close()
            raise self._lost(error) from error
        except BaseException:
            self.close()
            raise
        if message is None:
            self.close()
            raise StopIteration
        return message

    def cancel(self) -> None:
        """End the call; whoever waits in it gets a CallError. No-op after its end."""
        self._cancelled = True
        self._dial.cancel()

    def close(self) -> None:
        """End the call and close its connection; no-op after its end."""
        self._closed = True
        self._dial.close()

    def stay_alive(self) -> None:
        """To be called every STAY_ALIVE_S, or more often, while no message is asked for; raises CallError as next() does."""
        if self._stream is None or self._closed or time.monotonic() < self._read_at + STAY_ALIVE_S:
            return
        try:
            self._stream.stay_alive()
            self._read_at = time.monotonic()
        except Http2Error as error:
            self.close()
            raise self._lost(error) from error

    def _read(self) -> memoryview | None:
        """The next message; None after the last."""
        stream = self._stream
        if stream is None:
            stream = self._stream = self._open()
        prefix = bytearray(_PREFIX_BYTES)
        count = stream.read_into(memoryview(prefix))
        _check_answer(stream.headers)
        if count < _PREFIX_BYTES:
            _check_end(stream.trailers, stream.headers)
            if count:
                raise _broken("the server ended the call within a message", stream.headers)
            return None
        size = int.from_bytes(prefix[1:], "big")
        if prefix[0]:
            raise _refused(grpc.StatusCode.INTERNAL, WireError("the server sent a message that is compressed, which it was not allowed to"))
        if size > self._limit_bytes:
            raise _refused(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                BudgetError(f"the server sent a message of {size} bytes; allowed are {self._limit_bytes}"),
            )
        if size > self._buffer.size:
            self._buffer = np.empty(size, np.uint8)
        message = self._buffer.data[:size]
        if stream.read_into(message) < size:
            _check_end(stream.trailers, stream.headers)
            raise _broken("the server ended the call within a message", stream.headers)
        return message.toreadonly()

    def _open(self) -> Http2Stream:
        try:
            connection = self._dial.connect()
        except OSError as error:
            raise Http2Error(f"failed to connect: {getattr(error, 'verify_message', '') or error.strerror or error}") from error
        stream = Http2Stream(connection, **self._keepalive)
        prefix = b"\0" + len(self._request).to_bytes(_PREFIX_BYTES - 1, "big")
        stream.send(self._headers, prefix + self._request)
        return stream

    def _lost(self, error: Http2Error) -> CallError:
        if self._cancelled:
            return CallError(grpc.StatusCode.CANCELLED, "the call was cancelled")
        if isinstance(error, StreamResetError):
            headers = None if self._stream is None else self._stream.headers
            return CallError(_BY_RESET.get(error.code, grpc.StatusCode.INTERNAL), str(error), _pairs(headers))
        return CallError(grpc.StatusCode.UNAVAILABLE, str(error))


def _check_answer(headers: Headers | None) -> None:
    """CallError unless the headers of an answer are those of gRPC."""
    headers = headers or {}
    status, kind = headers.get(":status", "none"), headers.get("content-type", "none")
    if status != "200" or not kind.startswith("application/grpc"):
        code = _BY_HTTP_STATUS.get(status, grpc.StatusCode.UNKNOWN)
        raise CallError(code, f"what answers there is no gRPC server: HTTP status {status}, content-type {kind}", _pairs(headers))


def _check_end(trailers: Headers | None, headers: Headers | None) -> None:
    """CallError unless the call ended well."""
    status = "" if trailers is None else trailers.get("grpc-status", "")
    if trailers is None or not status.isdecimal():
        raise _broken("the server ended the call without a status", headers)
    code = _STATUSES.get(int(status), grpc.StatusCode.UNKNOWN)
    if code is not grpc.StatusCode.OK:
        raise CallError(code, unquote(trailers.get("grpc-message", "")), (*_pairs(headers), *_pairs(trailers)))


def _broken(details: str, headers: Headers | None) -> CallError:
    """The call was cut off by somebody on the way."""
    return CallError(grpc.StatusCode.INTERNAL, details, _pairs(headers))


def _refused(code: grpc.StatusCode, error: AugError) -> CallError:
    """What this end refuses to read; it would be refused again."""
    return CallError(code, str(error), ((ERROR_KEY, type(error).__name__),))


def _pairs(headers: Headers | None) -> tuple[tuple[str, str], ...]:
    return tuple((headers or {}).items())
