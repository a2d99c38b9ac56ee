"""What a proxy between client and server may have done to a call that broke, and the setting that ends it."""

from __future__ import annotations

import re
from collections.abc import Mapping

_HTTP_STATUS = re.compile(r"(?:HTTP status|http2 header with status:) ?(\d{3})")

# What each of them limits by default, or in the examples of its manual.
_LIMITS = {
    "nginx": "grpc_read_timeout and grpc_send_timeout (60 s unless set), client_max_body_size",
    "haproxy": "timeout server, timeout client and timeout tunnel",
    "nghttpx": "--backend-read-timeout and --stream-write-timeout (1 minute unless set), --frontend-http2-read-timeout (3 minutes)",
    "envoy": "the route's timeout (15 s unless set; 0s: none), stream_idle_timeout (5 minutes) and max_stream_duration",
    "caddy": "read_timeout, write_timeout and response_header_timeout of the transport, and the server's timeouts",
}
_GENERAL = "nginx: grpc_read_timeout; haproxy: timeout server, timeout client; envoy: timeout, stream_idle_timeout"


def http_status(details: str) -> int | None:
    """The HTTP status that an error of ours or of grpcio speaks of; None if it is another kind of break."""
    found = _HTTP_STATUS.search(details)
    return int(found[1]) if found else None


def proxy_of(headers: Mapping[str, str]) -> str:
    """The name of the proxy that wrote these headers; empty if it does not say."""
    for name in ("via", "server"):
        value = headers.get(name, "")
        for known in _LIMITS:
            if known in value.lower():
                return known
    return ""


def advice(details: str, proxy: str) -> str:
    """A proxy's likely part in a break with these details, and the way out; `proxy` as from proxy_of()."""
    who = proxy or "a proxy"
    status = http_status(details)
    if status is None:
        return (
            f"The call broke off without a status of the server's own: the server went away, or {who} on the way to it ended the call; "
            f"if the server is well, raise that proxy's limits on time ({_LIMITS.get(proxy, _GENERAL)})"
        )
    if status in (408, 504):
        return f"{who.capitalize()} waited for the server for longer than it allows: raise its limits ({_LIMITS.get(proxy, _GENERAL)})"
    if status in (500, 502, 503, 521, 522, 523):
        return f"{who.capitalize()} does not reach the server: is `augserver serve` running behind it, and is it passed on as gRPC (h2c)?"
    if status in (301, 302, 303, 307, 308):
        return f"{who.capitalize()} sends this call elsewhere: connect to that place, and with TLS (tls=) if it wants that"
    if status in (413, 414, 431):
        return f"The request is too large for {who}: raise its limits ({_LIMITS.get(proxy, 'nginx: client_max_body_size')})"
    if status in (401, 403, 407):
        return f"{who.capitalize()} asks for a right to enter, which is not the token of `augserver serve`"
    if status == 429:
        return f"{who.capitalize()} limits the rate of calls: raise that limit, or open fewer streams"
    return f"{who.capitalize()} answers instead of the server: is the address right, and is every path below it passed on as gRPC?"
