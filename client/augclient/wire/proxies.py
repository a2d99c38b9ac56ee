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
_GENERAL = "such as grpc_read_timeout of nginx, timeout server of haproxy, stream_idle_timeout of envoy"


def http_status(details: str) -> int | None:
    """The HTTP status that an error of ours or of grpcio speaks of; None if it is another kind of break."""
    if "http1.x server" in details:  # grpcio did not connect: plain text to a port with TLS, or no gRPC at all
        return None
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
    """A proxy's likely part in a break with these details, and the way out, as sentences; `proxy` as from proxy_of()."""
    who, limits = proxy or "a proxy", _LIMITS.get(proxy, _GENERAL)
    named = who[0].upper() + who[1:]
    status = http_status(details)
    if status in (408, 504) or (status is None and proxy and "timeout" in details):
        return f"{named} waited for longer than it allows: raise its limits ({limits})."
    if status in (500, 502, 503, 521, 522, 523) or (status is None and "upstream" in details):
        return f"{named} does not reach the server: is `augserver serve` running behind it, and is it passed on as gRPC (h2c)?"
    if status is None:
        return (
            f"The call broke off without a status of the server's own: the server went away, or {who} on the way to it ended the call;"
            f" if the server is well, raise that proxy's limits on time ({limits})."
        )
    if 300 <= status < 400:
        return f"{named} sends this call elsewhere: connect to that place, and with TLS (tls=) if it wants that."
    if status in (413, 414, 431):
        return f"The request is too large for {who}: raise its limits ({limits})."
    if status in (401, 403, 407):
        return f"{named} asks for a right to enter, which is not the token of `augserver serve`."
    if status == 429:
        return f"{named} limits the rate of calls: raise that limit, or open fewer streams."
    return f"{named} answers instead of the server: is the address right, and is every path below it passed on as gRPC?"
