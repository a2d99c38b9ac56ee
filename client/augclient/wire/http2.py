"""One HTTP/2 connection for one request, whose answer goes from the socket straight into the caller's memory.

    kernel --recv_into--> the caller's buffer                       body: each byte is copied once, without the interpreter's lock
    kernel --recv_into--> a buffer --> the caller's                 body in small frames, as a proxy cuts it: many frames at a time
    kernel --> hyperframe, hpack --> settings, pings, headers       everything else: small, rare, and left to those libraries

Libraries for HTTP/2 hand out bodies as new bytes objects of a few kilobytes, and grpcio joins those of a message and copies the sum twice
more; a stream of volumes spends most of its time there. This one only reads: a small request goes out, a long answer comes in.
"""

from __future__ import annotations

import selectors
import socket
import struct
import time
from collections import deque
from collections.abc import Sequence

from hpack import Decoder, Encoder, HPACKError, NeverIndexedHeaderTuple
from hyperframe.exceptions import HyperframeError
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

WINDOW_BYTES = 8 << 20  # what may be on its way: 10 Gbit/s over 6 ms; kept here while nobody reads
MAX_FRAME_BYTES = (1 << 24) - 1  # as large as HTTP/2 allows: one frame per part
MAX_CONTROL_BYTES = 1 << 18  # of a frame that is no body, and of all headers together

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_STREAM = 1
_HEADER_BYTES = 9
_SENT_FRAME_BYTES = 1 << 14  # what every peer takes
_INITIAL_WINDOW = (1 << 16) - 1
_NO_ERROR = 0
_ASIDE_S = 0.05
_SMALL_FRAME_BYTES = 1 << 15  # frames of the body below this are read many at a time: nginx sends 4 KiB
_AHEAD_BYTES = 1 << 18  # of them
_HEAD = struct.Struct(">BHBBL")  # length in three bytes, type, flags, stream
_DATA = 0
_END_STREAM = 0x1
_PADDED = 0x8
_Selector = getattr(selectors, "PollSelector", selectors.SelectSelector)  # neither takes a descriptor

Headers = dict[str, str]


class Http2Error(Exception):
    """The peer is gone, silent, or does not speak HTTP/2; a text for people."""


class StreamResetError(Http2Error):
    """The peer broke the answer off.

    Attributes:
        code: of RFC 9113, section 7.
    """

    def __init__(self, code: int) -> None:
        super().__init__(f"the server broke the call off (HTTP/2 error code {code})")
        self.code = code


