"""What happens to servers, clients and the network happens to time alone: steps complete, in order, byte-equal, nothing left behind."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from augclient import Recipe, connect
from augclient.errors import BudgetError

pytestmark = pytest.mark.slow

RECIPE = Recipe(crop={"mode": "uniform"}, affine={"rotate_deg": 10}, noise={"std": [1, 5]})
HOW: dict[str, Any] = {"patch": (8, 20, 20), "batch_size": 4, "seed": 5}
LARGE: dict[str, Any] = {"patch": (18, 40, 40), "batch_size": 16, "seed": 5}  # 2.3 MB: few fit the buffers between server and client
HURRY: dict[str, Any] = {"step_timeout_s": 1.0, "hedge_s": 0.2}

# Forks a server as soon as the one before it is gone: a start costs 50 ms instead of the second that the imports take.
RESTARTER = """
import os, signal, sys
import augserver.cli.serve, augserver.service.server, augserver.kernel, augserver.store
from augserver.cli import main
child = 0
def end(number, frame):
    if child:
        os.kill(child, signal.SIGTERM)
        os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
signal.signal(signal.SIGTERM, end)
while True:
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    child = os.fork()
    if not child:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
        print(f"pid {os.getpid()}", flush=True)
        main(["serve", *sys.argv[1:]])
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
    os.waitpid(child, 0)
"""

CLIENT = """
import hashlib, json, os, sys
from augclient import Recipe, connect
address, folder, recipe, how = sys.argv[1], sys.argv[2], json.loads(sys.argv[3]), json.loads(sys.argv[4])
path = os.path.join(folder, "state.json")
seen = json.load(open(path)) if os.path.exists(path) else {"state": None, "batches": []}
with connect(address) as server, server.stream(Recipe.from_dict(recipe), state=seen["state"], **how) as stream:
    for batch in stream:
        data = batch.image.tobytes() + batch.label.tobytes()
        seen["batches"].append([batch.step, [s.index for s in batch.samples], hashlib.sha256(data).hexdigest()])
        seen["state"] = stream.state_dict()
        with open(path + ".new", "w") as file:
            json.dump(seen, file)
        os.replace(path + ".new", path)
        print(batch.step, flush=True)
"""


def taken(batch: Any) -> list[Any]:
    data = batch.image.tobytes() + batch.label.tobytes()
    return [batch.step, [sample.index for sample in batch.samples], hashlib.sha256(data).hexdigest()]


def undisturbed(serve: Callable[..., Any], dataset: Path, steps: int, how: dict[str, Any] = HOW) -> list[Any]:
    """The batches that a stream without any fault gives."""
    running = serve(dataset)
    with connect(running.address) as server, server.stream(RECIPE, steps=steps, **how) as stream:
        batches = [taken(batch) for batch in stream]
    running.stop()
    return batches


@pytest.fixture(autouse=True)
def nothing_is_left(serve: Callable[..., Any]) -> Iterator[None]:
    """No name in /dev/shm, no thread, no process beside those that were there."""
    names, children = sorted(os.listdir("/dev/shm")), {child.pid for child in psutil.Process().children(recursive=True)}
    yield
    assert sorted(os.listdir("/dev/shm")) == names
    left = [child for child in psutil.Process().children(recursive=True) if child.pid not in children]
    assert [child.cmdline() for child in left if "serve" not in child.cmdline()] == []  # those the module stops at its end
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("augclient-")] == []


class Restarter:
    """A server on one port that is back at once whenever it is killed."""

    def __init__(self, dataset: Path, folder: Path, *arguments: str) -> None:
        config = folder / "server.toml"
        config.write_text(f'[local]\nfolder = "{folder / "sockets"}"\n')
        self.sockets = folder / "sockets"
        command = [
            sys.executable,
            "-P",
            "-c",
            RESTARTER,
            str(dataset),
            "--backend",
            "cpu",
            "--threads",
            "1",
            "--config",
            str(config),
            *arguments,
        ]
        with (folder / "server.log").open("wb") as errors:
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True)
        self.ready = threading.Condition()
        self.pid = 0
        self.starts = 0
        self.address = ""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.wait_ready(1)

    def _read(self) -> None:
        assert self.process.stdout is not None
        pid = 0
        for line in self.process.stdout:
            if line.startswith("pid "):
                pid = int(line.split()[1])
            elif line.startswith("serving on "):
                with self.ready:
                    self.pid, self.address, self.starts = pid, line.split()[2], self.starts + 1
                    self.ready.notify_all()

    def wait_ready(self, starts: int) -> int:
        """Wait for the start of this number; the server's process id."""
        with self.ready:
            assert self.ready.wait_for(lambda: self.starts >= starts, 60)
            return self.pid

    def stop(self) -> None:
        self.process.terminate()
        assert self.process.wait(30) == 0
        self._reader.join()
        if self.process.stdout is not None:
            self.process.stdout.close()


