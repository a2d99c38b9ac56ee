"""What a server on the CPU needs of this machine, tried out rather than looked up."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import platform
import socket
import sys
from collections.abc import Iterator

import numpy as np

from augserver.cli.doctor.finding import Finding, bad, good
from augserver.cores import count_cores
from augserver.errors import AugError
from augserver.service.address import parse_address

LIBRARIES = ("zarr", "nibabel", "grpc", "google.protobuf")
MIN_FREE_BYTES = 2 << 30  # a decoded CT of 512 x 512 x 600 with its label takes half a gigabyte, and batches come on top


def required_findings() -> Iterator[Finding]:
    """Everything without which no server runs, not even on the CPU."""
    yield _python()
    yield _kernel()
    for name in LIBRARIES:
        yield _library(name)
    yield _loopback()


def optional_findings(address: str) -> Iterator[Finding]:
    """What makes things better, or matters to some.

    Args:
        address: where `augserver serve` listens by default.
    """
    yield _library("SimpleITK")  # reads scans; a server reads datasets
    yield _port(address)
    yield _memory()
    yield _shared_memory()
    yield _trainer("tensorflow", ("tensorflow", "tensorflow-cpu"), "augserver-client[tensorflow-cpu]")
    yield _trainer("torch", ("torch",), "augserver-client[torch]")


def _python() -> Finding:
    found = f"Python {platform.python_version()} on {platform.system()} {platform.machine()}"
    if sys.platform != "linux":
        return bad("system", found, cause="augserver uses memfd and prctl, which only Linux has", next_step="run it on Linux")
    return good("system", found)


def _kernel() -> Finding:
    """Runs it: a voxel shifted by half its size must be the mean of two."""
    try:
        # Not before: this is what may be missing.
        from augserver.kernel import warp
        from augserver.kernel.cpu import instruction_sets

        half = np.eye(3, 4)
        half[2, 3] = 0.5
        value = warp(np.array([[[2.0, 6.0]]], np.float32), half, (1, 1, 1), backend="cpu")
    except AugError as error:
        step = "install augserver anew with GCC 12 or clang 19 or newer: `CXX=g++-12 pip install .`"
        return bad("cpu kernel", "does not run", cause=str(error), next_step=step)
    if np.asarray(value).item() != 4.0:
        cause = f"it gives {np.asarray(value).item()} for the mean of 2 and 6"
        return bad("cpu kernel", "computes wrongly", cause=cause, next_step="force another instruction set, kernel.isa; please report this")
    return good("cpu kernel", f"{count_cores()} cores, instruction sets {', '.join(instruction_sets())}")


def _library(name: str) -> Finding:
    try:
        module = importlib.import_module(name)
    except ImportError as error:
        return bad(name, "cannot be imported", cause=str(error), next_step="install augserver anew: `pip install .`")
    return good(name, f"version {getattr(module, '__version__', 'unknown')}")


def _loopback() -> Finding:
    try:
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
    except OSError as error:
        return bad("loopback", "no port can be opened", cause=str(error), next_step="allow this process to listen on 127.0.0.1")
    return good("loopback", f"ports can be opened, such as {port}")


def _port(address: str) -> Finding:
    where = parse_address(address)
    try:
        with socket.create_server((where.host, where.port)):
            return good("default port", f"{address} is free")
    except OSError as error:
        step = "stop what listens there, or serve with --address 127.0.0.1:0"
        return bad("default port", f"{address} is not free", cause=os.strerror(error.errno or 0), next_step=step)


def _memory() -> Finding:
    from augserver.pipeline.host_memory import read_available_bytes

    free = read_available_bytes()
    found = f"{free / 1e9:.1f} GB can be taken"
    if free < MIN_FREE_BYTES:
        cause = f"less than {MIN_FREE_BYTES / 1e9:.1f} GB; half of it becomes the cache of decoded volumes"
        step = "end other processes or raise the container's limit; `augserver info DS.zarr` says what a dataset needs"
        return bad("memory", found, cause=cause, next_step=step)
    return good("memory", found)


def _shared_memory() -> Finding:
    from augserver.service.local_delivery import check_sharing

    try:
        check_sharing()
    except (AugError, OSError) as error:
        step = "allow that in the container's seccomp profile; until then clients on this host use gRPC"
        return bad("shared memory", "cannot be made and handed over", cause=str(error), next_step=step)
    return good("shared memory", "sealed memory can be made and handed over")


def _trainer(name: str, distributions: tuple[str, ...], extra: str) -> Finding:
    """From its metadata: importing it takes seconds."""
    for distribution in distributions:
        try:
            return good(name, f"{distribution} {importlib.metadata.version(distribution)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return bad(
        name, "not installed", cause=f"augclient.{name} and its users need it, a server does not", next_step=f'pip install "{extra}"'
    )