class Http2Stream:
    """A request and its answer. For one thread, which may be woken from another by the socket's shutdown().

    Args:
        connection: connected, and used by nobody else; closed by the caller. Its timeout is set here.
        keepalive_s: a peer that sends nothing for so long while it is read is asked whether it lives.
        keepalive_timeout_s: how long it may take to answer.

    Attributes:
        headers: of the answer; None before they came.
        trailers: those after the body; where there is no body, those of the answer. None before they came.
    """

    def __init__(self, connection: socket.socket, *, keepalive_s: float, keepalive_timeout_s: float) -> None:
        self.headers: Headers | None = None
        self.trailers: Headers | None = None
        self._socket = connection
        self._keepalive_s = keepalive_s
        self._keepalive_timeout_s = keepalive_timeout_s
        self._awaits_pong = False
        self._decoder = Decoder(max_header_list_size=MAX_CONTROL_BYTES)
        self._block = bytearray()  # of headers that go on in the next frame
        self._block_ends = False
        self._greeted = False
        self._goodbye = ""
        self._left = 0  # bytes of the body that follow in the socket before the next frame
        self._kept: deque[memoryview] = deque()  # bytes of the body that came while nobody read
        self._kept_bytes = 0
        self._ended = False
        self._small = False  # whether the last frame of the body was
        self._ahead = memoryview(b"")  # buffer for what is read beyond the frame that is due ...
        self._ahead_at = self._ahead_end = 0  # ... and where its bytes lie
        self._unacknowledged = 0
        self._window = self._stream_window = self._initial_window = _INITIAL_WINDOW  # for what is sent
        connection.settimeout(keepalive_s)

    def send(self, headers: Sequence[tuple[str, str]], body: bytes) -> None:
        """Send the whole request; raises as `read_into`, as the peer's answers are read where it makes this wait."""
        settings = {
            SettingsFrame.ENABLE_PUSH: 0,
            SettingsFrame.INITIAL_WINDOW_SIZE: WINDOW_BYTES,
            SettingsFrame.MAX_FRAME_SIZE: MAX_FRAME_BYTES,
            SettingsFrame.MAX_HEADER_LIST_SIZE: MAX_CONTROL_BYTES,
        }
        block = Encoder().encode([NeverIndexedHeaderTuple(*each) if each[0] == "authorization" else each for each in headers])
        if len(block) > _SENT_FRAME_BYTES:
            raise Http2Error(f"the metadata of the call takes {len(block)} bytes; allowed are {_SENT_FRAME_BYTES}")
        frames = (
            SettingsFrame(settings=settings),
            WindowUpdateFrame(0, WINDOW_BYTES - _INITIAL_WINDOW),
            HeadersFrame(_STREAM, block, flags=["END_HEADERS"]),
        )
        self._send_bytes(_PREFACE + b"".join(frame.serialize() for frame in frames))
        at = 0
        while at < len(body) and not self._ended:  # an answer may come, and end, before the request was read
            room = min(self._window, self._stream_window, _SENT_FRAME_BYTES)
            if room <= 0:
                self._read_ahead()
                continue
            piece = body[at : at + room]
            at += len(piece)
            self._window -= len(piece)
            self._stream_window -= len(piece)
            self._send(DataFrame(_STREAM, piece, flags=["END_STREAM"] if at == len(body) else []))

    def read_into(self, view: memoryview) -> int:
        """Fill `view` with the next bytes of the body.

        Returns:
            How many came: fewer than were asked for only where the body ended.
        Raises:
            Http2Error: the peer is gone, silent, does not speak HTTP/2, or broke the answer off.
        """
        at, size = 0, len(view)
        while at < size:
            if self._kept:
                piece = self._kept.popleft()
                count = min(len(piece), size - at)
                view[at : at + count] = piece[:count]
                if count < len(piece):
                    self._kept.appendleft(piece[count:])
                self._kept_bytes -= count
                at += count
                self._acknowledge(count)
            elif self._left:
                count = self._receive(view[at : at + self._left])
                self._left -= count
                at += count
                self._acknowledge(count)
            elif self._ended:
                break
            else:
                self._read_frame()
        return at

    def stay_alive(self) -> None:
        """Answer the peer's pings while nothing is read, or it would count this client as dead; raises as `read_into`.

        Body bytes that arrive meanwhile are buffered, at most WINDOW_BYTES, because no window update is sent. It takes no longer than
        _ASIDE_S, as the peer may send small frames as fast as they are read.
        """
        until = time.monotonic() + _ASIDE_S
        while not self._ended and time.monotonic() < until and self._has_input():
            self._read_ahead()

    def _read_ahead(self) -> None:
        """Read the next frame, or the body of the one that was begun, and buffer what is body until somebody asks for it."""
        if not self._left:
            self._read_frame()
            return
        self._keep(self._read_exactly(self._left))
        self._left = 0
        if self._kept_bytes > WINDOW_BYTES:
            raise Http2Error(f"the server sent more than {WINDOW_BYTES} bytes before it was told to go on")

    def _read_frame(self) -> None:
        """Read the next frame; if it is one of the body, only its head, unless it is padded."""
        head = self._read_exactly(_HEADER_BYTES)
        high, low, kind, flags, stream = _HEAD.unpack(head)
        if kind == _DATA and self._greeted and not flags & _PADDED:  # nearly all frames: no object is made of them
            self._check_stream(stream & 0x7FFFFFFF)
            self._left = high << 16 | low
            self._small = self._left < _SMALL_FRAME_BYTES
            self._ended = bool(flags & _END_STREAM)
            return
        try:
            frame, size = Frame.parse_frame_header(memoryview(head))
            if not self._greeted and not isinstance(frame, SettingsFrame):
                raise Http2Error("what answers there does not speak HTTP/2, and so no gRPC")
            if size > MAX_CONTROL_BYTES and not isinstance(frame, DataFrame):
                raise Http2Error(f"the server sent {size} bytes as {type(frame).__name__}; allowed are {MAX_CONTROL_BYTES}")
            frame.parse_body(memoryview(self._read_exactly(size)))
            self._heed(frame)
        except (HyperframeError, HPACKError) as error:
            raise Http2Error(f"the server sent what is not HTTP/2: {error or type(error).__name__}") from error

    def _heed(self, frame: Frame) -> None:
        if isinstance(frame, DataFrame):
            self._check_stream(frame.stream_id)
            self._keep(frame.data)
            self._unacknowledged += frame.flow_controlled_length - len(frame.data)
            self._ended = "END_STREAM" in frame.flags
        elif isinstance(frame, SettingsFrame):
            self._greeted = True
            if "ACK" not in frame.flags:
                initial = frame.settings.get(SettingsFrame.INITIAL_WINDOW_SIZE, self._initial_window)
                self._stream_window += initial - self._initial_window
                self._initial_window = initial
                self._send(SettingsFrame(flags=["ACK"]))
        elif isinstance(frame, PingFrame):
            if "ACK" not in frame.flags:
                self._send(PingFrame(opaque_data=frame.opaque_data, flags=["ACK"]))
        elif isinstance(frame, WindowUpdateFrame):
            if frame.stream_id:
                self._stream_window += frame.window_increment
            else:
                self._window += frame.window_increment
        elif isinstance(frame, HeadersFrame | ContinuationFrame):
            self._check_stream(frame.stream_id)
            if isinstance(frame, HeadersFrame):
                self._block.clear()
                self._block_ends = "END_STREAM" in frame.flags
            self._block += frame.data
            if len(self._block) > MAX_CONTROL_BYTES:
                raise Http2Error(f"the server sent headers of more than {MAX_CONTROL_BYTES} bytes")
            if "END_HEADERS" in frame.flags:
                self._take_headers({_text(name): _text(value) for name, value in self._decoder.decode(bytes(self._block))})
        elif isinstance(frame, RstStreamFrame):
            if not (self._ended and frame.error_code == _NO_ERROR):
                raise StreamResetError(frame.error_code)
        elif isinstance(frame, GoAwayFrame):
            self._goodbye = f"; it had said: {_text(frame.additional_data) or f'HTTP/2 error code {frame.error_code}'}"
            if frame.last_stream_id < _STREAM:
                raise Http2Error(f"the server takes no calls{self._goodbye}")

    def _keep(self, data: bytes | bytearray) -> None:
        self._kept.append(memoryview(data))
        self._kept_bytes += len(data)

    def _take_headers(self, headers: Headers) -> None:
        if headers.get(":status", "").startswith("1"):  # of an answer that is still to come
            return
        if self.headers is None:
            self.headers = headers
        if self._block_ends:
            self.trailers = headers
            self._ended = True

    def _check_stream(self, stream: int) -> None:
        if stream != _STREAM:
            raise Http2Error(f"the server answered a request that was not made (HTTP/2 stream {stream})")

    def _acknowledge(self, size: int) -> None:
        """Let the peer send as much again as was read; a quarter of the window at a time."""
        self._unacknowledged += size
        if self._unacknowledged >= WINDOW_BYTES // 4 and not self._ended:
            self._send(WindowUpdateFrame(0, self._unacknowledged), WindowUpdateFrame(_STREAM, self._unacknowledged))
            self._unacknowledged = 0

    def _read_exactly(self, size: int) -> bytearray:
        data = bytearray(size)
        view = memoryview(data)
        while len(view):
            view = view[self._receive(view) :]
        return data

    def _receive(self, view: memoryview) -> int:
        """At least one byte: straight into `view`, or through a buffer while the peer sends small frames, as each call costs some time."""
        if self._ahead_at == self._ahead_end:
            if not self._small or len(view) >= _SMALL_FRAME_BYTES:
                return self._receive_some(view)
            if not self._ahead:
                self._ahead = memoryview(bytearray(_AHEAD_BYTES))
            self._ahead_at, self._ahead_end = 0, self._receive_some(self._ahead)
        count = min(len(view), self._ahead_end - self._ahead_at)
        view[:count] = self._ahead[self._ahead_at : self._ahead_at + count]
        self._ahead_at += count
        return count

    def _receive_some(self, view: memoryview) -> int:
        """At least one byte from the socket; a peer that is silent is asked once whether it lives."""
        while True:
            try:
                count = self._socket.recv_into(view)
            except TimeoutError:
                if self._awaits_pong:
                    raise Http2Error(f"the server did not answer a ping within {self._keepalive_timeout_s:g} s") from None
                self._send(PingFrame(opaque_data=struct.pack(">Q", 0)))
                self._awaits_pong = True
                self._socket.settimeout(self._keepalive_timeout_s)
                continue
            except OSError as error:
                raise Http2Error(f"the connection broke: {error.strerror or error}{self._goodbye}") from error
            if not count:
                raise Http2Error(f"the server closed the connection{self._goodbye}")
            if self._awaits_pong:
                self._awaits_pong = False
                self._socket.settimeout(self._keepalive_s)
            return count

    def _has_input(self) -> bool:
        if self._ahead_at < self._ahead_end or getattr(self._socket, "pending", int)():  # read or decrypted already
            return True
        with _Selector() as selector:
            selector.register(self._socket, selectors.EVENT_READ)
            return bool(selector.select(0))

    def _send(self, *frames: Frame) -> None:
        self._send_bytes(b"".join(frame.serialize() for frame in frames))

    def _send_bytes(self, data: bytes) -> None:
        try:
            self._socket.sendall(data)
        except OSError as error:
            raise Http2Error(f"the connection broke: {error.strerror or error}{self._goodbye}") from error


def _text(data: bytes | str) -> str:
    return data if isinstance(data, str) else data.decode("utf-8", "replace")
