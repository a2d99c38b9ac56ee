"""The supervisor with stand-in workers: small scripts that print a ready line and end as told."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import psutil
import pytest
from augclient.serving_child import Ready

from augserver.cli.processes.stop_signals import StopSignals
from augserver.cli.processes.supervisor import EXIT_DEVICE_LOST, HeldPort, RestartPolicy, Supervisor, WorkerSpec
from augserver.errors import StateError, UnavailableError
from augserver.service.address import Address, require_free

FAST = RestartPolicy(first_delay_s=0.01, max_delay_s=0.04, steady_s=60.0, max_failures=3)
# argv: file that counts the starts, then one exit code (or signal, negative) per start; after the last it serves until SIGTERM.
WORKER = """
import os, signal, sys
from augclient.serving_child import Ready
*_, option, descriptor = sys.argv
assert option == "--ready-fd"
with open(sys.argv[1], "a+") as starts:
    starts.seek(0)
    count = len(starts.read())
    starts.write("x")
codes = [int(code) for code in sys.argv[2:-2]]
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
if codes[count:count + 1] != [7]:
    ready = Ready(address=f"here:{count}", backend="cpu", device="cpu", threads=1, volumes=2)
    os.write(int(descriptor), ready.to_line().encode())
if count < len(codes):
    if codes[count] < 0:
        os.kill(os.getpid(), -codes[count])
    sys.exit(codes[count])
while True:
    signal.pause()
