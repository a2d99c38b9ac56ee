"""The one tree of errors, shared by client and server.

    AugError                        INTERNAL             exit 1
    +-- RequestError                INVALID_ARGUMENT     64   a field of a request: which, got, allowed
    |   +-- ConfigError             INVALID_ARGUMENT     64   a setting or a command-line value
    |   +-- RecipeError             INVALID_ARGUMENT     64   a key or value of a recipe
    |   +-- PatchError              INVALID_ARGUMENT     64   a patch that the volumes cannot give
    |   +-- GeometryError           INVALID_ARGUMENT     64   spacing, affine or shape without meaning
    +-- NotFoundError               NOT_FOUND            4    no such volume, class or file
    +-- BudgetError                 RESOURCE_EXHAUSTED   5    memory, message size or number of streams: which, how much
    +-- StateError                  FAILED_PRECONDITION  6    state of another dataset or recipe
    |   +-- StoreError              FAILED_PRECONDITION  6    not a dataset, or one that is damaged
    |   +-- BackendError            FAILED_PRECONDITION  6    a backend that this machine cannot run
    |   +-- DivergedError           FAILED_PRECONDITION  6    a network in training whose numbers are not finite any more
    +-- VolumeError                 DATA_LOSS            65   a scan or label file that cannot be trusted
    +-- AuthError                   UNAUTHENTICATED      7    no token, or one that the server does not know
    |   +-- ForbiddenError          PERMISSION_DENIED    7    a token without the right that the call needs
    +-- UnavailableError            UNAVAILABLE          8    draining or unreachable: try again, or elsewhere
    +-- DeadlineError               DEADLINE_EXCEEDED    9    no answer in the time allowed
    +-- WireError                   INTERNAL             10   bytes from a peer that do not follow the contract

A message says what, where, what was got, what is allowed, and the way out. The server sends the class name along with its
gRPC status, so that the client raises the same class.

No exit code is 2 or 3: commands that report on many scans end with these if none, or not all, are usable (augclient.contract). 64 and 65
are those of sysexits.h for a wrong command line and for wrong data; an option that a command does not know ends with 64, too.
"""

from __future__ import annotations

import grpc


class AugError(Exception):
    """Root of every error that augserver and augclient raise on purpose."""

    status: grpc.StatusCode = grpc.StatusCode.INTERNAL
    exit_code: int = 1


class RequestError(AugError):
    """A request names a value that is not allowed."""

    status = grpc.StatusCode.INVALID_ARGUMENT
    exit_code = 64


class ConfigError(RequestError):
    """A setting or command-line value is not allowed."""


class RecipeError(RequestError):
    """A recipe has an unknown key or a value that is not allowed."""


class PatchError(RequestError):
    """A patch that the volumes cannot give."""


class GeometryError(RequestError):
    """A spacing, affine or shape has no meaning."""


class NotFoundError(AugError):
    """There is no volume, class or file of this name."""

    status = grpc.StatusCode.NOT_FOUND
    exit_code = 4


class BudgetError(AugError):
    """A limit on memory, message size or streams is reached; the message names it."""

    status = grpc.StatusCode.RESOURCE_EXHAUSTED
    exit_code = 5


class StateError(AugError):
    """What was asked does not fit the present state, such as a token of another dataset."""

    status = grpc.StatusCode.FAILED_PRECONDITION
    exit_code = 6


class StoreError(StateError):
    """A path holds no dataset, or a damaged one."""


class BackendError(StateError):
    """A backend cannot run on this machine."""


class DivergedError(StateError):
    """A network's loss, weights or answers are not finite: its training diverged."""


class VolumeError(AugError):
    """A scan or label file cannot be trusted."""

    status = grpc.StatusCode.DATA_LOSS
    exit_code = 65


class AuthError(AugError):
    """The server does not know the caller."""

    status = grpc.StatusCode.UNAUTHENTICATED
    exit_code = 7


class ForbiddenError(AuthError):
    """The server knows the caller, whose token lacks the right for this call."""

    status = grpc.StatusCode.PERMISSION_DENIED


class UnavailableError(AugError):
    """The server is draining or cannot be reached."""

    status = grpc.StatusCode.UNAVAILABLE
    exit_code = 8


class DeadlineError(AugError):
    """No answer came in the time allowed."""

    status = grpc.StatusCode.DEADLINE_EXCEEDED
    exit_code = 9


class WireError(AugError):
    """Bytes from a peer do not follow the contract: malformed, incomplete or out of order."""

    exit_code = 10
