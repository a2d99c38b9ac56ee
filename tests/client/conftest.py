"""A toy server beside the test, in this process or in one of its own."""

from __future__ import annotations

import importlib.util
import os
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import augclient
import pytest
from augclient.wire.rendezvous import order

SCRIPT = Path(__file__).with_name("toy_server.py")


@pytest.fixture(scope="session")
def toy() -> ModuleType:
    """The module toy_server: formulas, servicer, start_server."""
    spec = importlib.util.spec_from_file_location("toy_server", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["toy_server"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(params=["own", "grpcio"])
def each_receiver(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Who reads the streams of every connection of the test; a module says `pytestmark = usefixtures("each_receiver")`."""
    receiver: str = request.param
    monkeypatch.setitem(augclient.connect.__kwdefaults__, "receiver", receiver)
    return receiver


class Running:
    """A toy server in this process that can be stopped and started again on its port."""

    def __init__(self, toy: ModuleType) -> None:
        self._toy = toy
        self.servicer = toy.ToyServicer()
        self._server, self.port = toy.start_server(self.servicer)
        self.address = f"127.0.0.1:{self.port}"

    def stop(self) -> None:
        self._server.stop(None).wait()

    def start(self) -> None:
        self._server, _ = self._toy.start_server(self.servicer, self.port)


@pytest.fixture
def open_sockets() -> Callable[[], int]:
    """Counts the TCP sockets of this process that have a peer."""

    def count() -> int:
        found = 0
        for name in os.listdir("/proc/self/fd"):
            try:
                if not stat.S_ISSOCK(os.fstat(int(name)).st_mode):
                    continue
                with socket.socket(fileno=os.dup(int(name))) as one:
                    found += one.family in (socket.AF_INET, socket.AF_INET6) and one.getpeername() is not None
            except OSError:  # gone since, or listening
                continue
        return found

    return count


@pytest.fixture
def running(toy: ModuleType) -> Iterator[Running]:
    server = Running(toy)
    yield server
    server.stop()


@pytest.fixture
def fleet(toy: ModuleType) -> Iterator[list[Running]]:
    """Three toy servers, each of which owns one of the three volumes; ports are the system's choice, so it takes some attempts."""
    servers = [Running(toy) for _ in range(3)]
    while len({order([server.address for server in servers], f"case_{k}")[0] for k in range(3)}) < 3:
        servers.pop(0).stop()
        servers.append(Running(toy))
    yield servers
    for server in servers:
        server.stop()


@pytest.fixture
def hung_fleet(fleet: list[Running]) -> Iterator[list[Running]]:
    """Three toy servers, of which the owner of case_0 answers no call for batches."""
    leave = threading.Event()
    owner = order([server.address for server in fleet], "case_0")[0]
    hung = next(server for server in fleet if server.address == owner)
    hung.servicer.refuse = lambda request, context: leave.wait(60)
    yield fleet
    leave.set()


class ServerProcess:
    """A toy server in a process of its own, which can be killed."""

    def __init__(self, port: int = 0, part_bytes: int = 1 << 16) -> None:
        command = [sys.executable, str(SCRIPT), str(port), str(part_bytes)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())
        self.address = f"127.0.0.1:{self.port}"

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()


@pytest.fixture
def server_process() -> Iterator[ServerProcess]:
    process = ServerProcess()
    yield process
    process.kill()
