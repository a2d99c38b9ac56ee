"""A listening address: parsed, and judged by who can reach it."""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import dataclass

from augserver.config import SecurityConfig, ServerConfig
from augserver.errors import ConfigError, StateError


@dataclass(frozen=True, slots=True)
class Address:
    """Host and port as gRPC takes them.

    Attributes:
        host: an IP address without brackets, or "localhost".
        port: 0 lets the system pick one.
    """

    host: str
    port: int

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        return self.host == "localhost" or ipaddress.ip_address(self.host).is_loopback

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_address(text: str) -> Address:
    """Read "127.0.0.1:50051", "[::1]:0" or "localhost:50051".

    Raises:
        ConfigError: not of this form, a host that is not an IP address or localhost, or a port outside 0 to 65535.
    """
    host, colon, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    bare = host[1:-1] if bracketed else host
    if not colon or not bare or (":" in bare and not bracketed):
        raise ConfigError(f"address must be HOST:PORT such as 127.0.0.1:50051 or [::1]:50051, got {text!r}")
    if not (port.isascii() and port.isdigit() and int(port) <= 65535):
        raise ConfigError(f"the port of an address must be 0 to 65535, got {port!r} in {text!r}")
    if bare != "localhost":
        try:
            ipaddress.ip_address(bare)
        except ValueError as error:
            # A name could resolve to more than it seems to: who opens a server says which interface.
            raise ConfigError(f"the host of an address must be an IP address or localhost, got {bare!r} in {text!r}") from error
    return Address(bare, int(port))


def require_closed(address: Address, security: SecurityConfig, *, insecure: bool) -> None:
    """Refuse an address that others can reach, unless it is encrypted and asks who calls, or its user insists.

    Raises:
        ConfigError: open to others, and not `insecure`.
    """
    if address.is_loopback or insecure or (security.encrypted and security.asks_who):
        return
    risk = "to whoever asks" if security.encrypted else "without encryption, so that anyone on the way could read the scans"
    raise ConfigError(
        f"address {address} can be reached from other machines, and this server would speak {risk}; listen on 127.0.0.1 (and use a "
        "tunnel), give --tls-cert and --tls-key together with --token-file or --tls-client-ca, or say --insecure on a network you trust"
    )


def parse_metrics_address(config: ServerConfig) -> Address | None:
    """Where metrics are answered; None: nowhere.

    Raises:
        ConfigError: no address, or one that others can reach and nobody insists: metrics know neither TLS nor tokens.
    """
    if not config.metrics.address:
        return None
    address = parse_address(config.metrics.address)
    if not (address.is_loopback or config.metrics.insecure or config.listen.insecure):
        raise ConfigError(
            f"metrics.address {address} can be reached from other machines, and metrics are told to whoever asks, without encryption; "
            "listen on 127.0.0.1, or say metrics.insecure = true on a network you trust"
        )
    return address


def require_free(address: Address) -> None:
    """Check that nobody listens there, for a better message than the one gRPC would give.

    Raises:
        StateError: the port is taken, or the address is not one of this machine, or binding is not permitted.
    """
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # As gRPC binds: a port in TIME_WAIT is free, one that somebody listens on is not.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address.host, address.port))
        except OSError as error:
            raise StateError(
                f"cannot listen on {address}: {error.strerror}; stop what listens there, pick another port, "
                "or use port 0 to have one picked"
            ) from error
