"""Channels to the servers of a fleet, opened when they are first needed, closed together."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import grpc

from augclient.channel import call_metadata, check_token_is_safe, open_channel
from augclient.errors import ConfigError, StateError
from augclient.fleet.seeds import Seeds
from augclient.tls_files import TlsConfig, TlsFiles, TlsMaterial
from augclient.tracing import trace_context
from augclient.wire.address import Address, parse_address
from augclient.wire.grpcio_call import GrpcioCall
from augclient.wire.methods import KEEPALIVE_TIME_S, KEEPALIVE_TIMEOUT_S, MAX_MESSAGE_BYTES, Metadata, ServiceCalls, StreamCall
from augclient.wire.unary_stream import UnaryStreamCall
from augclient.wire.v1 import augserver_pb2 as pb

RECEIVERS = ("auto", "own", "grpcio")


@dataclass(frozen=True, slots=True, eq=False)
class _Connection:
    channel: grpc.Channel
    tls: TlsMaterial | None
    calls: ServiceCalls


class Connections:
    """One channel per address; thread-safe.

    Args:
        seeds: knows whose certificate a resolved address must show.
        token, tls, receiver: as for connect().
    """

    def __init__(self, seeds: Seeds, *, token: str | None, tls: TlsConfig | bool | None, receiver: str) -> None:
        if receiver not in RECEIVERS:
            raise ConfigError(f"receiver: got {receiver!r}; allowed: {', '.join(RECEIVERS)}")
        self._seeds = seeds
        self._token = token
        self._tls = TlsFiles(tls)
        self._by_grpcio = receiver == "grpcio"
        self._metadata = call_metadata(token)
        self._lock = threading.Lock()
        self._open: dict[str, _Connection] = {}
        # every channel and call that somebody still uses; those of a server that was dropped end by themselves
        self._channels: weakref.WeakSet[grpc.Channel] = weakref.WeakSet()
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
            tls = self._tls.read()
            known = self._open.get(address)
            if known is None or known.tls is not tls:  # new, or its certificates were renewed
                known = self._open[address] = self._connect(address, tls)
            return known.calls

    def keep(self, addresses: Iterable[str]) -> None:
        """Forget all other servers; calls that are under way go on."""
        with self._lock:
            for gone in self._open.keys() - set(addresses):
                del self._open[gone]

    def ask_dataset(self, address: str, timeout_s: float) -> Any:
        """Begin a GetDataset; a future of its answer, which can be cancelled."""
        return self.calls(address).get_dataset.future(pb.GetDatasetRequest(), metadata=self.metadata, timeout=timeout_s)

    def close(self) -> None:
        """Close all channels, which ends their calls; twice is fine."""
        with self._lock:
            self._closed = True
            self._open.clear()
            channels, streams = list(self._channels), list(self._streams)
        for stream in streams:
            stream.cancel()
        for channel in channels:
            channel.close()

    def _connect(self, address: str, tls: TlsMaterial | None) -> _Connection:
        parsed = parse_address(address)
        check_token_is_safe(address, parsed, token=self._token, encrypted=tls is not None)
        tls_name = self._tls.server_name or self._seeds.tls_name(address)
        channel = open_channel(parsed, tls, tls_name)
        self._channels.add(channel)
        open_stream = partial(_open_by_grpcio, channel) if self._by_grpcio else partial(self._open_stream, parsed, tls_name)
        return _Connection(channel, tls, ServiceCalls(channel, open_stream))

    def _open_stream(self, address: Address, tls_name: str | None, method: str, request: bytes, metadata: Metadata) -> StreamCall:
        tls = self._tls.read()
        call = UnaryStreamCall(
            method,
            request,
            metadata,
            address=address,
            tls=None if tls is None else tls.context,
            tls_name=tls_name,
            keepalive_s=KEEPALIVE_TIME_S,
            keepalive_timeout_s=KEEPALIVE_TIMEOUT_S,
            limit_bytes=MAX_MESSAGE_BYTES,
        )
        with self._lock:
            self._streams.add(call)
            if self._closed:
                call.cancel()
        return call


def _open_by_grpcio(channel: grpc.Channel, method: str, request: bytes, metadata: Metadata) -> StreamCall:
    return GrpcioCall(channel.unary_stream(method, None, None)(request, metadata=metadata))
