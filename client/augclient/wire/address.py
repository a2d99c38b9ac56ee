"""Read an address, once for all: what connect() accepts is what grpcio and our own connections can both reach.

host:port   [::1]:port   ipv4:1.2.3.4:port   ipv6:[::1]:port   dns:name:port      one server
dns:///name:port                                                                  all servers behind a name
unix:path   unix:///path   unix-abstract:name                                     one server, on this machine
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from urllib.parse import quote

from augclient.errors import ConfigError

_ALLOWED = 'allowed: "host:port" with a port of 1 to 65535, "[::1]:port", "unix:/path", or "dns:///name:port" for all servers of a name'
_SECURE = frozenset({"https", "grpcs", "tls", "ssl"})
_PLAIN = frozenset({"http", "grpc", "tcp", "h2c"})
_URL = re.compile(r"([a-z][a-z0-9+.-]*)://", re.IGNORECASE)
_HOST_NAME = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)(\.(?!-)[a-z0-9_-]{1,63}(?<!-))*\.?", re.IGNORECASE)
_MAX_PATH_BYTES = 107  # of a Unix socket on Linux, less the zero at its end


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where a server is.

    Attributes:
        host: a name in ASCII, or a numeric address without brackets; empty for a Unix socket.
        port: 0 for a Unix socket.
        path: of a Unix socket, with a zero before an abstract name; else empty.
        numeric: whether nobody has to be asked for the host.
        every: whether all addresses behind the name are servers.
        by_dns: whether a name service was asked for by name.
    """

    host: str = ""
    port: int = 0
    path: str = ""
    numeric: bool = False
    every: bool = False
    by_dns: bool = False

    @property
    def authority(self) -> str:
        """For the header of that name: host and port, never a scheme."""
        if not self.host:
            return "localhost"
        return f"[{self.host.partition('%')[0]}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def target(self) -> str:
        """The same place as grpcio writes it."""
        if self.path.startswith("\0"):
            return f"unix-abstract:{quote(self.path[1:])}"
        if self.path:
            return f"unix:{quote(self.path)}"
        if not self.numeric:
            return f"dns:///{self.host}:{self.port}"
        return f"ipv6:[{quote(self.host, safe=':')}]:{self.port}" if ":" in self.host else f"ipv4:{self.host}:{self.port}"

    @property
    def stays_here(self) -> bool:
        """Whether it can only be on this machine; a name service may send a name anywhere."""
        if self.path:
            return True
        if self.numeric:
            return ipaddress.ip_address(self.host).is_loopback
        return self.host == "localhost" and not self.by_dns


def parse_address(text: str) -> Address:
    """Read one address; ConfigError says what is wrong with it and what to write instead."""
    for scheme in ("unix-abstract:", "unix:"):
        if text.startswith(scheme):
            return _unix(text, scheme)
    _check_url(text)
    by_dns = every = False
    kind, _, rest = text.partition(":")
    if text.startswith("dns:///"):
        by_dns = every = True
        rest = text.removeprefix("dns:///")
    elif kind in ("dns", "ipv4", "ipv6") and ":" in rest:
        by_dns = kind == "dns"
    else:
        kind, rest = "", text
    if kind in ("ipv4", "ipv6") and "," in rest:
        raise ConfigError(f"address: got {text!r}; several servers are given as a list: {rest.split(',')!r}")
    host, port = _split(text, rest)
    numeric = _is_numeric(host)
    if kind in ("ipv4", "ipv6") and (not numeric or (":" in host) != (kind == "ipv6")):
        raise ConfigError(f"address: got {text!r}; {kind}: stands before a numeric address of that kind; {_ALLOWED}")
    if not numeric:
        host = _ascii_name(text, host)
    return Address(host=host, port=port, numeric=numeric, every=every, by_dns=by_dns)


def _check_url(text: str) -> None:
    """ConfigError for a URL and for grpcio's schemes that name no place."""
    url = _URL.match(text)
    if url is None or text.startswith("dns:///"):
        return
    scheme, rest = url[1].lower(), text[url.end() :].rstrip("/")
    if scheme in _SECURE:
        raise ConfigError(f"address: got {text!r}; an address has no scheme: pass {rest!r} and tls=True or tls=TlsConfig(ca=...)")
    if scheme in _PLAIN:
        raise ConfigError(f"address: got {text!r}; an address has no scheme: pass {rest!r}")
    if scheme == "dns":
        raise ConfigError(
            f"address: got {text!r}; a name server cannot be chosen here: pass 'dns:///{rest.partition('/')[2]}', which asks the system's"
        )
    raise ConfigError(f"address: got {text!r}; the scheme {scheme!r} is not known here; {_ALLOWED}")


def _unix(text: str, scheme: str) -> Address:
    path = text.removeprefix(scheme)
    if scheme == "unix-abstract:":
        path = f"\0{path}" if path else ""
    elif path.startswith("//"):
        if not path.startswith("///"):
            raise ConfigError(f"address: got {text!r}; allowed: unix:path, or unix:///path with three slashes for one that is absolute")
        path = "/" + path.lstrip("/")
    size = len(path.encode(errors="surrogateescape"))
    if not path or "\0" in path[1:] or size > _MAX_PATH_BYTES:
        raise ConfigError(f"address: got {text!r}; allowed: unix:path, where the path has 1 to {_MAX_PATH_BYTES} bytes (got {size})")
    return Address(path=path)


def _split(text: str, rest: str) -> tuple[str, int]:
    """Host without brackets, and port."""
    host, _, port = rest.rpartition(":")
    # gRPC would take 443 for a port that is missing, and 34463 for 99999
    if not (host and port.isascii() and port.isdigit() and 1 <= int(port) <= 65535):
        raise ConfigError(f"address: got {text!r}; {_ALLOWED}")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
        if ":" not in host or not _is_numeric(host):
            raise ConfigError(f"address: got {text!r}; only an IPv6 address stands in brackets; {_ALLOWED}")
    elif ":" in host:
        raise ConfigError(f"address: got {text!r}; an IPv6 address stands in brackets: '[{host}]:{port}'; {_ALLOWED}")
    return host, int(port)


def _is_numeric(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _ascii_name(text: str, host: str) -> str:
    """A host's name as DNS writes it."""
    try:
        name = host if host.isascii() else host.encode("idna").decode()
    except UnicodeError:
        name = ""
    if not _HOST_NAME.fullmatch(name) or len(name) > 254:
        raise ConfigError(f"address: got {text!r}; {host!r} is no name of a host and no numeric address; {_ALLOWED}")
    return name
