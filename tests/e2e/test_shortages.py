"""A server whose descriptors or threads are used up answers UNAVAILABLE or RESOURCE_EXHAUSTED, at rest, and is well again afterwards."""

from __future__ import annotations

import contextlib
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import augclient
import grpc
import psutil
import pytest
from augclient import Recipe
from augclient.errors import BudgetError, UnavailableError
from augclient.local import open_link
from augclient.wire.v1 import augserver_pb2 as pb
from augclient.wire.v1 import augserver_pb2_grpc

# A parent may not lower the limit of a process of another user, so that the server does it itself.
SERVE = """
import resource, signal, sys

before = {kind: resource.getrlimit(kind) for kind in (resource.RLIMIT_NPROC, resource.RLIMIT_NOFILE)}

def use_up(kind, most):
    resource.setrlimit(kind, (most, before[kind][1]))

def first_free():
    with open("/dev/null") as file:
        return file.fileno()

signal.signal(signal.SIGUSR1, lambda *_: use_up(resource.RLIMIT_NPROC, 0))
signal.signal(signal.SIGUSR2, lambda *_: use_up(resource.RLIMIT_NOFILE, first_free()))
signal.signal(signal.SIGHUP, lambda *_: [resource.setrlimit(*each) for each in before.items()])
from augserver.cli import main
main(sys.argv[1:])
"""
ANSWERS = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED)
HOW: dict[str, Any] = {"patch": (8, 16, 16), "batch_size": 2, "steps": 3}


class Server:
    """`augserver serve` that uses up its own descriptors or threads when told to."""

    def __init__(self, dataset: Path, log: Path, prefix: list[str], options: list[str]) -> None:
        self.log = log
        command = [*prefix, sys.executable, "-P", "-c", SERVE, "serve", str(dataset), "--backend", "cpu", "--address", "127.0.0.1:0"]
        with log.open("w") as errors:
            self.process = subprocess.Popen([*command, *options], stdout=subprocess.PIPE, stderr=errors, text=True)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line.startswith("serving on"), log.read_text()
        self.address = line.split()[2]
        self.channel = grpc.insecure_channel(self.address)
        self.stub = augserver_pb2_grpc.AugServerStub(self.channel)
        self.dataset = self.stub.GetDataset(pb.GetDatasetRequest(), timeout=20)

    def change(self, number: int, limit: int, wanted: Callable[[int], bool]) -> None:
        """Send a signal and wait until the limit is as wanted."""
        self.process.send_signal(number)
        until = time.monotonic() + 10
        while not wanted(self.limit(limit)):
            assert time.monotonic() < until
            time.sleep(0.01)

    def limit(self, kind: int) -> int:
        title = {resource.RLIMIT_NPROC: "Max processes", resource.RLIMIT_NOFILE: "Max open files"}[kind]
        text = Path(f"/proc/{self.process.pid}/limits").read_text()
        [line] = [line for line in text.splitlines() if line.startswith(title)]
        found = line.removeprefix(title).split()[0]
        return sys.maxsize if found == "unlimited" else int(found)

    def status(self, call: Callable[[], Any]) -> grpc.StatusCode:
        with pytest.raises(grpc.RpcError) as caught:
            call()
        return caught.value.code()

    def cpu_s(self) -> float:
        times = psutil.Process(self.process.pid).cpu_times()
        return times.user + times.system

    def stop(self) -> None:
        self.channel.close()
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(30) == 0
        assert self.process.stdout is not None
        self.process.stdout.close()


