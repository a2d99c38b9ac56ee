"""Shared memory between containers: processes with mounts, process ids, IPC, users and networks of their own share a folder alone."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from augclient import Recipe

pytestmark = pytest.mark.slow

RECIPE = {"crop": {"mode": "uniform"}, "affine": {"rotate_deg": 10}, "noise": {"std": [1, 5]}}
HOW: dict[str, Any] = {"patch": (18, 40, 40), "batch_size": 4, "seed": 5, "steps": 60}

# The folders named are all that is left of ours: /run, /dev/shm and the temporary files are the container's own.
ENTER = """
set -e
hidden="$1"; shift
mount -t tmpfs none /run
while [ "$1" != -- ]; do mkdir "/run/${1##*/}"; mount --bind "$1" "/run/${1##*/}"; shift; done
shift
mount -t tmpfs none "$hidden"
mount -t tmpfs none /dev/shm
exec "$@"
"""

CLIENT = """
import json, os, runpy, sys
from augclient import Recipe, connect
taken = runpy.run_path(sys.argv[1])["taken"]
processes = [each for each in os.listdir("/proc") if each.isdigit()]
print(json.dumps([os.getpid(), processes, sorted({*os.listdir("/run")} - {"mount"}), os.listdir("/dev/shm")]))
with connect(sys.argv[2]) as server:
    stream = server.stream(Recipe.from_dict(json.loads(sys.argv[3])), transport="local", prefetch=1, **json.loads(sys.argv[4]))
    for batch in stream:
        print(json.dumps(taken(batch)), flush=True)
        del batch
"""

KINDS = {"mounts": ("--mount", "--pid", "--ipc", "--uts"), "rootless": ("--user", "--map-root-user", "--mount", "--pid", "--ipc")}


class Container:
    """A process in namespaces of its own, with `folders` under /run; all of it ends by kill()."""

    def __init__(self, kind: str, hidden: Path, folders: list[Path], *command: str, network: str = "", log: Path) -> None:
        inside = ["sh", "-c", ENTER, "sh", str(hidden), *map(str, folders), "--", *command]
        entered = ["ip", "netns", "exec", network] if network else []
        with log.open("ab") as errors:
            self.process = subprocess.Popen(
                [*entered, "unshare", *KINDS[kind], "--fork", "--mount-proc", "--kill-child", *inside],
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )

    def read_line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def kill(self) -> None:
        """kill -9 of all of it, and wait for its end, which closes its stdout; twice is fine."""
        self.process.kill()
        if self.process.stdout is not None and not self.process.stdout.closed:
            self.process.communicate()


@pytest.fixture(params=["mounts", "rootless"])
def kind(request: pytest.FixtureRequest) -> str:
    """What a container has of its own; skips where that is not allowed."""
    name: str = request.param
    if shutil.which("unshare") is None:
        pytest.skip("containers need unshare (apt-get install util-linux)")
    probe = subprocess.run(["unshare", *KINDS[name], "--fork", "--mount-proc", "true"], capture_output=True, text=True)
    if probe.returncode:
        pytest.skip(f"namespaces are not allowed here: {probe.stderr.strip()}")
    return name


class Host:
    """Starts containers around one folder of sockets."""

    def __init__(self, folder: Path, hidden: Path, kind: str, dataset: Path, stack: contextlib.ExitStack) -> None:
        self.kind = kind
        self.sockets, self._etc = folder / "augserver", folder / "etc"
        self.sockets.mkdir(mode=0o700)
        self._etc.mkdir()
        (self._etc / "server.toml").write_text('[local]\nmode = "on"\nfolder = "/run/augserver"\n')
        self.log = folder / "log"
        self._hidden = hidden
        self._dataset = dataset
        self._stack = stack

    def start(self, *command: str, folders: tuple[Path, ...] = (), network: str = "") -> Container:
        inside = [sys.executable, "-P", *command]
        made = Container(self.kind, self._hidden, [self.sockets, *folders], *inside, network=network, log=self.log)
        self._stack.callback(made.kill)
        return made

    def serve(self, address: str, *arguments: str, network: str = "") -> tuple[Container, str]:
        """A server in a container, and its address."""
        command = [
            "-c",
            "from augserver.cli import main; main()",
            "serve",
            f"/run/{self._dataset.name}",
            "--config",
            "/run/etc/server.toml",
        ]
        command += ["--backend", "cpu", "--threads", "1", "--address", address, *arguments]
        server = self.start(*command, folders=(self._etc, self._dataset), network=network)
        line = server.read_line()
        assert line.startswith("serving on "), self.log.read_text()
        return server, line.split()[2]

    def train(self, address: str) -> Container:
        """A client in a container, which has found itself alone there."""
        script = str(Path(__file__).with_name("zygote.py"))
        client = self.start("-c", CLIENT, script, address, json.dumps(RECIPE), json.dumps(HOW))
        assert json.loads(client.read_line()) == [1, ["1"], ["augserver"], []], self.log.read_text()
        return client


@pytest.fixture
def host(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, kind: str, toy_dataset: Path) -> Iterator[Host]:
    with contextlib.ExitStack() as stack:
        yield Host(tmp_path, tmp_path_factory.getbasetemp(), kind, toy_dataset, stack)


@pytest.fixture(scope="module")
def wanted(undisturbed: Callable[..., list[Any]]) -> list[Any]:
    return undisturbed(Recipe.from_dict(RECIPE), **HOW)


def rings_of(server: Container) -> int:
    """How many streams' memory a server has mapped."""
    [process] = psutil.Process(server.process.pid).children()
    return Path(f"/proc/{process.pid}/maps").read_text().count("augserver-ring")


def test_containers_that_share_a_folder_share_memory(host: Host, wanted: list[Any]) -> None:
    _, address = host.serve("127.0.0.1:0")
    client = host.train(address)
    assert [json.loads(client.read_line()) for _ in wanted] == wanted
    assert client.process.wait(30) == 0


def test_containers_with_a_network_each_share_memory(host: Host, wanted: list[Any], namespace: tuple[str, str, Any]) -> None:
    name, address, _ = namespace
    _, address = host.serve(f"{address}:0", "--insecure", network=name)
    client = host.train(address)
    assert [json.loads(client.read_line()) for _ in wanted] == wanted
    assert client.process.wait(30) == 0


def test_containers_that_are_killed_are_survived_and_leave_nothing(host: Host, wanted: list[Any]) -> None:
    server, address = host.serve("127.0.0.1:0")
    client = host.train(address)
    for batch in wanted[:5]:
        assert json.loads(client.read_line()) == batch
    server.kill()
    server, _ = host.serve(address)
    assert len(list(host.sockets.iterdir())) == 1  # the one before it is swept away
    for batch in wanted[5:20]:
        assert json.loads(client.read_line()) == batch
    assert rings_of(server) > 0
    client.kill()
    pace, until = threading.Event(), time.monotonic() + 10
    while rings_of(server):
        assert time.monotonic() < until
        pace.wait(0.01)
    [process] = psutil.Process(server.process.pid).children()
    process.terminate()
    assert server.process.wait(30) == 0
    assert list(host.sockets.iterdir()) == []
