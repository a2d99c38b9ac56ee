"""How a server says that it serves: JSON for the process that started it, a sentence for people, and neither ends it when unread."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from augclient import connect
from augclient.errors import ConfigError, UnavailableError, WireError
from augclient.serving_child import Ready, serving_child

from augserver.store import DatasetWriter

COMMAND = [sys.executable, "-P", "-c", "from augserver.cli import main; main()"]
KEYS = ["address", "backend", "device", "threads", "volumes", "http", "metrics"]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("store") / "toy.zarr"
    with DatasetWriter(path, modality="mr") as writer:
        for name in ("a", "b"):
            writer.write(name, np.arange(1000, dtype=np.int16).reshape(1, 10, 10, 10), None, (1.0, 1.0, 1.0), np.eye(4)[[2, 1, 0, 3]], {})
        writer.finish()
    return path


@pytest.fixture
def serve(dataset: Path, tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Start a server with --ready-fd: (process, what it told as an object, the reading end)."""
    with contextlib.ExitStack() as stack:

        def start(*options: str, stdout: Any = subprocess.PIPE, before: list[str] | None = None) -> tuple[Any, dict[str, Any], int]:
            reading, writing = os.pipe()
            stack.callback(os.close, reading)
            errors = stack.enter_context((tmp_path / "log").open("w"))
            command = [*(before or COMMAND), "serve", str(dataset), "--address", "127.0.0.1:0", *options, "--ready-fd", str(writing)]
            process = subprocess.Popen(command, stdout=stdout, stderr=errors, pass_fds=(writing,))
            os.close(writing)
            stack.callback(process.wait, 30)
            stack.callback(process.terminate)
            if process.stdout is not None:
                stack.callback(process.stdout.close)
            return process, json.loads(read(reading)), reading

        yield start


def read(descriptor: int) -> bytes:
    """What comes next within a minute; empty at the end."""
    assert select.select([descriptor], [], [], 60)[0]
    return os.read(descriptor, 4096)


def test_one_line_says_what_a_program_needs_and_the_sentence_is_the_same(serve: Callable[..., Any]) -> None:
    process, told, reading = serve("--backend", "cpu", "--threads", "1", "--metrics-port", "0", "--http", "127.0.0.1:0")
    assert list(told) == KEYS
    assert (told["backend"], told["device"], told["threads"], told["volumes"]) == ("cpu", "cpu", 1, 2)
    with connect(told["address"]) as server:
        assert server.dataset().volumes == ("a", "b")
    for url in (told["http"], told["metrics"]):
        assert urllib.request.urlopen(url, timeout=20).status == 200
    assert process.stdout.readline().decode() == f"serving on {told['address']} (cpu, 1 thread, 2 volumes)\n"
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0
    assert read(reading) == b""  # its end is seen here too


def test_several_workers_are_told_of_as_one_server(serve: Callable[..., Any]) -> None:
    _, told, _ = serve("--devices", "cpu:2", "--threads", "1")
    assert (told["backend"], told["device"], told["threads"], told["volumes"]) == ("cpu", "cpu, cpu", 2, 2)
    with connect(told["address"]) as server:
        assert server.dataset().volumes == ("a", "b")


def test_a_descriptor_that_is_not_open_is_refused_before_anything_else(dataset: Path) -> None:
    ended = subprocess.run([*COMMAND, "serve", str(dataset), "--ready-fd", "999"], capture_output=True, text=True, timeout=60)
    assert ended.returncode == ConfigError.exit_code
    assert "--ready-fd 999: Bad file descriptor; name a descriptor that is open" in ended.stderr


@pytest.mark.parametrize("devices", [("--backend", "cpu"), ("--devices", "cpu:1")], ids=["server", "supervisor"])
@pytest.mark.parametrize(
    ("how", "reason"),
    [("| true", "Broken pipe"), (">&-", "Bad file descriptor"), ("> /dev/full", "No space left on device"), ("2>&1 | true", "")],
)
def test_a_server_whose_stdout_nobody_reads_says_so_and_serves(
    serve: Callable[..., Any], tmp_path: Path, devices: tuple[str, str], how: str, reason: str
) -> None:
    if "|" in how:  # the pipe's other end is gone before the server is ready
        reader, writer = os.pipe()
        os.close(reader)
        _, told, _ = serve(*devices, stdout=writer, before=["bash", "-c", 'exec "$@"' + (" 2>&1" if "2>" in how else ""), "-", *COMMAND])
        os.close(writer)
    else:
        _, told, _ = serve(*devices, stdout=subprocess.DEVNULL, before=["bash", "-c", f'exec "$@" {how}', "-", *COMMAND])
    with connect(told["address"]) as server:
        assert server.dataset().volumes == ("a", "b")
    until = time.monotonic() + 20
    wanted = f"stdout cannot be written ({reason}), so it stands here: serving on {told['address']} (cpu" if reason else ""
    while wanted not in (tmp_path / "log").read_text():
        assert time.monotonic() < until, (tmp_path / "log").read_text()
        time.sleep(0.02)
    assert "Traceback" not in (tmp_path / "log").read_text()


def test_a_line_of_a_later_release_is_read_and_nonsense_is_named() -> None:
    ready = Ready(address="127.0.0.1:5", backend="cuda", device="0 NVIDIA H200, NVL", threads=0, volumes=1)
    later = json.loads(ready.to_line()) | {"more": 1}
    assert Ready.from_line(json.dumps(later)) == ready
    assert str(ready) == "serving on 127.0.0.1:5 (cuda, 0 NVIDIA H200, NVL, 1 volume)"
    for line in ("serving on 127.0.0.1:5 (cpu, 1 thread, 2 volumes)", "{}", "[1]", ""):
        with pytest.raises(WireError, match="where it was to say that it is ready"):
            Ready.from_line(line)


def test_a_child_that_is_not_ready_in_time_is_ended_and_quoted(tmp_path: Path) -> None:
    script = "import sys, signal; print('still reading', file=sys.stderr, flush=True); signal.pause()"
    with (
        pytest.raises(UnavailableError, match=r"not ready after 2 s; see .*log: still reading"),
        serving_child([sys.executable, "-c", script], tmp_path / "log", timeout_s=2.0),
    ):
        pytest.fail("it is not ready")
