"""Where the servers of a fleet are said to be: addresses as given, DNS names behind which there are several, peers that servers name."""

from __future__ import annotations

import socket
from collections.abc import Iterable, Sequence

from augclient.errors import ConfigError, UnavailableError

_DNS = "dns:///"
_UNIX = "unix:"


class Seeds:
    """The addresses that the user gave.

    Args:
        address: "host:port", "unix:path", "dns:///name:port" (all addresses of the name, asked for again while streams run), or a list.
    Raises:
        ConfigError: no address, or one that is empty, no text, or without a port.
    """

    def __init__(self, address: str | Sequence[str]) -> None:
        given = list(address) if isinstance(address, Iterable) and not isinstance(address, str) else [address]
        if not given or not all(isinstance(each, str) and each.strip() for each in given):
            raise ConfigError(f'address: got {address!r}; allowed: one such as "127.0.0.1:50051", a list of them, or "dns:///name:port"')
        self._given = tuple(dict.fromkeys(each.strip() for each in given))
        for each in self._given:
            # gRPC would take 443 for a port that is missing, and 34463 for 99999
            if not each.startswith(_UNIX) and not _has_port(each):
                raise ConfigError(f"address: got {each!r}; allowed: host:port with a port of 1 to 65535, unix:path, or dns:///name:port")
        self._names: dict[str, str] = {}

    @property
    def given(self) -> tuple[str, ...]:
        """The addresses as given, each once."""
        return self._given

    @property
    def dynamic(self) -> bool:
        """Whether another `resolve` may find other addresses."""
        return any(each.startswith(_DNS) for each in self._given)

    def resolve(self) -> tuple[str, ...]:
        """The addresses of all servers, each once; asks DNS, which may take seconds.

        Raises:
            UnavailableError: a name that has no address now.
        """
        found: list[str] = []
        for each in self._given:
            found += self._lookup(each) if each.startswith(_DNS) else [each]
        return tuple(dict.fromkeys(found))

    def tls_name(self, address: str) -> str | None:
        """The name that the certificate of the server at `address` is for, where that is not the address itself."""
        return self._names.get(address)

    def _lookup(self, target: str) -> list[str]:
        name, _, port = target.removeprefix(_DNS).rpartition(":")
        try:
            answers = socket.getaddrinfo(name, int(port), type=socket.SOCK_STREAM)
        except OSError as error:
            raise UnavailableError(f"{target}: the name has no address now ({error.strerror}); is it spelt right?") from error
        # a host with both kinds would count as two servers
        families = {family for family, *_ in answers}
        kind = socket.AF_INET if socket.AF_INET in families else socket.AF_INET6
        hosts = sorted({str(place[0]) for family, _, _, _, place in answers if family == kind})
        addresses = [f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host in hosts]
        self._names |= dict.fromkeys(addresses, name)
        return addresses


def _has_port(address: str) -> bool:
    host, _, port = address.removeprefix(_DNS).rpartition(":")
    return bool(host) and port.isascii() and port.isdigit() and 1 <= int(port) <= 65535


def peer_address(asked: str, peer: str) -> str:
    """The address of a peer that the server at `asked` named: ":port" is on that server's host."""
    if not peer.startswith(":"):
        return peer
    host = "127.0.0.1" if asked.startswith(_UNIX) else asked.rpartition(":")[0]
    return f"{host}{peer}"
