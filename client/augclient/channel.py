"""From an address to a gRPC channel: one address, TLS, and a token that never travels in the clear."""

from __future__ import annotations

import grpc

from augclient.errors import ConfigError
from augclient.tls_files import TlsMaterial
from augclient.wire.address import Address
from augclient.wire.methods import client_options


def open_channel(address: Address, tls: TlsMaterial | None, tls_name: str | None) -> grpc.Channel:
    """A channel to `address`; returns before it is connected.

    Args:
        tls: None: no encryption.
        tls_name: what the server's certificate must be for, and what the call's authority is; None: the address.
    """
    options: list[tuple[str, int | str]] = [*client_options()]
    if tls is not None:
        if tls_name is not None:
            options.append(("grpc.ssl_target_name_override", tls_name))
        return grpc.secure_channel(address.target, tls.credentials, options)
    options.append(("grpc.default_authority", tls_name or address.authority))
    return grpc.insecure_channel(address.target, options)


def check_token_is_safe(address: str, parsed: Address, *, token: str | None, encrypted: bool) -> None:
    """ConfigError if a token would leave this machine unencrypted."""
    if token is not None and not encrypted and not parsed.stays_here:
        raise ConfigError(f"token: it would travel unencrypted to {address}; pass tls=True or tls=TlsConfig(ca=...)")


def call_metadata(token: str | None) -> tuple[tuple[str, str], ...]:
    """What goes with every call; ConfigError for a token that cannot travel in a header."""
    if token is not None and not (isinstance(token, str) and token.isascii() and token.isprintable() and token.strip()):
        raise ConfigError("token: got one that is empty, no text, or has characters other than printable ASCII (a line break at its end?)")
    return () if token is None else (("authorization", f"Bearer {token}"),)