"""


class Stage:
    """A supervisor of stand-in workers; stops it when `stop_at` ready lines and notices have been seen."""

    def __init__(self, folder: Path, *codes: tuple[int, ...], stop_at: str) -> None:
        self.events: list[str] = []
        self._stop_at = stop_at
        self._folder = folder
        self._specs = [WorkerSpec(f"w{k}", self._command(k, each)) for k, each in enumerate(codes)]
        self.known: list[str | None] = []

    def run(self) -> int:
        with StopSignals() as signals:
            supervisor = Supervisor(self._specs, on_ready=self._ready, say=self._event, drain_s=5.0, policy=FAST)
            return supervisor.run(signals)

    def starts(self, worker: int) -> int:
        return len((self._folder / str(worker)).read_text())

    def _command(self, worker: int, codes: tuple[int, ...]) -> Callable[[str], list[str]]:
        def command(ready: Ready | None) -> list[str]:
            self.known.append(ready and ready.address)
            return [sys.executable, "-P", "-c", WORKER, str(self._folder / str(worker)), *map(str, codes)]

        return command

    def _ready(self, name: str, ready: Ready) -> None:
        self._event(f"{name} ready: {ready}")

    def _event(self, text: str) -> None:
        self.events.append(text)
        if self._stop_at in text:
            os.kill(os.getpid(), signal.SIGTERM)


@pytest.fixture(autouse=True)
def no_child_is_left() -> Iterator[None]:
    before = set(psutil.Process().children(recursive=True))
    yield
    assert set(psutil.Process().children(recursive=True)) <= before


def test_a_worker_that_loses_its_device_is_started_again_and_says_why_and_how_often(tmp_path: Path) -> None:
    stage = Stage(tmp_path, (EXIT_DEVICE_LOST, EXIT_DEVICE_LOST), stop_at="is back: serving on here:2")
    assert stage.run() == 0
    assert stage.events[0] == "w0 ready: serving on here:0 (cpu, 1 thread, 2 volumes)"
    first, back, second, again = stage.events[1:]
    assert "w0 lost its device (exit code 75)" in first
    assert "failure 1 of 3 in a row); starting it again in 0.01 s" in first
    assert back == "worker w0 is back: serving on here:1 (cpu, 1 thread, 2 volumes)"
    assert again == "worker w0 is back: serving on here:2 (cpu, 1 thread, 2 volumes)"
    assert "failure 2 of 3 in a row); starting it again in 0.02 s" in second
    assert stage.known == [None, "here:0", "here:0"]  # a restart knows how the first start came out
    assert stage.starts(0) == 3


def test_a_crash_is_restarted_too(tmp_path: Path) -> None:
    stage = Stage(tmp_path, (-signal.SIGSEGV,), stop_at="is back")
    assert stage.run() == 0
    assert "w0 was killed by SIGSEGV" in stage.events[1]


def test_a_worker_that_dies_again_and_again_ends_the_whole_with_an_error(tmp_path: Path) -> None:
    stage = Stage(tmp_path, (EXIT_DEVICE_LOST,) * 9, (), stop_at="never")
    with pytest.raises(UnavailableError, match=r"w0 lost its device .* the 4th time in a row; it is not started again"):
        stage.run()
    assert stage.starts(0) == 4
    assert stage.starts(1) == 1  # the other worker never failed, and ended with the whole


def test_a_worker_that_refuses_its_settings_is_not_started_again(tmp_path: Path) -> None:
    stage = Stage(tmp_path, (7,), stop_at="never")
    assert stage.run() == 7
    assert (stage.starts(0), stage.events) == (1, [])


def test_the_other_workers_go_on_while_one_is_restarted(tmp_path: Path) -> None:
    stage = Stage(tmp_path, (EXIT_DEVICE_LOST,), (), stop_at="w0 is back")
    assert stage.run() == 0
    assert (stage.starts(0), stage.starts(1)) == (2, 1)


def test_a_worker_that_heeds_no_sigterm_is_killed_by_and_by(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("augserver.cli.processes.supervisor._KILL_AFTER_S", 0.0)
    line = Ready(address="here", backend="cpu", device="cpu", threads=1, volumes=1).to_line().encode()
    script = (
        "import os, signal, sys; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
        f"os.write(int(sys.argv[-1]), {line!r}); signal.pause(); signal.pause()"
    )
    said: list[str] = []
    with StopSignals() as signals:
        supervisor = Supervisor(
            [WorkerSpec("stuck", lambda _: [sys.executable, "-P", "-c", script])],
            on_ready=lambda *_: os.kill(os.getpid(), signal.SIGTERM),
            say=said.append,
            drain_s=0.2,
        )
        assert supervisor.run(signals) == 0
    assert said == ["killed after 0.2 s without an end: stuck"]


def test_a_held_port_belongs_to_the_worker_and_to_nobody_else() -> None:
    with HeldPort(Address("127.0.0.1", 0)) as port:
        for _ in range(2):  # a worker and the one after it, as gRPC binds
            require_free(port.address)
            server = grpc.server(ThreadPoolExecutor(1), options=[("grpc.so_reuseport", 0)])
            assert server.add_insecure_port(str(port.address)) == port.address.port
            server.start()
            server.stop(None).wait()
        with socket.socket() as stranger, pytest.raises(OSError, match="in use"):
            stranger.bind(("127.0.0.1", port.address.port))
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(StateError, match="Address already in use"):
        HeldPort(Address("127.0.0.1", taken.getsockname()[1]))


def test_the_death_of_the_supervisor_ends_its_worker() -> None:
    worker = (
        "import os, signal, sys\nfrom augserver.cli.processes.supervisor import end_with_supervisor\n"
        "end_with_supervisor(int(sys.argv[1]))\nprint(os.getpid(), flush=True)\nsignal.pause()"
    )
    boss = (
        f"import subprocess, sys, os, signal\nsubprocess.Popen([sys.executable, '-P', '-c', {worker!r}, str(os.getpid())])\nsignal.pause()"
    )
    with subprocess.Popen([sys.executable, "-P", "-c", boss], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert select.select([process.stdout], [], [], 30)[0]
        inside = psutil.Process(int(process.stdout.readline()))
        process.kill()
        _wait_until_gone(inside)


def _wait_until_gone(process: psutil.Process) -> None:
    deadline = time.monotonic() + 20
    with contextlib.suppress(psutil.NoSuchProcess):
        while process.status() != psutil.STATUS_ZOMBIE and time.monotonic() < deadline:
            select.select([], [], [], 0.01)
        assert process.status() == psutil.STATUS_ZOMBIE
