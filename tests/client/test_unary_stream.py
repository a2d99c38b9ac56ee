"""The call that carries streams, against gRPC's own server: every byte, every status, silence, and what is left behind."""

from __future__ import annotations

import http.server
import os
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import augclient
import grpc
import numpy as np
import pytest
import trustme
from augclient import errors
from augclient.tls_files import TlsConfig
from augclient.wire.address import parse_address
from augclient.wire.methods import MAX_REQUEST_BYTES, server_options
from augclient.wire.status import CallError
from augclient.wire.unary_stream import UnaryStreamCall

METHOD = "/toy.Toy/Send"
SIZES = (0, 1, 5, 16383, 16384, 16385, 65535, 65536, 3_670_016, 1, 20_000_001, 0)
LIMIT = 1 << 25


def message(size: int, seed: int = 0) -> bytes:
    return np.random.default_rng(seed).integers(0, 256, size, np.uint8).tobytes()


class Toy(grpc.GenericRpcHandler):
    """Answers METHOD with whatever `answer(request, context)` yields."""

    def __init__(self, answer: Callable[[bytes, Any], Iterator[bytes]]) -> None:
        self._answer = answer

    def service(self, call: Any) -> Any:
        return grpc.unary_stream_rpc_method_handler(self._answer, None, None) if call.method == METHOD else None


@pytest.fixture
def serve() -> Iterator[Callable[..., str]]:
    """Starts gRPC's server in this process; the address."""
    servers = []

    def start(answer: Callable[[bytes, Any], Iterator[bytes]], *, options: dict[str, int] | None = None, credentials: Any = None) -> str:
        server = grpc.server(ThreadPoolExecutor(8), [Toy(answer)], options=[*(dict(server_options()) | (options or {})).items()])
        port = server.add_insecure_port("127.0.0.1:0") if credentials is None else server.add_secure_port("127.0.0.1:0", credentials)
        server.start()
        servers.append(server)
        return f"127.0.0.1:{port}"

    yield start
    for server in servers:
        server.stop(0).wait()


def call(address: str, request: bytes = b"", metadata: Any = (), **how: Any) -> UnaryStreamCall:
    settings = {"tls": None, "tls_name": None, "keepalive_s": 20.0, "keepalive_timeout_s": 10.0, "limit_bytes": LIMIT}
    return UnaryStreamCall(METHOD, request, metadata, address=parse_address(address), **(settings | how))


def failure(each: UnaryStreamCall) -> CallError:
    with pytest.raises(CallError) as caught:
        list(each)
    assert list(each) == []  # nothing more comes, and nothing hangs
    return caught.value


def test_messages_of_every_size_arrive_byte_for_byte_in_one_buffer(serve):
    address = serve(lambda request, context: (message(size, k) for k, size in enumerate(SIZES)))
    places = []
    for k, data in enumerate(call(address)):
        assert data == message(SIZES[k], k)
        assert data.readonly
        places.append(np.frombuffer(data, np.uint8).ctypes.data if len(data) else None)
    assert len(places) == len(SIZES)
    assert places[9] == places[8]  # a small one after a large one


def test_a_request_larger_than_the_servers_window_and_its_metadata_arrive(serve):
    def answer(request: bytes, context: Any) -> Iterator[bytes]:
        yield request
        yield dict(context.invocation_metadata())["authorization"].encode()

    request = message(MAX_REQUEST_BYTES - 1)
    address = serve(answer, options={"grpc.http2.lookahead_bytes": 65535})
    sent = call(address, request, [("authorization", "Bearer " + "x" * 300)])
    assert next(sent) == request
    assert next(sent) == b"Bearer " + b"x" * 300
    assert list(sent) == []


def test_a_request_that_the_server_finds_too_large_is_refused_and_not_sent_for_ever(serve):
    error = failure(call(serve(lambda request, context: iter(())), message(8 * MAX_REQUEST_BYTES)))
    assert error.code() in (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE)


