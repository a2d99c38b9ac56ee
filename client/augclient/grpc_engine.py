"""Which of gRPC's two I/O engines carries our channels. Imported before anything else of this package, as gRPC chooses when it is imported.

The newer one hands every read of a socket to another thread. For messages of megabytes on a few cores that costs the client 0.49 instead of
0.39 CPU seconds per GB, and a stream a tenth of its speed (tests/benchmarks/bench_delivery.py, rows grpc and grpc_new_engine). So the
older one is asked for, where nobody else has decided: not if gRPC is imported already, nor if GRPC_EXPERIMENTS is set, to "" for example,
nor with a gRPC newer than those it was tried with, which may know the name no more and would say so on stderr.
"""

from __future__ import annotations

import os
import sys
from importlib.metadata import version

_VARIABLE = "GRPC_EXPERIMENTS"
_TRIED = (1, 85)  # the newest


def _is_known() -> bool:
    major, minor = version("grpcio").split(".")[:2]
    return (int(major), int(minor)) <= _TRIED


if "grpc" not in sys.modules and _VARIABLE not in os.environ and _is_known():
    os.environ[_VARIABLE] = "-event_engine_client"
    try:
        import grpc  # noqa: F401
    finally:
        del os.environ[_VARIABLE]  # not for child processes
