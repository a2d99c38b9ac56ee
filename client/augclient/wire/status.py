"""Errors across gRPC: status code, message, and the class name in the trailing metadata.

The server aborts a call with the error's status, its message as details, and ("augserver-error", class name); the client raises
the same class with the same message. An error of gRPC itself, or of a server that sends no class name, goes by its status.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn

import grpc

from augclient import errors
from augclient.errors import AugError

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
    """The error that the server itself sent; None where the status is gRPC's own, such as a lost connection."""
    metadata = error.trailing_metadata() or ()
    name = next((value for key, value in metadata if key == ERROR_KEY), "")
    cls = _BY_NAME.get(name)
    return None if cls is None else cls(error.details() or name)


def error_from_rpc(error: grpc.RpcError, address: str) -> AugError:
    """The error to raise in the client for a failed call to `address`."""
    named = named_error(error)
    if named is not None:
        return named
    code = error.code()
    cls = _BY_STATUS.get(code, AugError)
    message = f"{address}: {error.details() or 'no details'} ({code.name})"
    if cls is errors.UnavailableError:
        message += "; is `augserver serve` running there, is the address right, and does it speak TLS (tls=)?"
    elif cls is errors.DeadlineError:
        message += "; something listens there but did not answer in timeout_s: is it `augserver serve`, and is it overloaded?"
    return cls(message)