@pytest.mark.parametrize("before", [0, 3])
@pytest.mark.parametrize("code", [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK])
def test_every_status_comes_with_its_text_and_metadata(serve, code, before):
    def answer(request: bytes, context: Any) -> Iterator[bytes]:
        yield from [b"part"] * before
        context.set_trailing_metadata((("augserver-error", "VolumeError"),))
        context.abort(code, "größer als 100 %\nzweite Zeile")

    stream = call(serve(answer))
    assert [bytes(next(stream)) for _ in range(before)] == [b"part"] * before
    error = failure(stream)
    assert (error.code(), error.details()) == (code, "größer als 100 %\nzweite Zeile")
    assert ("augserver-error", "VolumeError") in error.trailing_metadata()


def test_a_method_that_is_not_there_is_unimplemented(serve):
    address = serve(lambda request, context: iter(()))
    how = {"tls": None, "tls_name": None, "keepalive_s": 20.0, "keepalive_timeout_s": 10.0, "limit_bytes": LIMIT}
    assert (
        failure(UnaryStreamCall("/toy.Toy/Other", b"", (), address=parse_address(address), **how)).code() is grpc.StatusCode.UNIMPLEMENTED
    )


def test_a_message_above_the_limit_is_refused(serve):
    error = failure(call(serve(lambda request, context: iter([message(1001)])), limit_bytes=1000))
    assert (error.code(), "1001" in error.details()) == (grpc.StatusCode.RESOURCE_EXHAUSTED, True)


def test_the_server_waits_for_a_reader_that_is_slow(serve):
    pulled = []

    def answer(request: bytes, context: Any) -> Iterator[bytes]:
        for k in range(200):
            pulled.append(k)
            yield message(1 << 20, k)

    stream = call(serve(answer))
    assert next(stream) == message(1 << 20, 0)
    count = -1
    while count != len(pulled):
        count = len(pulled)
        time.sleep(0.3)
        stream.stay_alive()
    assert count < 40  # MiB: the window, both sockets' buffers, and a message in each hand
    assert [bytes(data[:8]) for data in stream] == [message(1 << 20, k)[:8] for k in range(1, 200)]


@pytest.mark.parametrize("alive", [True, False])
def test_a_server_that_asks_whether_a_waiting_reader_lives_is_answered(serve, alive):
    asks = {"grpc.keepalive_time_ms": 300, "grpc.keepalive_timeout_ms": 1500, "grpc.http2.ping_timeout_ms": 1500}
    address = serve(lambda request, context: (message(1 << 20, k) for k in range(60)), options=asks)
    stream = call(address)
    next(stream)
    end = time.monotonic() + 3.5
    while time.monotonic() < end:
        if alive:
            stream.stay_alive()
        time.sleep(0.05)
    if alive:
        assert [bytes(data[:8]) for data in stream] == [message(1 << 20, k)[:8] for k in range(1, 60)]
    else:  # or the server would not have asked, and the test would show nothing
        assert failure(stream).code() is grpc.StatusCode.UNAVAILABLE


def test_a_server_that_is_slow_is_asked_and_one_that_is_silent_is_lost(serve):
    def answer(request: bytes, context: Any) -> Iterator[bytes]:
        time.sleep(2)
        yield b"late"

    patient = {"grpc.http2.min_ping_interval_without_data_ms": 10, "grpc.http2.max_ping_strikes": 0}
    assert [bytes(data) for data in call(serve(answer, options=patient), keepalive_s=0.2, keepalive_timeout_s=1.2)] == [b"late"]
    with socket.create_server(("127.0.0.1", 0)) as silent:
        error = failure(call(f"127.0.0.1:{silent.getsockname()[1]}", keepalive_s=0.2, keepalive_timeout_s=0.2))
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert error.details() == "the server did not answer a ping within 0.2 s"


def cancelled_within(stream: UnaryStreamCall, begun: Callable[[], bool]) -> float:
    """Cancel from another thread once begun; how long the reader took to notice, in seconds."""
    caught: list[CallError] = []

    def read() -> None:
        with pytest.raises(CallError) as error:
            list(stream)
        caught.append(error.value)

    reader = threading.Thread(target=read)
    reader.start()
    while not begun():
        time.sleep(0.01)
    began = time.monotonic()
    stream.cancel()
    reader.join(10)
    assert [error.code() for error in caught] == [grpc.StatusCode.CANCELLED]
    return time.monotonic() - began


