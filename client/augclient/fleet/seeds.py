"""Where the servers of a fleet are said to be: addresses as given, DNS names behind which there are several, peers that servers name."""

from __future__ import annotations

import logging
import queue
import socket
import threading
from collections.abc import Iterable, Sequence
from typing import Any

from augclient.errors import ConfigError, UnavailableError
from augclient.wire.address import Address, parse_address

_log = logging.getLogger("augclient.fleet")


class Seeds:
    """The addresses that the user gave.

    Args:
        address: one that parse_address() reads, or a list; "dns:///name:port" is asked for again while streams run.
    Raises:
        ConfigError: no address, or one that cannot be read.
    """

    def __init__(self, address: str | Sequence[str]) -> None:
        given = list(address) if isinstance(address, Iterable) and not isinstance(address, str) else [address]
        if not given or not all(isinstance(each, str) and each.strip() for each in given):
            raise ConfigError(f'address: got {address!r}; allowed: one such as "127.0.0.1:50051", a list of them, or "dns:///name:port"')
        self._parsed = {each.strip(): parse_address(each.strip()) for each in given}
        self._names: dict[str, str] = {}

    @property
    def given(self) -> tuple[str, ...]:
        """The addresses as given, each once."""
        return tuple(self._parsed)

    @property
    def dynamic(self) -> bool:
        """Whether another `resolve` may find other addresses."""
        return any(each.every for each in self._parsed.values())

    def resolve(self, timeout_s: float = 30.0) -> tuple[str, ...]:
        """The addresses of all servers, each once; asks DNS, which may take up to `timeout_s` for each name.

        Raises:
            UnavailableError: a name that has no address now.
        """
        found: list[str] = []
        for text, address in self._parsed.items():
            found += self._lookup(text, address, timeout_s) if address.every else [text]
        return tuple(dict.fromkeys(found))

    def tls_name(self, address: str) -> str | None:
        """The name that the certificate of the server at `address` is for, where that is not the address itself."""
        return self._names.get(address)

    def _lookup(self, text: str, address: Address, timeout_s: float) -> list[str]:
        try:
            answers = _look_up(address.host, address.port, timeout_s)
        except OSError as error:
            raise UnavailableError(f"{text}: the name has no address now ({error.strerror}); is it spelt right?") from error
        # a host with both kinds would count as two servers
        families = {family for family, *_ in answers}
        kind = socket.AF_INET if socket.AF_INET in families else socket.AF_INET6
        hosts = sorted({str(place[0]) for family, _, _, _, place in answers if family == kind})
        addresses = [f"[{host}]:{address.port}" if ":" in host else f"{host}:{address.port}" for host in hosts]
        self._names |= dict.fromkeys(addresses, address.host)
        return addresses


def _look_up(host: str, port: int, timeout_s: float) -> list[Any]:
    """socket.getaddrinfo, in a thread of its own: a name service that does not answer cannot be interrupted."""
    answers: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def ask() -> None:
        try:
            answers.put(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except OSError as error:
            answers.put(error)

    threading.Thread(target=ask, name="augclient-name", daemon=True).start()
    try:
        answer = answers.get(timeout=timeout_s)
    except queue.Empty:
        raise TimeoutError(None, f"the name service did not answer within {timeout_s:g} s") from None
    if isinstance(answer, OSError):
        raise answer
    found: list[Any] = answer
    return found


def peer_addresses(asked: str, peers: Iterable[str]) -> list[str]:
    """The addresses of the peers that the server at `asked` named: ":port" is on that server's host. Left out: what is no address."""
    addresses = []
    for peer in peers:
        host = "127.0.0.1" if asked.startswith("unix") else asked.rpartition(":")[0]
        address = f"{host}{peer}" if peer.startswith(":") else peer
        try:
            parse_address(address)
        except ConfigError as error:
            _log.warning("%s names a peer that is not asked: %s", asked, error)
        else:
            addresses.append(address)
    return addresses
