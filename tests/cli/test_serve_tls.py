"""`augserver serve` with TLS and tokens, as an operator meets it: what the log says of those who were refused."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import augclient
import numpy as np
import pytest
import trustme
from augclient.errors import AuthError, UnavailableError
from augclient.tls_files import TlsConfig

from augserver.store import DatasetWriter

START = [sys.executable, "-P", "-c", "from augserver.cli import main; main()"]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("store") / "toy.zarr"
    with DatasetWriter(path, modality="mr") as writer:
        writer.write("a", np.arange(1000, dtype=np.int16).reshape(1, 10, 10, 10), None, (1.0, 1.0, 1.0), np.eye(4)[[2, 1, 0, 3]], {})
        writer.finish()
    return path


@pytest.fixture(scope="module")
def pem(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ca.pem; server, client and (of another authority) stranger: NAME.pem and NAME.key."""
    folder = tmp_path_factory.mktemp("pem")
    authority, other = trustme.CA(), trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    for name, ca in (("server", authority), ("client", authority), ("stranger", other)):
        issued = ca.issue_cert("127.0.0.1")
        issued.cert_chain_pems[0].write_to_path(str(folder / f"{name}.pem"))
        issued.private_key_pem.write_to_path(str(folder / f"{name}.key"))
    return folder


@pytest.fixture
def serve(dataset: Path) -> Iterator[Callable[..., tuple[str, Callable[[], str]]]]:
    """serve(*options) -> its address, and a function that stops it and gives its stderr."""
    with contextlib.ExitStack() as stack:

        def begin(*options: str, start: list[str] = START) -> tuple[str, Callable[[], str]]:
            command = [*start, "serve", str(dataset), "--address", "127.0.0.1:0", "--backend", "cpu", *options]
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            stack.callback(process.communicate)
            stack.callback(process.kill)
            assert process.stdout is not None
            assert select.select([process.stdout], [], [], 60)[0]

            def stop() -> str:
                process.terminate()
                errors = process.communicate(timeout=30)[1]
                assert process.returncode == 0
                return errors

            return process.stdout.readline().split()[2], stop

        yield begin


def test_the_log_says_once_who_was_refused_and_why(serve: Callable[..., tuple[str, Callable[[], str]]], pem: Path, tmp_path: Path) -> None:
    made = subprocess.run([*START, "token", "trainer"], capture_output=True, text=True, check=True)
    (tmp_path / "tokens.toml").write_text(made.stdout)
    tls = ("--tls-cert", str(pem / "server.pem"), "--tls-key", str(pem / "server.key"), "--tls-client-ca", str(pem / "ca.pem"))
    address, stop = serve(*tls, "--token-file", str(tmp_path / "tokens.toml"))
    trusted = TlsConfig(ca=pem / "ca.pem", cert=pem / "client.pem", key=pem / "client.key")
    stranger = TlsConfig(ca=pem / "ca.pem", cert=pem / "stranger.pem", key=pem / "stranger.key")
    for _ in range(2):
        for refused in (None, TlsConfig(ca=pem / "ca.pem"), stranger):
            with pytest.raises(UnavailableError):
                augclient.connect(address, tls=refused, timeout_s=2)
        with pytest.raises(AuthError):
            augclient.connect(address, tls=trusted)
    with augclient.connect(address, tls=trusted, token=made.stderr.split()[-1]) as server:
        assert server.dataset().modality == "mr"
    log = stop()
    told = [line.split("refused ")[1] for line in log.splitlines() if "refused" in line]
    assert [line.split(":")[0] for line in told] == ["127.0.0.1"] * 4
    reasons = ["spoke plain text", "showed no certificate", "is not a valid one of this server's authority", "no token came with the call"]
    for reason, line in zip(reasons, told, strict=True):
        assert reason in line
    assert "handshaker.cc" not in log  # gRPC's own trace stays inside
    assert "backend: cpu" in log  # and what else goes to stderr does not


def test_the_settings_may_stand_in_the_config_file(serve: Callable[..., tuple[str, Callable[[], str]]], pem: Path, tmp_path: Path) -> None:
    config = tmp_path / "server.toml"
    config.write_text(f'[security]\ntls_cert = "{pem / "server.pem"}"\ntls_key = "{pem / "server.key"}"\n')
    address, stop = serve("--config", str(config))
    with augclient.connect(address, tls=TlsConfig(ca=pem / "ca.pem")) as server:
        assert server.dataset().modality == "mr"
    with pytest.raises(UnavailableError):
        augclient.connect(address, timeout_s=2)
    log = stop()
    assert log.count("it spoke plain text") == 1
    assert "handshaker.cc" not in log


def test_what_asks_for_the_trace_leaves_no_variable_for_children() -> None:
    code = (
        "import os; from augserver.cli.processes.grpc_log import ask_for_handshakes as ask; before = dict(os.environ)\n"
        "print(ask(), dict(os.environ) == before, ask())"
    )
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GRPC_")}
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.split() == ["True", "True", "False"]  # the second time gRPC is there


SILENT = "does not tell of TLS handshakes that fail"


def test_the_installed_grpcio_tells_of_handshakes_and_the_own_probe_is_no_refusal(
    serve: Callable[..., tuple[str, Callable[[], str]]], pem: Path
) -> None:
    _, stop = serve("--tls-cert", str(pem / "server.pem"), "--tls-key", str(pem / "server.key"))
    said = stop()
    assert SILENT not in said
    assert "refused" not in said


def test_a_grpcio_whose_trace_reads_otherwise_is_told(serve: Callable[..., tuple[str, Callable[[], str]]], pem: Path) -> None:
    other = """
import re
from augserver.cli.processes import grpc_log
grpc_log._FAILED = re.compile("another text")
grpc_log.HandshakeLog.is_told.__defaults__ = (0.5,)
from augserver.cli import main; main()
"""
    _, stop = serve("--tls-cert", str(pem / "server.pem"), "--tls-key", str(pem / "server.key"), start=[sys.executable, "-P", "-c", other])
    assert SILENT in stop()


def test_a_stderr_without_a_reader_holds_up_no_handshake(dataset: Path, pem: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    options = ["--address", "127.0.0.1:0", "--backend", "cpu", "--tls-cert", str(pem / "server.pem"), "--tls-key", str(pem / "server.key")]
    with subprocess.Popen([*START, "serve", str(dataset), *options], stdout=subprocess.PIPE, stderr=writing, text=True) as process:
        os.close(writing)
        assert process.stdout is not None
        address = process.stdout.readline().split()[2]
        host, _, port = address.rpartition(":")
        for _ in range(100):  # more words about them than a pipe holds
            with socket.create_connection((host, int(port)), 10) as plain:
                plain.sendall(b"GET / HTTP/1.0\r\n\r\n")
                with contextlib.suppress(ConnectionError):
                    plain.recv(100)
        with augclient.connect(address, tls=TlsConfig(ca=pem / "ca.pem")) as server:
            assert server.dataset().volumes == ("a",)
        process.terminate()
        assert process.wait(30) == 0