def test_cancel_wakes_the_reader_and_ends_the_call_on_the_server(serve):
    ended, begun = threading.Event(), threading.Event()

    def answer(request: bytes, context: Any) -> Iterator[bytes]:
        context.add_callback(ended.set)
        yield b"first"
        begun.set()
        ended.wait(10)

    assert cancelled_within(call(serve(answer)), begun.is_set) < 5
    assert ended.wait(5)


def test_cancel_wakes_a_reader_that_connects_or_asks_for_a_name(monkeypatch):
    asked, answer = threading.Event(), threading.Event()

    def never(*_: Any, **how: Any) -> list[Any]:
        if how.get("flags"):
            raise socket.gaierror("not a number")
        asked.set()
        answer.wait(10)
        return []

    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        waiting = [socket.socket() for _ in range(4)]
        try:
            for each in waiting:  # fill the backlog, so that the next one is not answered
                each.setblocking(False)
                each.connect_ex(full.getsockname())
            stream = call(f"127.0.0.1:{full.getsockname()[1]}")
            assert cancelled_within(stream, lambda: stream._dial._sockets and not time.sleep(0.2)) < 3
        finally:
            for each in waiting:
                each.close()
    monkeypatch.setattr(socket, "getaddrinfo", never)
    assert cancelled_within(call("some.host:1"), asked.is_set) < 5
    answer.set()


def test_a_call_that_was_cancelled_before_it_began_does_not_begin(serve):
    asked = []
    stream = call(serve(lambda request, context: iter(asked.append(1) or ())))
    stream.cancel()
    assert failure(stream).code() is grpc.StatusCode.CANCELLED
    assert not asked


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("127.0.0.1:1", "Connection refused"),
        ("unix:/nowhere/at/all.sock", "No such file"),
        ("no.such.host.invalid:80", "no.such.host.invalid"),
    ],
)
def test_nobody_there(address, says):
    error = failure(call(address))
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert says in error.details()


def test_calls_that_are_left_leave_no_socket(serve, open_sockets):
    address = serve(lambda request, context: (b"part" for _ in range(10**6)))
    for _ in range(3):
        stream = call(address)
        next(stream)
        stream.close()
    before = open_sockets()
    for k in range(40):
        stream = call(address)
        next(stream)
        if k % 2:
            stream.close()
        else:
            stream.cancel()
            failure(stream)
    end = time.monotonic() + 30
    while open_sockets() > before and time.monotonic() < end:
        time.sleep(0.05)  # the server's ends are in this process too
    assert open_sockets() <= before


