"""Servers in sandboxes that refuse system calls: batches come over gRPC and the reason is told, or the server says what it lacks."""

from __future__ import annotations

import platform
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from augclient import Recipe, connect
from augclient.errors import StateError

REFUSE = Path(__file__).with_name("refuse_syscalls.py")
SERVE = "import sys; from augserver.cli import main; main(sys.argv[1:])"

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="refuse_syscalls.py knows the numbers of x86-64 alone")


@pytest.fixture
def sandboxed(toy_dataset: Path, tmp_path: Path) -> Any:
    """Start a server under a filter: (its process, its first line on stdout, its log)."""
    started: list[subprocess.Popen[str]] = []

    def start(refused: str, *options: str) -> tuple[subprocess.Popen[str], str, Path]:
        log = tmp_path / f"{len(started)}.log"
        command = [sys.executable, str(REFUSE), refused, sys.executable, "-P", "-c", SERVE, "serve", str(toy_dataset)]
        with log.open("w") as errors:
            started.append(
                subprocess.Popen(
                    [*command, "--backend", "cpu", "--address", "127.0.0.1:0", *options], stdout=subprocess.PIPE, stderr=errors, text=True
                )
            )
        assert started[-1].stdout is not None
        return started[-1], started[-1].stdout.readline(), log

    yield start
    for process in started:
        process.send_signal(signal.SIGTERM)
        process.wait(30)
        assert process.stdout is not None
        process.stdout.close()


@pytest.mark.parametrize(
    ("refused", "reason"),
    [
        ("memfd_create:EPERM", "memfd_create: Operation not permitted"),
        ("memfd_create:ENOSYS", "memfd_create: Function not implemented"),
        ("flock:EPERM", "flock: Operation not permitted"),
    ],
)
def test_without_shared_memory_auto_goes_over_grpc_and_both_ends_say_why(sandboxed: Callable[..., Any], refused: str, reason: str) -> None:
    _, ready, log = sandboxed(refused)
    with connect(ready.split()[2]) as server:
        with server.stream(Recipe(), patch=(8, 16, 16), batch_size=2, steps=3, reconnect_s=5) as stream:
            assert sum(1 for _ in stream) == 3
            assert stream.transport == "grpc"
            assert reason in stream.transport_reason
        with pytest.raises(StateError, match=f'transport="local": .*{reason}'):
            next(server.stream(Recipe(), patch=(8, 16, 16), batch_size=2, transport="local"))
    assert reason in log.read_text()


@pytest.mark.parametrize("refused", ["sched_getaffinity:EPERM", "setpriority:EPERM"])
def test_a_call_that_only_helps_is_done_without(sandboxed: Callable[..., Any], refused: str) -> None:
    _, ready, _ = sandboxed(refused, "--http", "127.0.0.1:0")
    with connect(ready.split()[2]) as server, server.stream(Recipe(), patch=(8, 16, 16), batch_size=2, steps=3) as stream:
        assert sum(1 for _ in stream) == 3
        assert stream.transport == "local"


@pytest.mark.parametrize("refused", ["sendmsg:EPERM", "recvmsg:ENOSYS"])
def test_a_server_that_could_answer_nobody_does_not_start(sandboxed: Callable[..., Any], refused: str) -> None:
    process, ready, log = sandboxed(refused)
    assert ready == ""
    assert process.wait(30) == StateError.exit_code
    assert "augserver: the system refuses sendmsg or recvmsg" in log.read_text()


def test_shared_memory_that_is_insisted_on_keeps_the_server_from_starting(sandboxed: Callable[..., Any], tmp_path: Path) -> None:
    config = tmp_path / "on.toml"
    config.write_text('[local]\nmode = "on"\n')
    process, ready, log = sandboxed("memfd_create:EPERM", "--config", str(config))
    assert ready == ""
    assert process.wait(30) == StateError.exit_code
    assert "local.mode = 'on', but the server's system gives no memory that can be shared (memfd_create: " in log.read_text()
