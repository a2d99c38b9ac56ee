"""PEM files of a connection with TLS, read again when they were renewed: short-lived certificates change under a job that runs for days."""

from __future__ import annotations

import logging
import os
import ssl
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import grpc

from augclient.errors import ConfigError, NotFoundError

_log = logging.getLogger("augclient")

_Stamp: TypeAlias = tuple[tuple[int, int, int] | None, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsConfig:
    """Files in PEM form for a connection with TLS; they are read again for new connections when they have changed.

    Attributes:
        ca: certificates to trust; None: those of the system.
        cert, key: the client's own, where the server asks for one (mTLS); both or none.
        server_name: the name that the server's certificate must be for; None: the address. For a tunnel or a forwarded port.
    """

    ca: str | Path | None = None
    cert: str | Path | None = None
    key: str | Path | None = None
    server_name: str | None = None

    def __post_init__(self) -> None:
        if (self.cert is None) != (self.key is None):
            raise ConfigError(f"tls: got cert {self.cert!s} and key {self.key!s}; allowed: both or none")
        name = self.server_name
        if name is not None and not (isinstance(name, str) and name.isascii() and name and not set(name) & set(" :/[]")):
            raise ConfigError(f"tls: got server_name {name!r}; allowed: a name such as 'gpu-node7', without scheme and port")


@dataclass(frozen=True, slots=True, eq=False)
class TlsMaterial:
    """What the files held when they were read last: for our own connections, and for grpcio's."""

    context: ssl.SSLContext
    credentials: grpc.ChannelCredentials


class TlsFiles:
    """Reads the files when they are first needed, and again when one has changed. Thread-safe.

    Files that are changed one after the other do not fit each other for a moment: what was read last is used until they do.
    """

    def __init__(self, tls: TlsConfig | bool | None) -> None:
        """`tls` as for connect()."""
        self._config = (TlsConfig() if tls is True else tls) or None
        self._lock = threading.Lock()
        self._stamp: _Stamp | None = None
        self._material: TlsMaterial | None = None

    @property
    def server_name(self) -> str | None:
        """The name that the user gave for the certificate."""
        return None if self._config is None else self._config.server_name

    def read(self) -> TlsMaterial | None:
        """What the files hold now, the same object until they change; None: no encryption.

        Raises, unless it has read them once:
            ConfigError: a file that is no certificate or key, or one that asks for a password. NotFoundError: one that is not there.
        """
        if self._config is None:
            return None
        with self._lock:
            stamp = tuple(_stamp(path) for path in (self._config.ca, self._config.cert, self._config.key))
            if stamp != self._stamp:
                self._stamp = stamp
                try:
                    self._material = _read_material(self._config)
                except (ConfigError, NotFoundError) as error:
                    if self._material is None:
                        self._stamp = None
                        raise
                    _log.warning("%s; the files that were read before are still used", error)
            return self._material


def _read_material(files: TlsConfig) -> TlsMaterial:
    pem = {name: _read_pem(name, path) for name, path in (("ca", files.ca), ("cert", files.cert), ("key", files.key))}
    try:
        context = ssl.create_default_context(cafile=files.ca)
        if files.cert is not None:
            context.load_cert_chain(files.cert, files.key, password="")
    except ssl.SSLError as error:
        raise ConfigError(f"tls: a file is no PEM, does not fit the others, or is locked with a password: {error}") from error
    context.set_alpn_protocols(["h2"])
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT  # as strict as gRPC, through which all other calls go
    credentials: Any = grpc.ssl_channel_credentials(pem["ca"], pem["key"], pem["cert"])
    return TlsMaterial(context, credentials)


def _read_pem(name: str, path: str | Path | None) -> bytes | None:
    if path is None:
        return None
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise NotFoundError(f"tls: the {name} file {str(path)!r} cannot be read: {error.strerror}") from error


def _stamp(path: str | Path | None) -> tuple[int, int, int] | None:
    if path is None:
        return None
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
