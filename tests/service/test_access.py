"""Tokens, TLS and certificates of clients, as a caller meets them: in-process servers, generated code, certificates by trustme."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import augclient
import grpc
import numpy as np
import pytest
import trustme
from augclient.errors import AuthError, ForbiddenError, UnavailableError
from augclient.tls_files import TlsConfig
from augclient.wire.v1 import augserver_pb2 as pb
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from augserver.errors import ConfigError, NotFoundError

SECRETS = {"reader": "reader-secret-0123456789", "warper": "warper-secret-0123456789", "admin": "admin-secret-0123456789"}
RIGHTS = {"reader": "read", "warper": "warp", "admin": "admin"}


@pytest.fixture(scope="module")
def token_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tokens") / "tokens.toml"
    digests = {name: hashlib.sha256(secret.encode()).hexdigest() for name, secret in SECRETS.items()}
    entries = (f'[{name}]\nsha256 = "{digest}"\nrights = ["{RIGHTS[name]}"]' for name, digest in digests.items())
    path.write_text("\n".join(entries))
    return path


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Paths of PEM files: an authority, a server's and a client's certificates by it, and a client's by another one."""
    folder = tmp_path_factory.mktemp("pem")
    authority, other = trustme.CA(), trustme.CA()
    paths = {}
    for name, ca in (("ca", authority), ("other_ca", other)):
        paths[name] = str(folder / f"{name}.pem")
        ca.cert_pem.write_to_path(paths[name])
    for name, ca in (("server", authority), ("client", authority), ("stranger", other)):
        issued = ca.issue_cert("localhost", "127.0.0.1")
        paths[name], paths[f"{name}_key"] = str(folder / f"{name}.pem"), str(folder / f"{name}.key")
        Path(paths[name]).write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        issued.private_key_pem.write_to_path(paths[f"{name}_key"])
    return paths


@pytest.fixture(scope="module")
def guarded(dataset: Any, start_server: Callable[..., Any], token_file: Path) -> Any:
    return start_server(dataset, security={"token_file": str(token_file)})


def code_of(call: Callable[[], Any]) -> grpc.StatusCode:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    code = caught.value.code()
    assert isinstance(code, grpc.StatusCode)
    return code


def bearer(name: str) -> list[tuple[str, str]]:
    return [("authorization", f"Bearer {SECRETS[name]}")]


CALLS: list[tuple[str, str, Callable[[Any, Any], Any]]] = [
    ("GetDataset", "read", lambda stub, metadata: stub.GetDataset(pb.GetDatasetRequest(), metadata=metadata)),
    ("GetVolume", "read", lambda stub, metadata: list(stub.GetVolume(pb.GetVolumeRequest(id="case_1"), metadata=metadata))),
    ("GetSample", "read", lambda stub, metadata: stub.GetSample(pb.GetSampleRequest(patch=[5, 7, 9]), metadata=metadata)),
    (
        "StreamBatches",
        "read",
        lambda stub, metadata: list(stub.StreamBatches(pb.StreamBatchesRequest(patch=[5, 7, 9], batch_size=2, steps=1), metadata=metadata)),
    ),
    ("Warp", "warp", lambda stub, metadata: list(stub.Warp(iter(()), metadata=metadata))),
]


@pytest.mark.parametrize(("method", "right", "call"), CALLS, ids=[each[0] for each in CALLS])
def test_each_method_wants_its_right(guarded: Any, method: str, right: str, call: Callable[[Any, Any], Any]) -> None:
    assert code_of(lambda: call(guarded.stub, None)) is grpc.StatusCode.UNAUTHENTICATED
    assert code_of(lambda: call(guarded.stub, [("authorization", "Bearer wrong")])) is grpc.StatusCode.UNAUTHENTICATED
    assert code_of(lambda: call(guarded.stub, [("authorization", f"Basic {SECRETS['admin']}")])) is grpc.StatusCode.UNAUTHENTICATED
    for name, has in RIGHTS.items():
        if has in (right, "admin"):
            call(guarded.stub, bearer(name))
        else:
            assert code_of(lambda: call(guarded.stub, bearer(name))) is grpc.StatusCode.PERMISSION_DENIED  # noqa: B023


def test_health_is_open_and_reflection_is_not(guarded: Any) -> None:
    health = health_pb2_grpc.HealthStub(guarded.channel).Check(health_pb2.HealthCheckRequest())
    assert health.status == health_pb2.HealthCheckResponse.SERVING
    with pytest.raises(grpc.RpcError) as caught:
        ProtoReflectionDescriptorDatabase(guarded.channel).get_services()
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED


