"""From an address to a gRPC channel: one address, TLS, and a token that never travels in the clear."""

from __future__ import annotations

import ipaddress
import ssl
from dataclasses import dataclass
from pathlib import Path

import grpc

from augclient.errors import ConfigError, NotFoundError
from augclient.wire.dial import split_host
from augclient.wire.methods import client_options


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsConfig:
    """Files in PEM form for a connection with TLS.

    Attributes:
        ca: certificates to trust; None: those of the system.
        cert, key: the client's own, where the server asks for one (mTLS); both or none.
    """

    ca: str | Path | None = None
    cert: str | Path | None = None
    key: str | Path | None = None

    def __post_init__(self) -> None:
        if (self.cert is None) != (self.key is None):
            raise ConfigError(f"tls: got cert {self.cert!s} and key {self.key!s}; allowed: both or none")


def open_channel(address: str, *, token: str | None, tls: TlsConfig | bool | None, tls_name: str | None = None) -> grpc.Channel:
    """A channel to `address`; returns before it is connected.

    Args:
        token: goes with every call as "authorization: Bearer"; needs TLS unless the address is loopback.
        tls: True trusts the system's certificates; None or False: no encryption.
        tls_name: what the server's certificate must be for; None: the address.
    Raises:
        ConfigError: a token without TLS. NotFoundError: a PEM file that is not there.
    """
    options: list[tuple[str, int | str]] = [*client_options()]
    if tls_name is not None:
        options.append(("grpc.ssl_target_name_override", tls_name))
    if not tls:
        if token is not None and not _stays_here(address):
            raise ConfigError(f"token: it would travel unencrypted to {address}; pass tls=True or tls=TlsConfig(ca=...)")
        return grpc.insecure_channel(address, options)
    files = TlsConfig() if tls is True else tls
    credentials = grpc.ssl_channel_credentials(
        root_certificates=_read_pem("ca", files.ca),
        private_key=_read_pem("key", files.key),
        certificate_chain=_read_pem("cert", files.cert),
    )
    return grpc.secure_channel(address, credentials, options)


def tls_context(tls: TlsConfig | bool | None) -> ssl.SSLContext | None:
    """What the same settings are for connections that are not gRPC's own; None: no encryption.

    Raises:
        ConfigError: a file that is no certificate or key, or one that asks for a password. NotFoundError: one that is not there.
    """
    if not tls:
        return None
    files = TlsConfig() if tls is True else tls
    for name, path in (("ca", files.ca), ("cert", files.cert), ("key", files.key)):
        _read_pem(name, path)  # says which one is not there
    try:
        context = ssl.create_default_context(cafile=files.ca)
        if files.cert is not None:
            context.load_cert_chain(files.cert, files.key, password="")
    except ssl.SSLError as error:
        raise ConfigError(f"tls: a file is no PEM, does not fit the others, or is locked with a password: {error}") from error
    context.set_alpn_protocols(["h2"])
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT  # as strict as gRPC, through which all other calls go
    return context


def call_metadata(token: str | None) -> tuple[tuple[str, str], ...]:
    """What goes with every call; ConfigError for a token that cannot travel in a header."""
    if token is not None and not (isinstance(token, str) and token.isascii() and token.isprintable() and token.strip()):
        raise ConfigError("token: got one that is empty, no text, or has characters other than printable ASCII (a line break at its end?)")
    return () if token is None else (("authorization", f"Bearer {token}"),)


def _stays_here(address: str) -> bool:
    """Whether an address can only be on this machine: a Unix socket or a loopback address, not a name that merely begins like one."""
    if address.startswith("unix:"):
        return True
    if "dns:" in address:  # a name service may send a token anywhere
        return False
    try:
        host, _ = split_host(address)
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _read_pem(name: str, path: str | Path | None) -> bytes | None:
    if path is None:
        return None
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise NotFoundError(f"tls: the {name} file {str(path)!r} cannot be read: {error.strerror}") from error
