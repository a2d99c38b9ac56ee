"""Reach the server that a run's config names."""

from __future__ import annotations

from pathlib import Path

from augclient import Server, TlsConfig, connect
from augclient.errors import NotFoundError

from augtrain.fit.config import FitConfig


def connect_server(config: FitConfig) -> Server:
    """Connect with the config's token and authorities; the caller closes it.

    Raises:
        NotFoundError: the token's file cannot be read. What augclient.connect() raises.
    """
    return connect(config.server, token=_token(config), tls=_tls(config))


def _token(config: FitConfig) -> str | None:
    if config.token_file is None:
        return None
    try:
        return Path(config.token_file).read_text(encoding="utf-8").strip()
    except OSError as error:
        raise NotFoundError(f"token_file {config.token_file!r} cannot be read: {error.strerror}") from error


def _tls(config: FitConfig) -> TlsConfig | bool | None:
    if config.tls_ca is None:
        return None
    return True if config.tls_ca == "system" else TlsConfig(ca=config.tls_ca)