def test_a_method_that_nobody_knows_is_refused_before_it_is_looked_up(guarded: Any) -> None:
    assert code_of(lambda: guarded.channel.unary_unary("/augserver.v1.AugServer/Shutdown")(b"")) is grpc.StatusCode.UNAUTHENTICATED
    call = guarded.channel.unary_unary("/augserver.v1.AugServer/Shutdown")
    assert code_of(lambda: call(b"", metadata=bearer("admin"))) is grpc.StatusCode.UNIMPLEMENTED


def test_our_client_gets_the_typed_error_and_streams_with_the_right_token(guarded: Any) -> None:
    address = str(guarded.server.address)
    with pytest.raises(AuthError, match=r"no token came.*connect\(\.\.\., token=\.\.\.\)"):
        augclient.connect(address)
    with augclient.connect(address, token=SECRETS["reader"]) as server:
        with server.stream(augclient.Recipe(), patch=(5, 7, 9), batch_size=2, steps=3) as stream:
            assert [batch.step for batch in stream] == [0, 1, 2]
        item = (np.zeros((1, 5, 7, 9), np.float32), augclient.Transform(affine=np.eye(3, 4)))
        with pytest.raises(ForbiddenError, match="no right 'warp', which Warp needs; it has: read"):
            list(server.warp([item[0]], [item[1]]))


