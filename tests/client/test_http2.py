"""Frames that gRPC's own server never sends, from one made with the library h2; and what no server should send."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Callable
from contextlib import suppress

import grpc
import h2.config
import h2.connection
import h2.events
import pytest
from augclient.channel import open_channel
from augclient.wire.address import parse_address
from augclient.wire.status import CallError
from augclient.wire.unary_stream import UnaryStreamCall
from hyperframe.frame import ContinuationFrame, DataFrame, ExtensionFrame, GoAwayFrame, HeadersFrame, PushPromiseFrame, RstStreamFrame
from hypothesis import given, settings
from hypothesis import strategies as st

HEADERS = [(":status", "200"), ("content-type", "application/grpc+proto")]
OK = [("grpc-status", "0")]

Script = Callable[[socket.socket, h2.connection.H2Connection], None]


class Peer:
    """Accepts one connection, reads the request to its end with h2, and hands over to `script`; without one it sends `raw` at once."""

    def __init__(self, script: Script | None, *, raw: bytes = b"") -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._script, self._raw = script, raw
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join(10)
        self._listener.close()
        assert not self._thread.is_alive()

    def _run(self) -> None:
        link, _ = self._listener.accept()
        with link, suppress(OSError):  # a client that has had enough closes
            link.settimeout(10)
            if self._script is None:
                link.sendall(self._raw)
                link.shutdown(socket.SHUT_WR)
                while link.recv(1 << 16):
                    pass
                return
            protocol = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding="utf-8"))
            protocol.initiate_connection()
            link.sendall(protocol.data_to_send())
            while not any(isinstance(event, h2.events.StreamEnded) for event in self._events(link, protocol)):
                pass
            self._script(link, protocol)
            link.sendall(protocol.data_to_send())
            link.shutdown(socket.SHUT_WR)
            while link.recv(1 << 16):
                pass

    def _events(self, link: socket.socket, protocol: h2.connection.H2Connection) -> list[h2.events.Event]:
        events = protocol.receive_data(link.recv(1 << 16))
        for each in events:
            if isinstance(each, h2.events.DataReceived):
                protocol.acknowledge_received_data(each.flow_controlled_length, each.stream_id)
        link.sendall(protocol.data_to_send())
        return events


def call(peer: Peer, request: bytes = b"") -> UnaryStreamCall:
    how = {"tls": None, "tls_name": None, "keepalive_s": 5.0, "keepalive_timeout_s": 5.0, "limit_bytes": 1 << 22}
    return UnaryStreamCall("/toy.Toy/Send", request, (), address=parse_address(peer.address), **how)


def received(script: Script | None, *, raw: bytes = b"", request: bytes = b"") -> list[bytes]:
    with Peer(script, raw=raw) as peer:
        return [bytes(data) for data in call(peer, request)]


def refused(script: Script | None, *, raw: bytes = b"") -> CallError:
    with pytest.raises(CallError) as caught:
        received(script, raw=raw)
    return caught.value


def framed(*messages: bytes) -> bytes:
    return b"".join(b"\0" + struct.pack(">I", len(each)) + each for each in messages)


def scripted(*frames: bytes | Callable[[h2.connection.H2Connection], None]) -> Script:
    """Sends bytes as they are, and lets calls send through h2."""

    def script(link: socket.socket, protocol: h2.connection.H2Connection) -> None:
        for each in frames:
            if callable(each):
                each(protocol)
                link.sendall(protocol.data_to_send())
            else:
                link.sendall(each)

    return script


def begin(protocol: h2.connection.H2Connection) -> None:
    protocol.send_headers(1, HEADERS)


def end(protocol: h2.connection.H2Connection) -> None:
    protocol.send_headers(1, OK, end_stream=True)


@given(
    messages=st.lists(st.binary(max_size=300), max_size=6),
    cuts=st.lists(st.tuples(st.integers(1, 90), st.one_of(st.none(), st.integers(0, 255))), min_size=1, max_size=40),
    pings=st.integers(0, 3),
)
@settings(max_examples=60, deadline=None)
def test_messages_survive_every_cut_into_frames_with_and_without_padding(
    messages: list[bytes], cuts: list[tuple[int, int | None]], pings: int
) -> None:
    def script(link: socket.socket, protocol: h2.connection.H2Connection) -> None:
        begin(protocol)
        body, k = framed(*messages), 0
        while body:
            size, padding = cuts[k % len(cuts)]
            protocol.send_data(1, body[:size], pad_length=padding)
            body, k = body[size:], k + 1
            if k <= pings:
                protocol.ping(b"are you?")
        end(protocol)

    assert received(script) == messages


def test_padding_counts_against_the_window_and_is_given_back():
    frames = 40_000  # of 1 + 256 bytes each: more than the window of 8 MiB

    def script(link: socket.socket, protocol: h2.connection.H2Connection) -> None:
        begin(protocol)
        link.sendall(protocol.data_to_send())
        for at in range(frames):
            data = framed(b"x" * (frames - 5))[at : at + 1]
            while protocol.local_flow_control_window(1) < 300:
                protocol.receive_data(link.recv(1 << 16))
            protocol.send_data(1, data, pad_length=255)
            if at % 500 == 0:
                link.sendall(protocol.data_to_send())
        end(protocol)

    assert received(script) == [b"x" * (frames - 5)]


def test_a_waiting_call_reads_aside_for_a_moment_only():
    messages = [b"x" * 20] * 100_000

    def script(link: socket.socket, protocol: h2.connection.H2Connection) -> None:
        begin(protocol)
        link.sendall(protocol.data_to_send())
        link.sendall(DataFrame(1, framed(messages[0])).serialize() * len(messages))
        end(protocol)

    with Peer(script) as peer:
        stream = call(peer)
        assert bytes(next(stream)) == messages[0]
        began = time.monotonic()
        stream.stay_alive()
        assert time.monotonic() - began < 1  # all of them take several seconds
        assert sum(1 for _ in stream) == len(messages) - 1


def test_headers_in_several_frames_and_those_of_an_answer_to_come_are_read():
    def script(link: socket.socket, protocol: h2.connection.H2Connection) -> None:
        protocol.send_headers(1, [(":status", "103"), ("link", "</x>")])
        block = protocol.encoder.encode([*HEADERS, ("filler", "y" * 3000)])
        link.sendall(protocol.data_to_send())
        frames = HeadersFrame(1, block[:50]), ContinuationFrame(1, block[50:90]), ContinuationFrame(1, block[90:], flags=["END_HEADERS"])
        link.sendall(b"".join(frame.serialize() for frame in frames) + DataFrame(1, framed(b"part")).serialize())
        link.sendall(HeadersFrame(1, protocol.encoder.encode(OK), flags=["END_HEADERS", "END_STREAM"]).serialize())

    assert received(script) == [b"part"]


def test_frames_of_kinds_that_nobody_knows_yet_are_passed_over():
    unknown = ExtensionFrame(type=0xBE, stream_id=0, body=b"later")
    unknown.body_len = 5
    assert received(scripted(begin, unknown.serialize(), lambda it: it.send_data(1, framed(b"part")), end)) == [b"part"]


@pytest.mark.parametrize("request_bytes", [0, 1, 16_379, 70_000, 900_000])
def test_a_request_arrives_whole_within_the_peers_window(request_bytes):
    request, seen = bytes(range(256)) * (request_bytes // 256 + 1), []

    class Watched(Peer):
        def _events(self, link: socket.socket, protocol: h2.connection.H2Connection) -> list[h2.events.Event]:
            events = super()._events(link, protocol)
            seen.extend(each.data for each in events if isinstance(each, h2.events.DataReceived))
            return events

    with Watched(scripted(begin, lambda it: it.send_data(1, framed(b"ok")), end)) as peer:
        assert [bytes(data) for data in call(peer, request[:request_bytes])] == [b"ok"]
    assert b"".join(seen) == framed(request[:request_bytes])  # h2 itself refuses what exceeds its window


@pytest.mark.parametrize("who", ["own", "grpcio"])
@pytest.mark.parametrize("form", ["{}", "ipv4:{}"])
def test_the_authority_of_a_call_carries_no_scheme(form, who):
    seen = []

    class Asked(Peer):
        def _events(self, link: socket.socket, protocol: h2.connection.H2Connection) -> list[h2.events.Event]:
            events = super()._events(link, protocol)
            seen.extend(dict(each.headers)[":authority"] for each in events if isinstance(each, h2.events.RequestReceived))
            return events

    with Asked(scripted(begin, end)) as peer:
        address = parse_address(form.format(peer.address))
        how = {"tls": None, "tls_name": None, "keepalive_s": 5.0, "keepalive_timeout_s": 5.0, "limit_bytes": 1 << 22}
        if who == "own":
            assert list(UnaryStreamCall("/toy.Toy/Send", b"", (), address=address, **how)) == []
        else:
            with open_channel(address, None, None) as channel:
                assert list(channel.unary_stream("/toy.Toy/Send", None, None)(b"")) == []
    assert seen == [peer.address]


@pytest.mark.parametrize("padding", [None, 7])
def test_an_answer_to_half_a_request_is_read(padding):
    """As a proxy refuses a request that is too large: it grants no window for the rest, and sends a page."""

    class Early(Peer):
        def _events(self, link: socket.socket, protocol: h2.connection.H2Connection) -> list[h2.events.Event]:
            data = link.recv(1 << 16)
            if not data:
                raise OSError("the client has left")
            events = protocol.receive_data(data)
            if any(isinstance(each, h2.events.DataReceived) for each in events) and not self.answered:
                self.answered = True
                protocol.send_headers(1, [(":status", "413"), ("content-type", "text/html")])
                for _ in range(30):
                    protocol.send_data(1, b"<p>too large</p>" * 9, pad_length=padding)
                protocol.end_stream(1)
            link.sendall(protocol.data_to_send())
            return events

        answered = False

    with Early(lambda link, protocol: None) as peer, pytest.raises(CallError, match="HTTP status 413"):
        next(call(peer, b"r" * 200_000))


@pytest.mark.parametrize(
    ("reset", "code"),
    [
        (0, grpc.StatusCode.INTERNAL),
        (2, grpc.StatusCode.INTERNAL),
        (7, grpc.StatusCode.UNAVAILABLE),
        (8, grpc.StatusCode.CANCELLED),
        (11, grpc.StatusCode.RESOURCE_EXHAUSTED),
        (12, grpc.StatusCode.PERMISSION_DENIED),
    ],
)
def test_a_call_that_is_broken_off_has_the_status_that_grpc_gives_it(reset, code):
    assert refused(scripted(begin, RstStreamFrame(1, reset).serialize())).code() is code


def test_a_reset_behind_the_end_is_no_error():
    assert received(scripted(begin, end, RstStreamFrame(1, 0).serialize())) == []


def test_a_server_that_says_goodbye_is_quoted():
    goodbye = GoAwayFrame(0, last_stream_id=1, error_code=11, additional_data=b"too_many_pings").serialize()
    error = refused(scripted(begin, goodbye))
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert error.details() == "the server closed the connection; it had said: too_many_pings"
    assert "takes no calls" in refused(scripted(GoAwayFrame(0, last_stream_id=0, error_code=0).serialize())).details()
    graceful = GoAwayFrame(0, last_stream_id=1, error_code=0).serialize()
    assert received(scripted(begin, graceful, lambda it: it.send_data(1, framed(b"last")), end)) == [b"last"]


@pytest.mark.parametrize(
    ("status", "kind", "code"),
    [
        ("401", "text/html", grpc.StatusCode.UNAUTHENTICATED),
        ("403", "text/html", grpc.StatusCode.PERMISSION_DENIED),
        ("404", "text/html", grpc.StatusCode.UNIMPLEMENTED),
        ("503", "text/html", grpc.StatusCode.UNAVAILABLE),
        ("500", "text/html", grpc.StatusCode.UNKNOWN),
        ("200", "text/html", grpc.StatusCode.UNKNOWN),
    ],
)
def test_an_answer_of_a_proxy_is_named(status, kind, code):
    error = refused(scripted(lambda it: it.send_headers(1, [(":status", status), ("content-type", kind)], end_stream=True)))
    assert error.code() is code
    assert f"HTTP status {status}" in error.details()


@pytest.mark.parametrize(
    ("script", "says"),
    [
        (scripted(begin, lambda it: it.send_data(1, framed(b"part")[:-1]), end), "within a message"),
        (scripted(begin, lambda it: it.send_data(1, b"\0\0\0"), end), "within a message"),
        (scripted(begin, lambda it: it.send_data(1, b"\1" + framed(b"part")[1:]), end), "compressed"),
        (scripted(begin, lambda it: it.send_data(1, framed(b"part"), end_stream=True)), "without a status"),
        (scripted(begin, lambda it: it.send_headers(1, [("grpc-status", "many")], end_stream=True)), "without a status"),
        (scripted(begin, DataFrame(3, b"x").serialize()), "a request that was not made"),
        (scripted(begin, DataFrame(1, b"x" * 300, pad_length=200, flags=["PADDED"]).serialize()[:12]), "closed the connection"),
        (scripted(begin, HeadersFrame(1, b"\xff\xff\xff\xff", flags=["END_HEADERS"]).serialize()), "not HTTP/2"),
        (
            scripted(begin, *(HeadersFrame(1, b"z" * 16000).serialize(), *[ContinuationFrame(1, b"z" * 16000).serialize()] * 20)),
            "headers of more",
        ),
        (scripted(begin, PushPromiseFrame(1, 2, b"", flags=["END_HEADERS"]).serialize()), "closed the connection"),
        (scripted(begin), "closed the connection"),
    ],
)
def test_what_breaks_the_protocol_is_named(script, says):
    assert says in refused(script).details()


@given(raw=st.one_of(st.binary(max_size=200), st.binary(max_size=60).map(lambda tail: b"\0\0\0\x04\0\0\0\0\0" + tail)))
@settings(max_examples=150, deadline=None)
def test_any_other_bytes_end_in_an_error_at_once(raw: bytes) -> None:
    error = refused(None, raw=raw)
    assert error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN)
    assert error.details()
