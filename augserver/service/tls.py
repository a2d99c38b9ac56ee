"""The server's certificate, and whose certificates it asks for; files that were renewed count from the next connection on."""

from __future__ import annotations

import logging
import ssl
import threading
from pathlib import Path
from typing import Any

import grpc

from augserver.config import SecurityConfig
from augserver.errors import ConfigError, NotFoundError
from augserver.store.machine_fault import is_machine_fault

_log = logging.getLogger(__name__)


def open_credentials(config: SecurityConfig) -> Any | None:
    """grpc.ServerCredentials as the settings say; None: no TLS.

    Raises:
        NotFoundError: a file is not there. ConfigError: it is no PEM, or key and certificate do not belong together.
    """
    if not config.tls_cert:
        return None
    files = _PemFiles(config)
    return grpc.dynamic_ssl_server_credentials(files.first, files.renewed, require_client_authentication=bool(config.tls_client_ca))


class _PemFiles:
    """The PEM files of a server, read again when one of them has changed."""

    def __init__(self, config: SecurityConfig) -> None:
        self._config = config
        self._paths = [Path(each) for each in (config.tls_cert, config.tls_key, config.tls_client_ca) if each]
        self._lock = threading.Lock()
        self._versions = self._refused = self._now()
        self.first = self._read()

    def renewed(self) -> Any | None:
        """The configuration to use from now on, where it is another; None: as before. gRPC asks at every new connection."""
        with self._lock:
            versions = self._now()
            if versions == self._versions:
                return None
            try:
                configuration = self._read()
            except (ConfigError, NotFoundError) as error:  # half of a pair is there when the other is written
                if versions != self._refused:
                    _log.error("the TLS certificate stays as it was: %s", error)
                self._refused = versions
                cause = error.__cause__
                if cause is None or isinstance(cause, ssl.SSLError) or not is_machine_fault(cause):
                    self._versions = versions  # else a descriptor was missing, say: the next connection looks again
                return None
            self._versions = versions
            _log.info("the TLS certificate was read again")
            return configuration

    def _now(self) -> list[int]:
        return [path.stat().st_mtime_ns if path.exists() else 0 for path in self._paths]

    def _read(self) -> Any:
        cert, key = Path(self._config.tls_cert), Path(self._config.tls_key)
        for path in self._paths:
            if not path.is_file():
                raise NotFoundError(f"tls: there is no file {path}")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        try:
            context.load_cert_chain(cert, key, password=lambda: b"")  # or OpenSSL asks at the terminal
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(
                f"tls: {cert} and {key} are not a PEM certificate and its unencrypted key ({error}); check that they belong together"
            ) from error
        roots = None
        if self._config.tls_client_ca:
            try:
                context.load_verify_locations(self._config.tls_client_ca)
            except (OSError, ssl.SSLError) as error:
                raise ConfigError(f"tls: {self._config.tls_client_ca} holds no PEM certificate of an authority ({error})") from error
            roots = self._config.tls_client_ca
        try:
            return grpc.ssl_server_certificate_configuration(
                [(key.read_bytes(), cert.read_bytes())], None if roots is None else Path(roots).read_bytes()
            )
        except OSError as error:
            raise ConfigError(f"tls: {error.filename} cannot be read: {error.strerror}") from error