def test_a_refusal_is_logged_once_with_who_and_why(
    dataset: Any, start_server: Callable[..., Any], token_file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stub = start_server(dataset, security={"token_file": str(token_file)}).stub
    for _ in range(5):
        code_of(lambda: stub.GetDataset(pb.GetDatasetRequest()))
        code_of(lambda: stub.GetDataset(pb.GetDatasetRequest(), metadata=bearer("warper")))
    lines = [record.getMessage() for record in caplog.records if "refused" in record.getMessage()]
    assert [line[: line.index(":")] for line in lines] == ["refused 127.0.0.1", "refused token warper, 127.0.0.1"]
    assert "no token came" in lines[0]
    assert "no right 'read'" in lines[1]
    assert not any(secret in line for secret in SECRETS.values() for line in lines)


def test_streams_are_counted_for_each_token(dataset: Any, start_server: Callable[..., Any], token_file: Path) -> None:
    running = start_server(dataset, security={"token_file": str(token_file)}, streams={"max_peer_streams": 1})
    request = pb.StreamBatchesRequest(patch=[5, 7, 9], batch_size=1, steps=10**9)
    first = running.stub.StreamBatches(request, metadata=bearer("reader"))
    next(first)
    with pytest.raises(grpc.RpcError, match=r"token reader.*streams\.max_peer_streams = 1") as caught:
        next(running.stub.StreamBatches(request, metadata=bearer("reader")))
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    other = running.stub.StreamBatches(request, metadata=bearer("admin"))
    next(other)
    first.cancel()
    other.cancel()
    assert running.server.service.wait_idle(10)
    assert running.server.service.streams == 0


def test_a_stream_that_nobody_reads_is_ended_and_resumes_by_number(
    dataset: Any, start_server: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    running = start_server(dataset, streams={"idle_s": 0.3}, local={"mode": "off"})

    def digests() -> Iterator[str]:
        server = augclient.connect(str(running.server.address))
        recipe = augclient.Recipe(crop={"pad": True}, noise={"std": [5, 10]})  # 4 MB a batch: more than all buffers on the way hold
        with server, server.stream(recipe, patch=(64, 64, 128), batch_size=2, steps=16) as stream:
            yield from (hashlib.sha256(batch.image).hexdigest() for batch in stream)

    undisturbed = list(digests())
    again = digests()
    got = [next(again)]
    assert running.server.service.wait_idle(20)  # nobody reads, and the stream is ended
    assert "a stream of 127.0.0.1 took nothing for streams.idle_s = 0.3 s" in caplog.text
    assert got + list(again) == undisturbed
    assert len(set(undisturbed)) == 16


def test_tls_serves_who_trusts_it_and_refuses_plain_text(
    dataset: Any, start_server: Callable[..., Any], certificates: dict[str, str]
) -> None:
    running = start_server(dataset, security={"tls_cert": certificates["server"], "tls_key": certificates["server_key"]})
    address = str(running.server.address)
    with augclient.connect(address, tls=TlsConfig(ca=certificates["ca"])) as server:
        assert server.dataset().modality == "ct"
    with pytest.raises(UnavailableError):
        augclient.connect(address, timeout_s=2)
    with pytest.raises(UnavailableError):
        augclient.connect(address, tls=TlsConfig(ca=certificates["other_ca"]), timeout_s=2)


def test_mutual_tls_refuses_no_certificate_and_one_of_another_authority(
    dataset: Any, start_server: Callable[..., Any], certificates: dict[str, str]
) -> None:
    security = {"tls_cert": certificates["server"], "tls_key": certificates["server_key"], "tls_client_ca": certificates["ca"]}
    running = start_server(dataset, security=security)
    address, ca = str(running.server.address), certificates["ca"]
    with augclient.connect(address, tls=TlsConfig(ca=ca, cert=certificates["client"], key=certificates["client_key"])) as server:
        assert server.dataset().modality == "ct"
    for tls in (TlsConfig(ca=ca), TlsConfig(ca=ca, cert=certificates["stranger"], key=certificates["stranger_key"])):
        with pytest.raises(UnavailableError):
            augclient.connect(address, tls=tls, timeout_s=2)


def test_a_renewed_certificate_counts_from_the_next_connection(
    dataset: Any, start_server: Callable[..., Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def issue(time_ns: int) -> str:
        authority = trustme.CA()
        issued = authority.issue_cert("127.0.0.1")
        (tmp_path / "cert.pem").write_bytes(issued.cert_chain_pems[0].bytes())
        issued.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
        os.utime(tmp_path / "cert.pem", ns=(time_ns, time_ns))
        authority.cert_pem.write_to_path(str(tmp_path / f"ca{time_ns}.pem"))
        return str(tmp_path / f"ca{time_ns}.pem")

    old = issue(1)
    running = start_server(dataset, security={"tls_cert": str(tmp_path / "cert.pem"), "tls_key": str(tmp_path / "key.pem")})
    address = str(running.server.address)
    with augclient.connect(address, tls=TlsConfig(ca=old)) as server:
        new = issue(2)
        with augclient.connect(address, tls=TlsConfig(ca=new)) as renewed:
            assert renewed.dataset().fingerprint == server.dataset().fingerprint
    (tmp_path / "key.pem").write_text("no key")
    with augclient.connect(address, tls=TlsConfig(ca=new)) as server:  # the pair that was read last goes on
        assert server.dataset().modality == "ct"
    assert "the TLS certificate stays as it was" in caplog.text


@pytest.mark.parametrize(
    ("cert", "key", "ca", "error", "message"),
    [
        ("none.pem", "server_key", "", NotFoundError, "no file none.pem"),
        ("server", "client_key", "", ConfigError, "belong together"),
        ("server_key", "server_key", "", ConfigError, "belong together"),
        ("server", "server_key", "server_key", ConfigError, "PEM certificate of an authority"),
        ("server", "", "", ConfigError, r"security\.tls_key"),
        ("", "", "ca", ConfigError, r"security\.tls_client_ca"),
    ],
)
def test_files_that_cannot_be_used_keep_the_server_from_starting(
    dataset: Any,
    start_server: Callable[..., Any],
    certificates: dict[str, str],
    cert: str,
    key: str,
    ca: str,
    error: type[Exception],
    message: str,
) -> None:
    named = {name: certificates.get(value, value) for name, value in (("tls_cert", cert), ("tls_key", key), ("tls_client_ca", ca))}
    with pytest.raises(error, match=message):
        start_server(dataset, security=named)


def test_watchers_without_a_token_keep_no_trainer_waiting(dataset: Any, start_server: Callable[..., Any], token_file: Path) -> None:
    """Health.Watch needs no token and lasts; however many there are, a trainer with one gets its batch."""
    running = start_server(dataset, security={"token_file": str(token_file)})
    stub = health_pb2_grpc.HealthStub(running.channel)
    watches = [stub.Watch(health_pb2.HealthCheckRequest(service="")) for _ in range(300)]
    answers = []
    for watch in watches:
        try:
            answers.append(next(watch).status)
        except grpc.RpcError as refused:
            answers.append(refused.code())
    assert set(answers) <= {health_pb2.HealthCheckResponse.SERVING, grpc.StatusCode.RESOURCE_EXHAUSTED}
    assert answers.count(health_pb2.HealthCheckResponse.SERVING) > 50
    with augclient.connect(str(running.server.address), token=SECRETS["reader"]) as server:
        stream = server.stream(augclient.Recipe(), patch=(4, 4, 4), batch_size=1, steps=1, reconnect_s=5)
        assert [batch.step for batch in stream] == [0]
    for watch in watches:
        watch.cancel()
