"""What every request passes before it is answered, and what every answer says to the browser.

A page on loopback is reached by whatever runs in the browser beside it, so:
    Host            must be a name of this machine or an address: a site whose own name was made to point here (DNS rebinding) is refused
    Sec-Fetch-Site  what another site's page sends here is refused; there is no CORS, so it could not read the answer either
    key             where the server asks who calls, a browser comes with the key of this start first, and then has it in a cookie
    methods         GET, HEAD and POST; nothing here changes anything
    answers         may run no script but ours, be framed by nobody, and are kept in no cache: they show scans
"""

from __future__ import annotations

import hmac
import ipaddress
import socket

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_METHODS = ("GET", "HEAD", "POST")


class Guard:
    """ASGI middleware; answers 4xx itself where a request must not pass.

    Args:
        app: what it guards.
        loopback_only: whether only names of loopback are ours.
        key: a secret that callers have to show; "": none.
    """

    def __init__(self, app: ASGIApp, *, loopback_only: bool, key: str = "") -> None:
        self._app = app
        self._loopback_only = loopback_only
        self._key = key

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise RuntimeError(f"the page is HTTP alone, got {scope['type']}")  # uvicorn is told so as well

        started = False

        async def send_guarded(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                MutableHeaders(scope=message).update(_HEADERS)
            await send(message)

        request = Request(scope)
        refusal = self._refusal(request.headers, request.method)
        answer: ASGIApp = self._app
        if refusal is not None:
            answer = _refuse(*refusal)
        elif self._key and not self._is_known(request):
            answer = self._let_in(request)
        try:
            await answer(scope, receive, send_guarded)
        except ClientDisconnect:
            pass  # nobody is there to be told
        except Exception:
            if not started:
                raise
            # Starlette raises again what its handler has logged and answered.

    def _refusal(self, headers: Headers, method: str) -> tuple[int, str] | None:
        if method not in _METHODS:
            return 405, f"method {method[:20]!r}; allowed: {', '.join(_METHODS)}"
        host = headers.get("host", "")
        if not is_own_host(host, loopback_only=self._loopback_only):
            return 421, f"this server is not {host[:80]!r}; open the address that it printed, or localhost through a tunnel"
        if headers.get("sec-fetch-site", "none") not in ("same-origin", "none") and headers.get("sec-fetch-mode") != "navigate":
            return 403, "requests of other sites are refused"
        return None

    def _is_known(self, request: Request) -> bool:
        return hmac.compare_digest(request.cookies.get(_cookie(request), "").encode(), self._key.encode())

    def _let_in(self, request: Request) -> Response:
        """Turn the right key in the address into a cookie, and take it out of the address: it must not stand in a history."""
        if request.url.path != "/" or not hmac.compare_digest(request.query_params.get("key", "").encode(), self._key.encode()):
            return _refuse(401, "this server asks who calls; open the address that it printed, which ends in ?key=...")
        answer = RedirectResponse("/", 303)
        answer.set_cookie(_cookie(request), self._key, httponly=True, samesite="strict")
        return answer


def is_own_host(host: str, *, loopback_only: bool) -> bool:
    """Whether a Host header names this machine in a way that no name server decides.

    Args:
        host: as it came, "127.0.0.1:8080"; any port, as tunnels have their own.
        loopback_only: whether addresses of the network and this machine's own name are not accepted.
    """
    name, _, port = host.partition("]") if host.startswith("[") else host.partition(":")
    name, port = (name[1:], port[1:]) if host.startswith("[") else (name, port)
    if port and not (port.isascii() and port.isdigit()):
        return False
    if name.lower() == "localhost":
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return not loopback_only and name.lower() == socket.gethostname().lower()
    return address.is_loopback or not loopback_only


def _cookie(request: Request) -> str:
    return f"augserver-{request.url.port or 80}"  # browsers share cookies between the ports of a host


def _refuse(status: int, message: str) -> Response:
    return JSONResponse({"error": {"kind": "AuthError" if status == 401 else "RequestError", "message": message, "key": ""}}, status)
