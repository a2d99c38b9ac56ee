"""Errors across gRPC: status code, message, and the class name in the trailing metadata.

The server aborts a call with the error's status, its message as details, and ("augserver-error", class name); the client raises
the same class with the same message. An error without a class name is gRPC's own or a proxy's, and goes by its status.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any, NoReturn

import grpc

from augclient import errors
from augclient.errors import AugError, DeadlineError, RequestError, UnavailableError
from augclient.wire.proxies import advice, http_status, proxy_of

ERROR_KEY = "augserver-error"
MAX_DETAILS_BYTES = 2000  # percent-encoded up to three times as long, and gRPC takes 8 KiB of metadata by default

_BY_NAME = {name: cls for name, cls in vars(errors).items() if isinstance(cls, type) and issubclass(cls, AugError)}
_BY_STATUS: dict[grpc.StatusCode, type[AugError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: errors.RequestError,
    grpc.StatusCode.OUT_OF_RANGE: errors.RequestError,
    grpc.StatusCode.NOT_FOUND: errors.NotFoundError,
    grpc.StatusCode.RESOURCE_EXHAUSTED: errors.BudgetError,
    grpc.StatusCode.FAILED_PRECONDITION: errors.StateError,
    grpc.StatusCode.DATA_LOSS: errors.VolumeError,
    grpc.StatusCode.UNAUTHENTICATED: errors.AuthError,
    grpc.StatusCode.PERMISSION_DENIED: errors.ForbiddenError,
    grpc.StatusCode.UNAVAILABLE: errors.UnavailableError,
    grpc.StatusCode.DEADLINE_EXCEEDED: errors.DeadlineError,
}
_BY_HTTP_STATUS: dict[int, type[AugError]] = {401: errors.AuthError, 403: errors.ForbiddenError, 407: errors.AuthError}

# Statuses that answer a request, whoever sends them; every other one may be the break of a connection.
_ANSWERS = frozenset(
    {
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.ALREADY_EXISTS,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.StatusCode.OUT_OF_RANGE,
        grpc.StatusCode.UNIMPLEMENTED,
        grpc.StatusCode.DATA_LOSS,
        grpc.StatusCode.UNAUTHENTICATED,
    }
)
_PASSING = frozenset({404, 408, 421, 425, 429})  # of HTTP: what a proxy says of a server that it does not know yet, or of its own haste


class CallError(grpc.RpcError):  # type: ignore[misc]  # grpc has no types
    """A call that failed, as grpcio's own errors show it."""

    def __init__(self, code: grpc.StatusCode, details: str, trailers: Sequence[tuple[str, str]] = ()) -> None:
        super().__init__(f"{details} ({code.name})")
        self._code = code
        self._details = details
        self._trailers = trailers

    def code(self) -> grpc.StatusCode:
        """What kind of failure."""
        return self._code

    def details(self) -> str:
        """For people."""
        return self._details

    def trailing_metadata(self) -> Sequence[tuple[str, str]]:
        """What the server sent with it."""
        return self._trailers


def abort_call(context: Any, error: AugError) -> NoReturn:
    """End a call on the server with `error`; `context` is a grpc.ServicerContext. Does not return."""
    context.set_trailing_metadata(((ERROR_KEY, type(error).__name__),))
    details = str(error).encode()[:MAX_DETAILS_BYTES].decode(errors="ignore")
    context.abort(error.status, details)
    raise error  # abort has raised already; this tells the type checker


def named_error(error: grpc.RpcError) -> AugError | None:
    """The error that the server itself sent; None if the status is somebody else's, such as that of a lost connection."""
    metadata = error.trailing_metadata() or ()
    name = next((value for key, value in metadata if key == ERROR_KEY), None)
    if name is None:
        return None
    cls = _BY_NAME.get(name) or _BY_STATUS.get(error.code(), AugError)  # a later version's class goes by its status
    return cls(error.details() or name)


def is_outage(error: grpc.RpcError) -> bool:
    """Whether a call failed because its server is gone or leaves, so that another, or the same one later, can give the answer.

    The server names its own errors. Whatever breaks a call without such a name (a proxy's status page, a reset, a stream without an
    end) says nothing about the request, except for the few statuses that do.
    """
    named = named_error(error)
    if named is not None:
        return isinstance(named, UnavailableError)
    status = http_status(error.details() or "")
    if status is not None:
        return not 300 <= status < 500 or status in _PASSING
    return error.code() not in _ANSWERS


def error_from_rpc(error: grpc.RpcError, address: str) -> AugError:
    """The error to raise in the client for a failed call to `address`."""
    named = named_error(error)
    if named is not None:
        return named
    code, details = error.code(), error.details() or "no details"
    outage, status, proxy = is_outage(error), http_status(details), proxy_of(_headers(error))
    if status is None:
        cls = _BY_STATUS.get(code, UnavailableError if outage else AugError)
    else:
        cls = UnavailableError if outage else _BY_HTTP_STATUS.get(status, RequestError)
    message = f"{address}: {details} ({code.name})"
    if status is not None or (outage and (proxy or code not in _BY_STATUS)):
        message += f". {advice(details, proxy)}"
    elif cls is UnavailableError:
        message += "; is `augserver serve` running there, is the address right, and does it speak TLS (tls=)?"
    elif cls is DeadlineError:
        message += "; something listens there but did not answer in timeout_s: is it `augserver serve`, and is it overloaded?"
    return cls(message)


def _headers(error: grpc.RpcError) -> dict[str, str]:
    """What came with an error, trailers and the headers before them."""
    found: dict[str, str] = {}
    for name in ("initial_metadata", "trailing_metadata"):
        with suppress(Exception):  # grpcio waits for headers that never come, and some of its errors have none
            found |= {key: value for key, value in getattr(error, name)() or () if isinstance(value, str)}
    return found
