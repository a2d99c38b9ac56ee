"""Certificates that are renewed while a job runs, and servers whose certificate is for another name."""

from __future__ import annotations

import os
from concurrent import futures
from pathlib import Path

import augclient
import grpc
import pytest
import trustme
from augclient import TlsConfig, errors
from augclient.tls_files import TlsFiles
from augclient.wire.v1 import augserver_pb2_grpc

RECIPE = augclient.Recipe()
pytestmark = pytest.mark.usefixtures("each_receiver")


def write(cert: trustme.LeafCert, folder: Path, *, only: str = "both") -> None:
    """As renewal does: the files are replaced, one after the other."""
    for name, blob in (("cert", b"".join(each.bytes() for each in cert.cert_chain_pems)), ("key", cert.private_key_pem.bytes())):
        if only in ("both", name):
            (folder / "new").write_bytes(blob)
            os.replace(folder / "new", folder / f"{name}.pem")


class Secured:
    """A toy server that takes clients of one authority."""

    def __init__(self, toy, clients: trustme.CA, *, name: str = "127.0.0.1") -> None:
        self.authority = trustme.CA()
        cert = self.authority.issue_cert(name)
        pair = cert.private_key_pem.bytes(), b"".join(each.bytes() for each in cert.cert_chain_pems)
        credentials = grpc.ssl_server_credentials([pair], clients.cert_pem.bytes(), require_client_auth=True)
        self._server = grpc.server(futures.ThreadPoolExecutor(8))
        augserver_pb2_grpc.add_AugServerServicer_to_server(toy.ToyServicer(), self._server)
        self.address = f"127.0.0.1:{self._server.add_secure_port('127.0.0.1:0', credentials)}"
        self._server.start()

    def stop(self) -> None:
        self._server.stop(None).wait()


@pytest.fixture
def clients() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def secured(toy, clients):
    server = Secured(toy, clients)
    yield server
    server.stop()


@pytest.fixture
def tls(secured, tmp_path) -> TlsConfig:
    secured.authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    return TlsConfig(ca=tmp_path / "ca.pem", cert=tmp_path / "cert.pem", key=tmp_path / "key.pem")


def steps(server: augclient.Server) -> list[int]:
    return [batch.step for batch in server.stream(RECIPE, patch=(3, 5, 7), batch_size=2, steps=3, transport="grpc", reconnect_s=0)]


def test_a_renewed_certificate_is_used_by_new_connections_of_every_kind(secured, clients, tls, tmp_path):
    write(trustme.CA().issue_cert("trainer"), tmp_path)  # of an authority that the server does not know
    server = augclient.connect.__wrapped__ if False else augclient.Server(secured.address, tls=tls, timeout_s=5)
    with server:
        with pytest.raises(errors.UnavailableError):
            server.dataset()
        write(clients.issue_cert("trainer"), tmp_path)
        assert server.dataset().fingerprint == "toy-1"
        assert steps(server) == [0, 1, 2]
        assert server.volume("case_2").image.shape == (2, 5, 7, 11)
        write(trustme.CA().issue_cert("trainer"), tmp_path)
        with pytest.raises(errors.UnavailableError):
            server.dataset()


def test_files_that_do_not_fit_for_a_moment_change_nothing(clients, tls, tmp_path, caplog):
    write(clients.issue_cert("trainer"), tmp_path)
    files = TlsFiles(tls)
    first = files.read()
    assert files.read() is first
    renewed = clients.issue_cert("trainer")
    write(renewed, tmp_path, only="cert")
    assert files.read() is first
    assert "still used" in caplog.text
    write(renewed, tmp_path, only="key")
    assert files.read() is not first
    (tmp_path / "key.pem").unlink()
    last = files.read()
    assert files.read() is last


def test_a_first_reading_that_fails_is_repeated(clients, tls, tmp_path):
    files = TlsFiles(tls)
    for _ in range(2):
        with pytest.raises(errors.NotFoundError, match="cert file"):
            files.read()
    write(clients.issue_cert("trainer"), tmp_path)
    assert files.read() is not None


def test_a_server_behind_a_tunnel_is_known_by_the_name_that_is_given(toy, clients, tmp_path):
    write(clients.issue_cert("trainer"), tmp_path)
    server = Secured(toy, clients, name="gpu-node7")
    server.authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    pem = {"ca": tmp_path / "ca.pem", "cert": tmp_path / "cert.pem", "key": tmp_path / "key.pem"}
    try:
        with pytest.raises(errors.UnavailableError):
            augclient.connect(server.address, tls=TlsConfig(**pem), timeout_s=5)
        with augclient.connect(server.address, tls=TlsConfig(**pem, server_name="gpu-node7"), timeout_s=5) as connection:
            assert steps(connection) == [0, 1, 2]
        with pytest.raises(errors.UnavailableError):
            augclient.connect(server.address, tls=TlsConfig(**pem, server_name="gpu-node8"), timeout_s=5)
    finally:
        server.stop()


@pytest.mark.parametrize("name", ["", "https://gpu-node7", "gpu-node7:50051", 7, "größe"])
def test_what_is_no_name_of_a_certificate_is_refused(name):
    with pytest.raises(errors.ConfigError, match="server_name"):
        TlsConfig(server_name=name)
