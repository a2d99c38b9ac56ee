"""A call with one request and many answers, carried by grpcio: the way back from our own receiver (`connect(receiver="grpcio")`)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


class GrpcioCall:
    """What UnaryStreamCall offers, over a call of grpcio's; it raises grpcio's own grpc.RpcError."""

    def __init__(self, call: Any) -> None:
        self._call = call

    def __iter__(self) -> Iterator[memoryview]:
        return self

    def __next__(self) -> memoryview:
        return memoryview(next(self._call))

    def cancel(self) -> None:
        """End the call; whoever waits in it gets an error. No-op after its end."""
        self._call.cancel()

    def close(self) -> None:
        """As cancel()."""
        self._call.cancel()

    def stay_alive(self) -> None:
        """Nothing: grpcio answers pings on a thread of its own."""