@contextlib.contextmanager
def restarter(dataset: Path, folder: Path) -> Iterator[Restarter]:
    folder.mkdir()
    with contextlib.closing(socket_on_free_port()) as holder:
        port = holder.getsockname()[1]
        server = Restarter(dataset, folder, "--address", f"127.0.0.1:{port}")
        try:
            yield server
        finally:
            server.stop()
    assert list(server.sockets.iterdir()) == [], (folder / "server.log").read_text()[-2000:]


def socket_on_free_port() -> Any:
    """A bound socket that keeps its port ours between two starts, as gRPC binds with SO_REUSEADDR too."""
    import socket

    holder = socket.socket()
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    holder.bind(("127.0.0.1", 0))
    return holder


def stream_while_killing(stream: Any, servers: list[Restarter], kills: int, seed: int) -> list[Any]:
    """Batches of a stream while its servers are killed at random moments: within 30 ms after one of the next few batches."""
    draw = random.Random(seed)
    got: list[Any] = []
    starts = [1] * len(servers)
    for _ in range(kills):
        k = draw.randrange(len(servers))
        pid = servers[k].wait_ready(starts[k])
        got += [taken(next(stream)) for _ in range(draw.randrange(1, 5))]
        killer = threading.Timer(draw.uniform(0, 0.03), os.kill, [pid, signal.SIGKILL])
        killer.start()
        got += [taken(next(stream)) for _ in range(draw.randrange(0, 4))]
        killer.join()
        starts[k] += 1
    for server, start in zip(servers, starts, strict=True):
        server.wait_ready(start)
    return got + [taken(next(stream)) for _ in range(10)]


@pytest.mark.parametrize(("servers", "kills", "transport"), [(1, 50, "grpc"), (1, 10, "auto"), (3, 20, "grpc")])
def test_servers_killed_at_random_moments_are_not_noticed(
    serve: Callable[..., Any], toy_dataset: Path, tmp_path: Path, servers: int, kills: int, transport: str
) -> None:
    with contextlib.ExitStack() as stack:
        running = [stack.enter_context(restarter(toy_dataset, tmp_path / str(k))) for k in range(servers)]
        with (
            connect([each.address for each in running]) as server,
            server.stream(RECIPE, transport=transport, prefetch=1, **HURRY, **LARGE) as stream,
        ):
            got = stream_while_killing(stream, running, kills, seed=servers)
    assert len(got) > kills
    assert got == undisturbed(serve, toy_dataset, len(got), LARGE)


def test_a_killed_client_goes_on_from_its_saved_state(serve: Callable[..., Any], toy_dataset: Path, tmp_path: Path) -> None:
    running = serve(toy_dataset)
    how = json.dumps(HOW | {"steps": 600})
    recipe = json.dumps({"crop": {"mode": "uniform"}, "affine": {"rotate_deg": 10}, "noise": {"std": [1, 5]}})
    command = [sys.executable, "-c", CLIENT, running.address, str(tmp_path), recipe, how]
    draw = random.Random(7)
    for life in range(4):
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as client:
            assert client.stdout is not None
            if life < 3:
                for _ in range(draw.randrange(1, 60)):
                    assert client.stdout.readline()
                client.kill()
            else:
                client.communicate()
                assert client.returncode == 0
    got = json.loads((tmp_path / "state.json").read_text())["batches"]
    assert got == undisturbed(serve, toy_dataset, 600)


