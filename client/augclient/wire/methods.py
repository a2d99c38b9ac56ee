"""The service's methods and the channel settings, in one place for both ends.

Messages with a payload pass as bytes (parts.py encodes and decodes them), all others through generated code. The bytes on the
wire are those of the .proto either way, so generated code of any language talks to the same methods.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, TypeAlias

import grpc
from google.protobuf.message import DecodeError

from augclient.errors import RequestError
from augclient.wire.status import abort_call
from augclient.wire.v1 import augserver_pb2 as pb

SERVICE = "augserver.v1.AugServer"

Option: TypeAlias = tuple[str, int]
Metadata: TypeAlias = Sequence[tuple[str, str]]

# A cut network is noticed after time + timeout: nothing else ends a TCP connection whose peer fell silent. The timeout is set under two
# names: gRPC 1.85 waits for the answer to a ping for a minute unless ping_timeout says less, whatever keepalive_timeout says.
KEEPALIVE_TIME_S = 20
KEEPALIVE_TIMEOUT_S = 10

MAX_REQUEST_BYTES = 1 << 20  # a request is a recipe and some numbers
MAX_MESSAGE_BYTES = (1 << 31) - 1  # gRPC's own limit: GetSample returns a whole sample in one message


def client_options() -> list[Option]:
    """Channel options of the Python client."""
    return [
        ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
        ("grpc.max_send_message_length", MAX_REQUEST_BYTES),
        ("grpc.keepalive_time_ms", KEEPALIVE_TIME_S * 1000),
        ("grpc.keepalive_timeout_ms", KEEPALIVE_TIMEOUT_S * 1000),
        ("grpc.http2.ping_timeout_ms", KEEPALIVE_TIMEOUT_S * 1000),
        ("grpc.http2.max_pings_without_data", 0),
        # an attempt may take 5 s; half a second after a failed one comes the next: gRPC's default backs off for up to two minutes
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.min_reconnect_backoff_ms", 5000),
        ("grpc.max_reconnect_backoff_ms", 500),
        # one TCP connection per channel, not one shared by all channels of the process to the same address
        ("grpc.use_local_subchannel_pool", 1),
        # volumes do not travel through a web proxy that the environment happens to name
        ("grpc.enable_http_proxy", 0),
    ]


def server_options() -> list[Option]:
    """Options of the server; they let the client's keepalive through."""
    return [
        ("grpc.max_receive_message_length", MAX_REQUEST_BYTES),
        ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
        ("grpc.keepalive_time_ms", KEEPALIVE_TIME_S * 1000),
        ("grpc.keepalive_timeout_ms", KEEPALIVE_TIMEOUT_S * 1000),
        ("grpc.http2.ping_timeout_ms", KEEPALIVE_TIMEOUT_S * 1000),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.http2.min_ping_interval_without_data_ms", KEEPALIVE_TIME_S * 1000 // 2),
        # without this a second server on the same port is no error and takes half of the calls
        ("grpc.so_reuseport", 0),
    ]


def service_handler(
    *,
    get_dataset: Callable[[pb.GetDatasetRequest, Any], pb.Dataset],
    get_volume: Callable[[pb.GetVolumeRequest, Any], Iterator[bytes]],
    stream_batches: Callable[[pb.StreamBatchesRequest, Any], Iterator[bytes]],
    get_sample: Callable[[pb.GetSampleRequest, Any], bytes],
    warp: Callable[[Iterator[bytes], Any], Iterator[bytes]],
) -> grpc.GenericRpcHandler:
    """The service as a generic handler, for `server.add_generic_rpc_handlers`.

    Args:
        get_dataset, get_volume, stream_batches, get_sample: take a request and a grpc.ServicerContext; the last three give
            encoded messages (parts.py).
        warp: takes and gives encoded messages.
    """

    def reading(kind: Any, method: Callable[[Any, Any], Any]) -> Callable[[bytes, Any], Any]:
        """`method` on a request that is parsed here: gRPC itself would answer INTERNAL to bytes that are none, and log a traceback."""

        def call(message: bytes, context: Any) -> Any:
            try:
                request = kind.FromString(message)
            except DecodeError:
                abort_call(context, RequestError(f"the request's {len(message)} bytes are no {kind.DESCRIPTOR.full_name} message"))
            return method(request, context)

        return call

    unary_stream = grpc.unary_stream_rpc_method_handler
    return grpc.method_handlers_generic_handler(
        SERVICE,
        {
            "GetDataset": grpc.unary_unary_rpc_method_handler(
                reading(pb.GetDatasetRequest, get_dataset), None, pb.Dataset.SerializeToString
            ),
            "GetVolume": unary_stream(reading(pb.GetVolumeRequest, get_volume), None, None),
            "StreamBatches": unary_stream(reading(pb.StreamBatchesRequest, stream_batches), None, None),
            "GetSample": grpc.unary_unary_rpc_method_handler(reading(pb.GetSampleRequest, get_sample), None, None),
            "Warp": grpc.stream_stream_rpc_method_handler(warp, None, None),
        },
    )


class StreamCall(Protocol):
    """An iterator of encoded messages, each valid until the next one is asked for. All but cancel() on the thread that iterates."""

    def __iter__(self) -> Iterator[memoryview]: ...

    def __next__(self) -> memoryview: ...

    def cancel(self) -> None:
        """End the call from any thread; whoever waits in it gets grpc.RpcError."""

    def close(self) -> None:
        """End the call; no-op after its end."""

    def stay_alive(self) -> None:
        """To be called every unary_stream.STAY_ALIVE_S, or more often, while no message is asked for; grpc.RpcError as next()."""


class ServiceCalls:
    """The service's methods at one address; those with a payload return encoded messages (parts.py).

    Args:
        channel: for calls that grpcio carries.
        open_stream: (method, serialised request, metadata) -> the call, for answers that are long.
    """

    def __init__(self, channel: grpc.Channel, open_stream: Callable[[str, bytes, Metadata], StreamCall]) -> None:
        self._open_stream = open_stream
        self.get_dataset = channel.unary_unary(f"/{SERVICE}/GetDataset", pb.GetDatasetRequest.SerializeToString, pb.Dataset.FromString)
        self.get_sample = channel.unary_unary(f"/{SERVICE}/GetSample", pb.GetSampleRequest.SerializeToString, None)
        self.warp = channel.stream_stream(f"/{SERVICE}/Warp", None, None)

    def get_volume(self, request: pb.GetVolumeRequest, metadata: Metadata) -> StreamCall:
        """Begin a GetVolume."""
        return self._open_stream(f"/{SERVICE}/GetVolume", request.SerializeToString(), metadata)

    def stream_batches(self, request: pb.StreamBatchesRequest, metadata: Metadata) -> StreamCall:
        """Begin a StreamBatches."""
        return self._open_stream(f"/{SERVICE}/StreamBatches", request.SerializeToString(), metadata)
