"""Reach the server that a run's config names, and ask it what the run will see."""

from __future__ import annotations

from pathlib import Path

from augclient import Dataset, Server, TlsConfig, connect
from augclient.errors import NotFoundError

from augtrain.fit.fit_config import FitConfig
from augtrain.fit.volumes import Volumes, split_volumes


def connect_server(config: FitConfig) -> Server:
    """Connect with the config's token and authorities; the caller closes it.

    Raises:
        NotFoundError: the token's file cannot be read. What augclient.connect() raises.
    """
    return connect(config.server, token=_token(config), tls=_tls(config))


def ask_dataset(config: FitConfig) -> tuple[Dataset, Volumes]:
    """The dataset, and who of it is trained on and validated with; no connection is left.

    Raises:
        What connect_server() and split_volumes() raise.
    """
    with connect_server(config) as server:
        dataset = server.dataset()
        return dataset, split_volumes(dataset, config.batches, config.validation, config.recipe)


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