@pytest.fixture
def readable(toy_dataset: Path) -> Iterator[Path]:
    """A folder with a dataset, which any user may read: pytest's own are their owner's alone."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        shutil.copytree(toy_dataset, Path(folder, "toy.zarr"))
        yield Path(folder)


@pytest.fixture
def start(readable: Path, tmp_path: Path) -> Iterator[Callable[..., Server]]:
    started: list[Server] = []

    def run(*options: str, prefix: list[str] | None = None) -> Server:
        started.append(Server(readable / "toy.zarr", tmp_path / f"{len(started)}.log", prefix or [], list(options)))
        return started[-1]

    yield run
    for each in started:
        each.stop()


def stream_request() -> pb.StreamBatchesRequest:
    return pb.StreamBatchesRequest(recipe=Recipe().proto, patch=(8, 16, 16), batch_size=2, steps=3)


def test_without_descriptors_calls_are_refused_by_name_and_nothing_spins(start: Callable[..., Server]) -> None:
    server = start("--metrics-port", "0", "--http", "127.0.0.1:0")
    metrics, page = (re.search(rf"^{name}: (\S+)", server.log.read_text(), re.MULTILINE)[1] for name in ("metrics", "page"))
    link = open_link(server.dataset.local_socket)
    before = server.limit(resource.RLIMIT_NOFILE)
    server.change(signal.SIGUSR2, resource.RLIMIT_NOFILE, lambda limit: limit < before)

    began_s, began = server.cpu_s(), time.monotonic()
    local = stream_request()
    local.local.CopyFrom(pb.Local(token=link.token, leases=2))
    with contextlib.ExitStack() as stack:
        stack.callback(link.close_socket)
        assert server.status(lambda: list(server.stub.GetVolume(pb.GetVolumeRequest(id="case_1"), timeout=20))) in ANSWERS
        assert server.status(lambda: list(server.stub.StreamBatches(stream_request(), timeout=20))) in ANSWERS
        with pytest.raises(grpc.RpcError, match="memfd_create: Too many open files") as caught:
            list(server.stub.StreamBatches(local, timeout=20))
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        with pytest.raises(augclient.errors.DeadlineError):  # waits in the backlog
            open_link(server.dataset.local_socket, timeout_s=0.5)
        for url in (metrics, page):
            with pytest.raises(OSError, match="timed out"):
                urllib.request.urlopen(url, timeout=0.5)
        time.sleep(1.5)  # asyncio tries again after a second
    assert server.cpu_s() - began_s < 0.2 * (time.monotonic() - began)
    server.change(signal.SIGHUP, resource.RLIMIT_NOFILE, lambda limit: limit == before)

    with augclient.connect(server.address) as client, client.stream(Recipe(), **HOW) as stream:
        assert sum(1 for _ in stream) == 3
        assert stream.transport == "local"
    assert b"augserver_streams" in urllib.request.urlopen(metrics, timeout=20).read()
    assert urllib.request.urlopen(page, timeout=20).status == 200
    log = server.log.read_text()
    assert log.count("socket.accept() out of system resource") == 1
    assert log.count("clients wait on ") == 1
    assert log.count("a request for metrics was not answered") == 1
    assert "incident" not in log


@pytest.fixture
def no_privilege() -> list[str]:
    """What runs a command so that its threads are limited: the kernel counts them for no process that is root's."""
    if os.getuid() != 0:
        return []
    setpriv = shutil.which("setpriv")
    assert setpriv is not None, "util-linux is part of every Debian"
    return [setpriv, "--ruid", "65534", "--euid", "0", "--bounding-set=-sys_resource,-sys_admin"]


def test_without_threads_calls_are_refused_by_name_and_the_server_lives_on(start: Callable[..., Server], no_privilege: list[str]) -> None:
    server = start("--metrics-port", "0", prefix=no_privilege)
    metrics = next(line for line in server.log.read_text().splitlines() if line.startswith("metrics: ")).split()[1]
    before = server.limit(resource.RLIMIT_NPROC)
    server.change(signal.SIGUSR1, resource.RLIMIT_NPROC, lambda limit: limit == 0)
    for _ in range(3):
        assert server.status(lambda: list(server.stub.GetVolume(pb.GetVolumeRequest(id="case_2"), timeout=20))) in ANSWERS
        assert server.status(lambda: list(server.stub.StreamBatches(stream_request(), timeout=20))) in ANSWERS
    with pytest.raises(OSError, match="closed connection"):
        urllib.request.urlopen(metrics, timeout=20)
    assert server.stub.GetDataset(pb.GetDatasetRequest(), timeout=20).fingerprint == server.dataset.fingerprint
    server.change(signal.SIGHUP, resource.RLIMIT_NPROC, lambda limit: limit == before)

    with augclient.connect(server.address) as client, client.stream(Recipe(), reconnect_s=5, step_timeout_s=20, **HOW) as stream:
        assert sum(1 for _ in stream) == 3
    assert b"augserver_streams" in urllib.request.urlopen(metrics, timeout=20).read()
    assert "incident" not in server.log.read_text()


def test_a_server_that_gets_too_few_threads_says_so_and_does_not_start(readable: Path, no_privilege: list[str]) -> None:
    config = readable / "many.toml"
    config.write_text("[streams]\nmax_streams = 1000\n")
    limited = "import resource as r, sys; r.setrlimit(r.RLIMIT_NPROC, (200, 200)); from augserver.cli import main; main(sys.argv[1:])"
    serve = [sys.executable, "-P", "-c", limited, "serve", str(readable / "toy.zarr"), "--backend", "cpu", "--address", "127.0.0.1:0"]
    ended = subprocess.run([*no_privilege, *serve, "--config", str(config)], capture_output=True, text=True, timeout=60)
    assert ended.returncode == BudgetError.exit_code, ended.stderr
    assert ended.stdout == ""
    assert "the server takes 1040 threads, 1016 of them for calls, and the system gave " in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("limit", [12, 16, 20, 24])
def test_a_server_that_gets_too_few_descriptors_says_so_and_does_not_start(toy_dataset: Path, limit: int) -> None:
    limit_it = f"import resource as r, sys; r.setrlimit(r.RLIMIT_NOFILE, ({limit}, {limit})); "
    limited = limit_it + "from augserver.cli import main; main(sys.argv[1:])"
    serve = [sys.executable, "-P", "-c", limited, "serve", str(toy_dataset), "--backend", "cpu", "--address", "127.0.0.1:0"]
    ended = subprocess.run([*serve, "--metrics-port", "0"], capture_output=True, text=True, timeout=60)
    assert ended.returncode in (BudgetError.exit_code, UnavailableError.exit_code), ended.stderr
    assert ended.stdout == ""
    assert "Too many open files" in ended.stderr
    assert "Traceback" not in ended.stderr
