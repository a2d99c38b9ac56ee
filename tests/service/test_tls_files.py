"""Renewed PEM files, and the two ways in which they cannot be read: they are broken, or the machine is short."""

from __future__ import annotations

import errno
import os
import ssl
from pathlib import Path

import pytest
import trustme

from augserver.config import SecurityConfig
from augserver.service.tls import _PemFiles


@pytest.fixture
def files(tmp_path: Path) -> tuple[_PemFiles, Path, Path]:
    cert, key = tmp_path / "server.pem", tmp_path / "server.key"
    renew(cert, key)
    return _PemFiles(SecurityConfig(tls_cert=str(cert), tls_key=str(key))), cert, key


def renew(cert: Path, key: Path) -> None:
    issued = trustme.CA().issue_cert("127.0.0.1")
    issued.cert_chain_pems[0].write_to_path(str(cert))
    issued.private_key_pem.write_to_path(str(key))
    for path in (cert, key):
        os.utime(path, ns=(1, 1 + path.stat().st_mtime_ns))  # the clock of some file systems is coarse


def test_a_renewal_that_a_shortage_hid_counts_when_it_has_passed(
    files: tuple[_PemFiles, Path, Path], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pem, cert, key = files
    assert pem.renewed() is None
    renew(cert, key)

    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    for owner, name in ((ssl.SSLContext, "load_cert_chain"), (Path, "read_bytes")):
        with monkeypatch.context() as short:
            short.setattr(owner, name, fail)
            assert pem.renewed() is None
            assert pem.renewed() is None
    assert sum("stays as it was" in record.message for record in caplog.records) == 1
    assert pem.renewed() is not None
    assert pem.renewed() is None


def test_a_broken_file_is_read_once(files: tuple[_PemFiles, Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    pem, cert, _ = files
    cert.write_text("no certificate")
    assert pem.renewed() is None
    monkeypatch.setattr(_PemFiles, "_read", lambda _: pytest.fail("it has not changed"))
    assert pem.renewed() is None