FORKING = """
import os, sys
import augclient
from augclient.wire.address import parse_address
from augclient.wire.unary_stream import UnaryStreamCall
from augclient.wire.v1 import augserver_pb2 as pb

request = pb.StreamBatchesRequest(patch=(30, 50, 70), batch_size=4, steps=200, image_dtype=pb.FLOAT32).SerializeToString()
how = {"tls": None, "tls_name": None, "keepalive_s": 10.0, "keepalive_timeout_s": 10.0, "limit_bytes": 1 << 25}
stream = UnaryStreamCall("/augserver.v1.AugServer/StreamBatches", request, (), address=parse_address(sys.argv[1]), **how)
sizes = [len(next(stream))]
child = os.fork()
if child == 0:
    os._exit(0)  # with its copies of all descriptors
assert os.waitpid(child, 0)[1] == 0
sizes += [len(part) for part in stream]
print(sum(sizes))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_that_ends_takes_nothing_along(server_process):
    """In a process of its own: a gRPC server in the one that forks does not always survive it."""
    program = [sys.executable, "-P", "-c", FORKING, server_process.address]
    out = subprocess.run(program, capture_output=True, text=True, timeout=60, check=True)
    assert int(out.stdout) > 200 * 4 * 30 * 50 * 70 * (2 * 4 + 1)  # two channels of float32, and a label


class TestTls:
    """Certificates by trustme; the server is gRPC's."""

    @pytest.fixture
    def authority(self) -> trustme.CA:
        return trustme.CA()

    @pytest.fixture
    def address(self, serve, authority) -> str:
        cert = authority.issue_cert("127.0.0.1", "toy.example")
        pair = cert.private_key_pem.bytes(), b"".join(each.bytes() for each in cert.cert_chain_pems)
        return serve(lambda request, context: (message(300_000, k) for k in range(5)), credentials=grpc.ssl_server_credentials([pair]))

    def context(self, authority: trustme.CA, *protocols: str) -> ssl.SSLContext:
        made = ssl.create_default_context()
        authority.configure_trust(made)
        made.set_alpn_protocols(protocols or ["h2"])
        return made

    @pytest.mark.parametrize("name", [None, "toy.example"])
    def test_bytes_are_the_same(self, address, authority, name):
        got = [bytes(data) for data in call(address, tls=self.context(authority), tls_name=name)]
        assert got == [message(300_000, k) for k in range(5)]

    def test_another_authority_or_name_is_refused(self, address, authority):
        for error in (
            failure(call(address, tls=self.context(trustme.CA()))),
            failure(call(address, tls=self.context(authority), tls_name="other.example")),
        ):
            assert error.code() is grpc.StatusCode.UNAVAILABLE
            assert "failed to connect" in error.details()

    def test_plain_text_to_tls_and_tls_to_plain_text_fail(self, serve, address, authority):
        plain = serve(lambda request, context: iter([b"part"]))
        assert failure(call(address)).code() is grpc.StatusCode.UNAVAILABLE
        assert failure(call(plain, tls=self.context(authority))).code() is grpc.StatusCode.UNAVAILABLE

    def test_a_waiting_reader_answers_pings_here_too(self, serve, authority):
        cert = authority.issue_cert("127.0.0.1")
        pair = cert.private_key_pem.bytes(), b"".join(each.bytes() for each in cert.cert_chain_pems)
        asks = {"grpc.keepalive_time_ms": 300, "grpc.keepalive_timeout_ms": 1500, "grpc.http2.ping_timeout_ms": 1500}
        address = serve(
            lambda request, context: (message(1 << 20, k) for k in range(40)),
            options=asks,
            credentials=grpc.ssl_server_credentials([pair]),
        )
        stream = call(address, tls=self.context(authority))
        next(stream)
        end = time.monotonic() + 3.5
        while time.monotonic() < end:
            stream.stay_alive()
            time.sleep(0.05)
        assert sum(1 for _ in stream) == 39


def test_what_is_no_grpc_server_is_named():
    with http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler) as web:
        threading.Thread(target=web.serve_forever, daemon=True).start()
        error = failure(call(f"127.0.0.1:{web.server_port}"))
        web.shutdown()
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert error.details() == "what answers there does not speak HTTP/2, and so no gRPC"


class TestTlsFiles:
    """What connect() says of PEM files, before it opens anything."""

    @pytest.fixture
    def files(self, tmp_path) -> dict[str, str]:
        cert = trustme.CA().issue_cert("127.0.0.1")
        cert.private_key_pem.write_to_path(tmp_path / "key.pem")
        cert.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
        trustme.CA().issue_cert("127.0.0.1").private_key_pem.write_to_path(tmp_path / "other.pem")
        (tmp_path / "text.pem").write_text("hello")
        key, locked = str(tmp_path / "key.pem"), str(tmp_path / "locked.pem")
        subprocess.run(["openssl", "ec", "-aes128", "-passout", "pass:secret", "-in", key, "-out", locked], check=True, capture_output=True)
        return {path.stem: str(path) for path in tmp_path.glob("*.pem")}

    @pytest.mark.parametrize(
        "use", [{"ca": "text"}, {"cert": "cert", "key": "other"}, {"cert": "text", "key": "key"}, {"cert": "cert", "key": "locked"}]
    )
    def test_one_that_is_no_pem_or_does_not_fit_is_a_config_error(self, files, use):
        with pytest.raises(errors.ConfigError, match="tls: "):
            augclient.connect("127.0.0.1:1", tls=TlsConfig(**{name: files[each] for name, each in use.items()}))

    def test_one_that_is_not_there_is_named(self, files):
        with pytest.raises(errors.NotFoundError, match=r"the key file '/nowhere/key\.pem' cannot be read"):
            augclient.connect("127.0.0.1:1", tls=TlsConfig(cert=files["cert"], key="/nowhere/key.pem"))
