"""Real server processes started by the command line, and small datasets to serve."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import ipaddress
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import psutil
import pytest
from augclient import Recipe, connect

from augserver.config import CudaConfig
from augserver.store import DatasetWriter

READY_S = 60.0
ZYGOTE = Path(__file__).with_name("zygote.py")


class Serving:
    """`augserver serve` in a process of its own; a context manager that leaves no process behind."""

    def __init__(self, dataset: Path, *arguments: str, log: Path, address: str = "127.0.0.1:0") -> None:
        command = [
            sys.executable,
            "-P",
            "-c",
            "from augserver.cli import main; main()",
            "serve",
            str(dataset),
            "--address",
            address,
            *arguments,
        ]
        self.log = log
        with log.open("wb") as errors:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors)
        self.ready_line = self._read_line()
        self.address = self.ready_line.split()[2] if self.ready_line else ""

    def _read_line(self) -> str:
        """The first line on stdout; empty if the process ends without one."""
        assert self.process.stdout is not None
        try:
            return read_line(self.process.stdout.fileno())
        except TimeoutError as error:
            self.process.kill()
            raise AssertionError(f"no ready line: {self.log.read_text()}") from error

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def wait(self, timeout_s: float = 30.0) -> int:
        return self.process.wait(timeout_s)

    def rest_of_stdout(self) -> bytes:
        assert self.process.stdout is not None
        return self.process.stdout.read()

    def stop(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.signal(signal.SIGTERM)
        try:
            self.wait()
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.wait()
            raise
        finally:
            if self.process.stdout is not None:
                self.process.stdout.close()

    def __enter__(self) -> Serving:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()


@pytest.fixture(scope="module")
def serve(tmp_path_factory: pytest.TempPathFactory, backend_name: str, cuda_config: CudaConfig) -> Iterator[Callable[..., Serving]]:
    """Start servers, with the backend of `--backend` unless the arguments name one; all are stopped at the end of the module."""
    folder = tmp_path_factory.mktemp("logs")
    with contextlib.ExitStack() as stack:

        def start(dataset: Path, *arguments: str, config: str = "", address: str = "127.0.0.1:0") -> Serving:
            name = f"server_{len(list(folder.iterdir()))}"
            if "--backend" not in arguments:
                arguments = (*arguments, "--backend", backend_name)
            if "cuda" in arguments:
                config += "[cuda]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in dataclasses.asdict(cuda_config).items())
            if config:
                path = folder / f"{name}.toml"
                path.write_text(config)
                arguments = (*arguments, "--config", str(path))
            return stack.enter_context(Serving(dataset, *arguments, log=folder / f"{name}.log", address=address))

        yield start


class Zygote:
    """The script zygote.py at work: starts processes that are ready at once; a context manager that leaves none behind."""

    def __init__(self, log: Path) -> None:
        self.log = log
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs, log.open("ab") as errors:
            self.process = subprocess.Popen([sys.executable, "-P", str(ZYGOTE)], stdin=theirs, stdout=errors, stderr=errors)

    def fork(self, run: str, *arguments: str, namespace: str = "") -> tuple[int, int]:
        """Start a process; its id, and the read end of its stdout."""
        read_fd, write_fd = os.pipe()
        order = {"run": run, "arguments": arguments, "namespace": namespace}
        with self.log.open("ab") as errors:
            socket.send_fds(self._control, [json.dumps(order).encode()], [write_fd, errors.fileno()])
        os.close(write_fd)
        return int(self._control.recv(32)), read_fd

    def wait(self, pid: int) -> int:
        """Wait for the end of a process; its exit status, negative for a signal."""
        self._control.send(json.dumps({"wait": pid}).encode())
        return int(self._control.recv(32))

    def close(self) -> None:
        self._control.close()
        self.process.wait(30)


class WarmServer:
    """A server that is back on its address in a moment after it was killed; zygote.py says what its signals do.

    Attributes:
        pid: of its present life; 0 while it is dead.
        sockets: the folder of its local socket.
    """

    def __init__(self, zygote: Zygote, dataset: Path, sockets: Path, *arguments: str, host: str = "127.0.0.1", namespace: str = "") -> None:
        self._zygote = zygote
        self._namespace = namespace
        self._arguments = [str(dataset), "--backend", "cpu", "--threads", "1", "--config", str(sockets.with_suffix(".toml")), *arguments]
        sockets.with_suffix(".toml").write_text(f'[local]\nfolder = "{sockets}"\nmode = "on"\n')
        self.sockets = sockets
        self._holder = None if namespace else socket_on_free_port()
        self.address = f"{host}:{self._holder.getsockname()[1] if self._holder else 0}"
        self.pid = 0
        self._stdout = -1
        self.start()
        self.address = self._read_line().split()[2]
        self._greeted = True

    def start(self) -> None:
        """Start it; returns before it is ready."""
        self.pid, self._stdout = self._zygote.fork("serve", *self._arguments, "--address", self.address, namespace=self._namespace)
        self._greeted = False

    def signal(self, number: int) -> None:
        assert self.pid, "it is dead"  # and 0 is the caller's own group
        os.kill(self.pid, number)

    def kill(self) -> None:
        """kill -9, and wait for its end."""
        self.signal(signal.SIGKILL)
        self._end(-signal.SIGKILL)

    def stop(self) -> None:
        """SIGTERM, and wait for its end."""
        if self.pid:
            self.signal(signal.SIGTERM)
            self._end(0)
        if self._holder is not None:
            self._holder.close()

    def wait_ready(self) -> None:
        """Wait until it serves."""
        if not self._greeted:
            assert self._read_line().startswith("serving on")
            self._greeted = True

    def wait_idle(self) -> None:
        """Wait until it holds nothing for any client: it notices their end soon, not at once."""
        pace, until = threading.Event(), time.monotonic() + 15
        while any((held := self.held()).values()):
            assert time.monotonic() < until, held
            pace.wait(0.02)

    def held(self) -> dict[str, int]:
        """What it holds for clients at this moment."""
        self.wait_ready()
        self.signal(signal.SIGUSR1)
        counts: dict[str, int] = json.loads(self._read_line())
        return counts

    def _end(self, status: int) -> None:
        pid, self.pid = self.pid, 0
        assert self._zygote.wait(pid) == status, self._zygote.log.read_text()[-2000:]
        os.close(self._stdout)

    def _read_line(self) -> str:
        line = read_line(self._stdout)
        assert line, self._zygote.log.read_text()[-2000:]
        return line


def socket_on_free_port() -> socket.socket:
    """A bound socket that keeps its port ours while its server is dead, as gRPC binds with SO_REUSEADDR too."""
    holder = socket.socket()
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    holder.bind(("127.0.0.1", 0))
    return holder


def read_line(descriptor: int) -> str:
    """The next line of a pipe; empty at its end."""
    deadline, line = time.monotonic() + READY_S, b""
    while not line.endswith(b"\n"):
        if not select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))[0]:
            raise TimeoutError(f"no line in {READY_S} s")
        byte = os.read(descriptor, 1)
        if not byte:
            return ""
        line += byte
    return line.decode()


@pytest.fixture(scope="module")
def zygote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Zygote]:
    """Starts warm processes."""
    running = Zygote(tmp_path_factory.mktemp("zygote") / "log")
    yield running
    running.close()


@pytest.fixture(scope="module")
def warm_server(zygote: Zygote, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., WarmServer]]:
    """Start warm servers; all are stopped at the end of the module, and their sockets must be gone then."""
    started: list[WarmServer] = []

    def start(dataset: Path, *arguments: str, sockets: Path | None = None, **how: Any) -> WarmServer:
        folder = tmp_path_factory.mktemp("warm") / "sockets" if sockets is None else sockets
        started.append(WarmServer(zygote, dataset, folder, *arguments, **how))
        return started[-1]

    yield start
    for each in started:
        each.stop()
    assert [list(each.sockets.iterdir()) for each in started] == [[]] * len(started)


@pytest.fixture(scope="session")
def taken() -> Callable[[Any], list[Any]]:
    """What a trainer of zygote.py notes of a batch."""
    spec = importlib.util.spec_from_file_location("zygote", ZYGOTE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    note: Callable[[Any], list[Any]] = module.taken
    return note


@pytest.fixture(scope="module")
def undisturbed(serve: Callable[..., Serving], toy_dataset: Path, taken: Callable[[Any], list[Any]]) -> Callable[..., list[Any]]:
    """The notes of a stream to which nothing happens; arguments as for Server.stream()."""
    address = serve(toy_dataset).address

    def batches(recipe: Recipe, **how: Any) -> list[Any]:
        with connect(address) as server, server.stream(recipe, transport="grpc", **how) as stream:
            return [taken(batch) for batch in stream]

    return batches


OTHERS = ("sem.mp-", "envoy_shared_memory_")  # in /dev/shm: of multiprocessing, and of a proxy that another test runs


@pytest.fixture(scope="session")
def unchanged_shm() -> Callable[[], contextlib.AbstractContextManager[None]]:
    """While entered, no name comes into /dev/shm to stay. Others on this machine use it too: some are known by their names, which ours
    would not have, and what else is theirs comes and goes."""

    def names() -> set[str]:
        return {name for name in os.listdir("/dev/shm") if not name.startswith(OTHERS)}

    @contextlib.contextmanager
    def unchanged() -> Iterator[None]:
        before = names()
        yield
        left, pace = names() - before, threading.Event()
        for _ in range(200):
            if left:
                pace.wait(0.05)
                left &= names()
        assert not left

    return unchanged


@pytest.fixture
def nothing_is_left(zygote: Zygote, unchanged_shm: Callable[[], contextlib.AbstractContextManager[None]]) -> Iterator[None]:
    """No name in /dev/shm, no thread, no process beside those that were there."""
    children = {child.pid for child in psutil.Process().children(recursive=True)}
    with unchanged_shm():
        yield
    left = [child.cmdline() for child in psutil.Process().children(recursive=True) if child.pid not in children]
    assert [each for each in left if "serve" not in each and str(ZYGOTE) not in each] == []  # servers, which the module stops at its end
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("augclient-")] == []


@pytest.fixture(scope="module")
def namespace() -> Iterator[tuple[str, str, Callable[[str], None]]]:
    """A network namespace with one link: (its name, its address, what sets the link up or down)."""
    ip = shutil.which("ip")
    if ip is None or os.geteuid() != 0:
        pytest.skip("a network namespace needs root and iproute2 (apt-get install iproute2)")
    name = f"aug{os.getpid() % 100000}"
    net = f"198.18.{os.getpid() // 64 % 256}.{os.getpid() % 64 * 4}"  # of the range for tests of networks; another run has another one
    near, far = (str(ipaddress.ip_address(net) + k) for k in (1, 2))

    def run(*arguments: str) -> None:
        subprocess.run([ip, *arguments], check=True, capture_output=True)

    try:
        run("netns", "add", name)
    except subprocess.CalledProcessError as error:
        pytest.skip(f"network namespaces are not allowed here: {error.stderr.decode().strip()}")
    try:
        run("link", "add", f"{name}a", "type", "veth", "peer", "name", f"{name}b", "netns", name)
        run("address", "add", f"{near}/30", "dev", f"{name}a")
        run("-n", name, "address", "add", f"{far}/30", "dev", f"{name}b")
        run("link", "set", f"{name}a", "up")
        run("-n", name, "link", "set", f"{name}b", "up")
        yield name, far, lambda state: run("-n", name, "link", "set", f"{name}b", state)
    finally:
        run("netns", "delete", name)  # and the link with it


@pytest.fixture(scope="session")
def toy_dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three volumes of seeded noise in HU, each of another shape, spacing (3, 1, 0.5) mm."""
    path = tmp_path_factory.mktemp("store") / "toy.zarr"
    affine = np.array([[0.0, 0.0, 0.5, 7.0], [0.0, 1.0, 0.0, -3.0], [3.0, 0.0, 0.0, 11.0], [0.0, 0.0, 0.0, 1.0]])
    with DatasetWriter(path, modality="ct", classes={1: "liver", 2: "bone"}) as writer:
        for seed, shape in enumerate([(18, 41, 57), (19, 52, 43), (20, 43, 51)]):
            rng = np.random.default_rng(seed)
            image = rng.integers(-1000, 1500, (1, *shape)).astype(np.int16)
            writer.write(f"case_{seed + 1}", image, rng.integers(0, 3, shape).astype(np.uint8), (3.0, 1.0, 0.5), affine, {})
        writer.finish()
    return path


@pytest.fixture(scope="session")
def one_volume(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of one volume without labels."""
    path = tmp_path_factory.mktemp("store") / "one.zarr"
    with DatasetWriter(path, modality="mr") as writer:
        writer.write("only", np.arange(1000, dtype=np.int16).reshape(1, 10, 10, 10), None, (1.0, 1.0, 1.0), np.eye(4)[[2, 1, 0, 3]], {})
        writer.finish()
    return path
