"""Who may call what: decided before a method sees the call, and closed for every method that is not named here.

The log says who was refused and why once per caller and reason: a loop of wrong calls must not fill a disk.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any

import grpc
from augclient.wire.methods import SERVICE
from augclient.wire.status import abort_call
from grpc_health.v1 import health
from grpc_reflection.v1alpha import reflection

from augserver.errors import AuthError, ForbiddenError
from augserver.service.tokens import Caller, TokenFile

_log = logging.getLogger(__name__)

_RIGHT_OF = {
    f"/{SERVICE}/GetDataset": "read",
    f"/{SERVICE}/GetVolume": "read",
    f"/{SERVICE}/StreamBatches": "read",
    f"/{SERVICE}/GetSample": "read",
    f"/{SERVICE}/Warp": "warp",
}
_OPEN = (f"/{health.SERVICE_NAME}/",)  # probes carry no token, and health says nothing but "serving"
_ADMIN = (f"/{reflection.SERVICE_NAME}/",)
_MAX_REMEMBERED = 1024  # pairs of caller and reason that were logged


class Refusals:
    """Logs each pair of caller and reason once, as long as it is among the last 1024. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seen: OrderedDict[tuple[str, str], None] = OrderedDict()

    def note(self, who: str, why: str) -> None:
        """One line in the log, unless it stands there already."""
        with self._lock:
            known = (who, why) in self._seen
            self._seen[who, why] = None
            self._seen.move_to_end((who, why))
            if len(self._seen) > _MAX_REMEMBERED:
                self._seen.popitem(last=False)
        if not known:
            _log.warning("refused %s: %s (said once)", who, why)


class Access:
    """The rule. Thread-safe.

    Args:
        tokens: None lets everybody in who reaches the port, which is then on loopback, or asks for certificates.
    """

    def __init__(self, tokens: TokenFile | None) -> None:
        self._tokens = tokens
        self._refusals = Refusals()

    def caller(self, context: Any) -> Caller | None:
        """Whose token came with a call; None without one that is known, or where none is asked for."""
        return None if self._tokens is None else self._find(dict(context.invocation_metadata()).get("authorization", ""))

    def peer(self, context: Any) -> str:
        """Who is behind a call, for counting what each holds: the token's name, else the host."""
        caller = self.caller(context)
        return host_of(context.peer()) if caller is None else f"token {caller.name}"

    def refusal(self, method: str, authorization: str) -> tuple[str, AuthError] | None:
        """Why a call may not be (whose it is, for the log; the error), or None where it may.

        Args:
            method: full name, "/package.Service/Method".
            authorization: what the header of that name says; "" without one.
        """
        if self._tokens is None or method.startswith(_OPEN):
            return None
        right = "admin" if method.startswith(_ADMIN) else _RIGHT_OF.get(method, "admin")
        caller = self._find(authorization)
        if caller is None:
            got = "an unknown token" if authorization else "no token"
            return "", AuthError(f"{got} came with the call; this server wants one of its own: augclient.connect(..., token=...)")
        if not caller.may(right):
            return f"token {caller.name}, ", ForbiddenError(
                f"the token has no right {right!r}, which {method.rpartition('/')[2]} needs; it has: {', '.join(sorted(caller.rights))}"
            )
        return None

    def log(self, who: str, why: str) -> None:
        """Say once in the log that `who` was refused."""
        self._refusals.note(who, why)

    def _find(self, authorization: str) -> Caller | None:
        scheme, _, token = authorization.partition(" ")
        return None if self._tokens is None or scheme.lower() != "bearer" else self._tokens.find(token.strip())


class AccessInterceptor(grpc.ServerInterceptor):  # type: ignore[misc]  # grpc has no types
    """Asks `Access` before every call."""

    def __init__(self, access: Access) -> None:
        self._access = access

    def intercept_service(self, continuation: Callable[[Any], Any], details: Any) -> Any:
        """The method's handler, or one that refuses."""
        refusal = self._access.refusal(details.method, dict(details.invocation_metadata or ()).get("authorization", ""))
        if refusal is None:
            return continuation(details)
        caller, error = refusal

        def refuse(messages: Iterator[bytes], context: Any) -> Iterator[bytes]:
            self._access.log(f"{caller}{host_of(context.peer())}", str(error))
            abort_call(context, error)
            yield b""  # never reached: makes this a generator, as a handler of streams must be

        # As a stream on both sides, whatever the method is: it is refused before any message of its client was read.
        return grpc.stream_stream_rpc_method_handler(refuse)


def host_of(peer: str) -> str:
    """ "ipv4:10.0.0.7:51234" -> "10.0.0.7": a client's connections have ports of their own, and are one peer."""
    kind, _, rest = peer.partition(":")
    return rest.rpartition(":")[0].replace("%5B", "[").replace("%5D", "]") if kind in ("ipv4", "ipv6") else peer