def test_a_paused_server_is_left_and_taken_back(serve: Callable[..., Any], toy_dataset: Path) -> None:
    servers = [serve(toy_dataset, "--threads", "1") for _ in range(3)]
    got = []
    with connect([each.address for each in servers]) as server, server.stream(RECIPE, steps=400, **HURRY, **HOW) as stream:
        for batch in stream:
            got.append(taken(batch))
            if batch.step in (20, 200):
                servers[batch.step // 100].signal(signal.SIGSTOP)
            if batch.step in (120, 300):
                servers[batch.step // 150].signal(signal.SIGCONT)
    for each in servers:
        each.signal(signal.SIGCONT)
    assert got == undisturbed(serve, toy_dataset, 400)


def test_a_single_paused_server_is_waited_for(serve: Callable[..., Any], toy_dataset: Path) -> None:
    running = serve(toy_dataset)
    got = []
    with connect(running.address) as server, server.stream(RECIPE, steps=200, transport="grpc", step_timeout_s=0.3, **HOW) as stream:
        for batch in stream:
            got.append(taken(batch))
            if batch.step == 20:
                running.signal(signal.SIGSTOP)
                threading.Timer(1.0, running.signal, [signal.SIGCONT]).start()
    assert got == undisturbed(serve, toy_dataset, 200)


@pytest.fixture
def namespace() -> Iterator[tuple[str, str, Callable[[str], None]]]:
    """A network namespace with one link: (its name, its address, what sets the link up or down)."""
    ip = shutil.which("ip")
    if ip is None or os.geteuid() != 0:
        pytest.skip("a network namespace needs root and iproute2 (apt-get install iproute2)")
    name = f"aug{os.getpid() % 100000}"

    def run(*arguments: str) -> None:
        subprocess.run([ip, *arguments], check=True, capture_output=True)

    try:
        run("netns", "add", name)
    except subprocess.CalledProcessError as error:
        pytest.skip(f"network namespaces are not allowed here: {error.stderr.decode().strip()}")
    try:
        run("link", "add", f"{name}a", "type", "veth", "peer", "name", f"{name}b", "netns", name)
        run("address", "add", "198.18.77.1/30", "dev", f"{name}a")
        run("-n", name, "address", "add", "198.18.77.2/30", "dev", f"{name}b")
        run("link", "set", f"{name}a", "up")
        run("-n", name, "link", "set", f"{name}b", "up")
        yield name, "198.18.77.2", lambda state: run("-n", name, "link", "set", f"{name}b", state)
    finally:
        run("netns", "delete", name)  # and the link with it


@pytest.mark.parametrize("with_another", [False, True])
def test_a_cut_network_is_not_noticed(
    serve: Callable[..., Any], toy_dataset: Path, tmp_path: Path, namespace: tuple[str, str, Callable[[str], None]], with_another: bool
) -> None:
    name, host, set_link = namespace
    command = ["ip", "netns", "exec", name, sys.executable, "-P", "-c", "from augserver.cli import main; main()", "serve", str(toy_dataset)]
    with (tmp_path / "log").open("wb") as errors:
        far = subprocess.Popen(
            [*command, "--backend", "cpu", "--insecure", "--address", f"{host}:0"], stdout=subprocess.PIPE, stderr=errors, text=True
        )
    assert far.stdout is not None
    try:
        address = far.stdout.readline().split()[2]
        got = []
        addresses = [address, serve(toy_dataset).address] if with_another else [address]
        with connect(addresses) as server, server.stream(RECIPE, steps=300, **HURRY, **HOW) as stream:
            for batch in stream:
                got.append(taken(batch))
                if batch.step in (30, 150):
                    set_link("down")
                    threading.Timer(1.5, set_link, ["up"]).start()
        assert got == undisturbed(serve, toy_dataset, 300)
    finally:
        far.terminate()
        far.communicate()


@pytest.mark.parametrize("arguments", [("--backend", "cpu"), ("--devices", "cpu:2")])
def test_a_full_disk_of_logs_hurts_nothing(serve: Callable[..., Any], toy_dataset: Path, arguments: tuple[str, ...]) -> None:
    command = [sys.executable, "-P", "-c", "from augserver.cli import main; main()", "serve", str(toy_dataset), "--address", "127.0.0.1:0"]
    with open("/dev/full", "wb") as full:
        server = subprocess.Popen([*command, *arguments], stdout=subprocess.PIPE, stderr=full, text=True)
    assert server.stdout is not None
    try:
        address = server.stdout.readline().split()[2]
        with connect(address) as connection:
            got = [taken(batch) for batch in connection.stream(RECIPE, steps=20, **HOW)]
            if "--devices" in arguments:
                psutil.Process(server.pid).children()[1].kill()  # the supervisor has something to say
            got += [taken(batch) for batch in connection.stream(RECIPE, start=20, steps=20, **HURRY, **HOW)]
        server.terminate()
        assert server.wait(30) == 0
    finally:
        server.kill()
        server.communicate()
    assert got == undisturbed(serve, toy_dataset, 40)


def test_sixty_four_streams_are_served_fairly_or_refused_by_the_name_of_the_budget(serve: Callable[..., Any], toy_dataset: Path) -> None:
    how = HOW | {"transport": "grpc", "prefetch": 1}
    running = serve(toy_dataset, config="[streams]\nmax_streams = 64\n")
    counts = [0] * 64
    go = threading.Barrier(64)
    over = threading.Event()
    with connect(running.address) as server:
        streams = [server.stream(RECIPE, **how) for _ in range(64)]

        def consume(k: int) -> None:
            next(streams[k])  # admitted
            go.wait(60)
            while not over.is_set():
                next(streams[k])
                counts[k] += 1
                if counts[k] == 60:
                    over.set()

        threads = [threading.Thread(target=consume, args=(k,)) for k in range(64)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert min(counts) >= 15  # the fastest has 60
        with pytest.raises(BudgetError, match=r"streams\.max_streams = 64"):
            next(server.stream(RECIPE, **how))
        for stream in streams:
            stream.close()


def test_a_trainer_that_stops_reading_does_not_grow_the_servers(serve: Callable[..., Any], toy_dataset: Path) -> None:
    servers = [serve(toy_dataset, "--threads", "1") for _ in range(2)]
    processes = [psutil.Process(each.process.pid) for each in servers]
    pause = threading.Event()
    with connect([each.address for each in servers]) as server:
        stream = server.stream(Recipe(crop={"pad": True}), patch=(64, 64, 64), batch_size=4)  # 5 MB a batch
        for _ in range(20):
            next(stream)
        before = [process.memory_info().rss for process in processes]
        assert not pause.wait(2.0)
        assert all(process.memory_info().rss - was < 12 << 20 for process, was in zip(processes, before, strict=True))
        stream.close()
