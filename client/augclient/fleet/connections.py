"""Channels to the servers of a fleet, opened when they are first needed, closed together."""

from __future__ import annotations

import ssl
import threading
import weakref
from functools import partial
from typing import Any

import grpc

from augclient.channel import TlsConfig, call_metadata, open_channel, tls_context
from augclient.errors import StateError
from augclient.fleet.seeds import Seeds
from augclient.tracing import trace_context
from augclient.wire.methods import KEEPALIVE_TIME_S, KEEPALIVE_TIMEOUT_S, MAX_MESSAGE_BYTES, Metadata, ServiceCalls
from augclient.wire.unary_stream import UnaryStreamCall
from augclient.wire.v1 import augserver_pb2 as pb


class Connections:
    """One channel per address; thread-safe.

    Args:
        seeds: knows whose certificate a resolved address must show.
        token, tls: as for connect().
    """

    def __init__(self, seeds: Seeds, *, token: str | None, tls: TlsConfig | bool | None) -> None:
        self._seeds = seeds
        self._token = token
        self._tls = tls
        self._metadata = call_metadata(token)
        self._lock = threading.Lock()
        self._channels: dict[str, tuple[grpc.Channel, ServiceCalls]] = {}
        self._context: ssl.SSLContext | None = None  # of TLS; its files are read with the first channel's
        self._streams: weakref.WeakSet[UnaryStreamCall] = weakref.WeakSet()
        self._closed = False

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What goes with a call: the token, and the trace of the thread that asks."""
        return self._metadata + trace_context()

    def calls(self, address: str) -> ServiceCalls:
        """The methods of the server at `address`; returns before it is connected. StateError after close()."""
        with self._lock:
            if self._closed:
                raise StateError(f"the connection to {address} is closed; connect() again")
            if address not in self._channels:
                self._context = self._context or tls_context(self._tls)
                channel = open_channel(address, token=self._token, tls=self._tls, tls_name=self._seeds.tls_name(address))
                self._channels[address] = channel, ServiceCalls(channel, partial(self._open_stream, address))
            return self._channels[address][1]

    def ask_dataset(self, address: str, timeout_s: float) -> Any:
        """Begin a GetDataset; a future of its answer, which can be cancelled."""
        return self.calls(address).get_dataset.future(pb.GetDatasetRequest(), metadata=self.metadata, timeout=timeout_s)

    def close(self) -> None:
        """Close all channels, which ends their calls; twice is fine."""
        with self._lock:
            self._closed = True
            channels = [channel for channel, _ in self._channels.values()]
            self._channels.clear()
            streams = list(self._streams)
        for stream in streams:
            stream.cancel()
        for channel in channels:
            channel.close()

    def _open_stream(self, address: str, method: str, request: bytes, metadata: Metadata) -> UnaryStreamCall:
        call = UnaryStreamCall(
            method,
            request,
            metadata,
            address=address,
            tls=self._context,
            tls_name=self._seeds.tls_name(address),
            keepalive_s=KEEPALIVE_TIME_S,
            keepalive_timeout_s=KEEPALIVE_TIMEOUT_S,
            limit_bytes=MAX_MESSAGE_BYTES,
        )
        with self._lock:
            self._streams.add(call)
            if self._closed:
                call.cancel()
        return call
