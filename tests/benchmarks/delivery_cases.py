"""The cases of bench_delivery.py and bench_wire.py, and their child processes: this file is what those run.

gRPC over a Unix socket is measured on a port that `augserver serve` does not open; delivery_ours.py does.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator
from typing import Any

import delivery_ours as ours
import delivery_peers as peers
from delivery_processes import Case, run_child


def _ours(note: str, *, senders: int = 1, streams: int = 1, **how: Any) -> Case:
    def receive(addresses: list[str], folder: str, stream: int) -> Iterator[tuple[int, int]]:
        return ours.receive_stand_in(addresses, stream, **how)

    return Case(note=note, receive=receive, send=ours.send_stand_in, senders=senders, streams=streams)


def _tf(note: str, *, compression: str | None, single: bool) -> Case:
    def receive(addresses: list[str], folder: str, stream: int) -> Iterator[tuple[int, int]]:
        return peers.receive_tf(addresses, compression=compression, single=single)

    return Case(note=note, receive=receive, send=peers.send_tf, environment=peers.WARM_HEAP if single else {})


def _real(note: str, transport: str) -> Case:
    return Case(note=note, receive=lambda addresses, *_: ours.receive_real(addresses, transport=transport), send=ours.send_real)


CASES: dict[str, Case] = {
    "memcpy": Case(note="a batch copied within one process: the memory's own pace", receive=peers.receive_memcpy),
    "tcp": Case(note="a plain socket into reused arrays", receive=peers.receive_tcp, send=peers.send_tcp),
    "flight": Case(
        note="Arrow Flight, C++ on both ends, batches, warmed heap",
        receive=peers.receive_flight,
        send=peers.send_flight,
        environment=peers.WARM_HEAP,
    ),
    "tf_auto": _tf("tf.data service, its own defaults (compressed)", compression="AUTO", single=False),
    "tf_plain": _tf("tf.data service, its own defaults, no compression", compression=None, single=False),
    "tf_tuned": _tf("tf.data service, no compression, a sample per element, warmed heap", compression=None, single=True),
    "generated": Case(note="gRPC's generated code, a sample per message", receive=peers.receive_generated, send=peers.send_generated),
    "grpc": _ours("augserver over gRPC, float32"),
    "grpc_float16": _ours("augserver over gRPC, float16", dtype="float16"),
    "grpc_uint8": _ours("augserver over gRPC, uint8", dtype="uint8"),
    "grpc_streams_2": _ours("augserver over gRPC, 2 streams", streams=2),
    "grpc_streams_4": _ours("augserver over gRPC, 4 streams", streams=4),
    "grpc_servers_2": _ours("augserver over gRPC, 1 stream from 2 servers", senders=2),
    "grpc_servers_3": _ours("augserver over gRPC, 1 stream from 3 servers", senders=3),
    "grpc_tls": Case(note="augserver over gRPC with TLS", receive=ours.receive_tls, send=ours.send_tls),
    "grpc_unix": Case(note="augserver over gRPC on a Unix socket", receive=ours.receive_unix, send=ours.send_unix),
    "local": _ours("augserver, shared memory: a ready view", transport="local"),
    "local_touched": _ours("augserver, shared memory, every byte read", transport="local", touch=True),
    "local_streams_4": _ours("augserver, shared memory, 4 streams", transport="local", streams=4),
    "real_kernel": Case(note="the real kernel alone, all cores, no delivery", receive=lambda _, folder, __: ours.compute_real(folder)),
    "real_grpc": _real("the real kernel, over gRPC", "grpc"),
    "real_local": _real("the real kernel, shared memory", "local"),
}
_NEEDS: dict[str, str] = {"flight": "pyarrow", "tf_auto": "tensorflow", "tf_plain": "tensorflow", "tf_tuned": "tensorflow"}


def available(wanted: Callable[[str], bool]) -> tuple[dict[str, Case], list[str]]:
    """The cases that `wanted` says yes to and that can run here; and those that cannot, each with its reason."""
    names = [name for name in CASES if wanted(name)]
    absent = {name: _NEEDS[name] for name in names if name in _NEEDS and importlib.util.find_spec(_NEEDS[name]) is None}
    return {name: CASES[name] for name in names if name not in absent}, [
        f"{name}: {what} is not installed" for name, what in absent.items()
    ]


if __name__ == "__main__":
    run_child(CASES, sys.argv[1:])
