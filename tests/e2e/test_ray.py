"""`augserver ray`: a stream from a local Ray cluster outlives a replica, and nothing is left of the cluster."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from augclient import Recipe, connect

from augserver.cli import main

RECIPE = Recipe(crop={"mode": "uniform"}, affine={"rotate_deg": 10}, noise={"std": [1, 5]})
HOW: dict[str, Any] = {"patch": (8, 20, 20), "batch_size": 2, "seed": 5}
START = [sys.executable, "-P", "-c", "from augserver.cli import main; main()", "ray"]
REPLICAS = 3
needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="ray is not installed: pip install 'augserver[ray]'")


def taken(batch: Any) -> tuple[int, list[int], bytes, bytes]:
    return batch.step, [sample.index for sample in batch.samples], batch.image.tobytes(), batch.label.tobytes()


def free_ports(count: int) -> int:
    """The first of `count` ports in a row that nobody uses."""
    for first in range(42000, 60000, count):
        with contextlib.ExitStack() as stack, contextlib.suppress(OSError):
            for port in range(first, first + count):
                stack.enter_context(socket.create_server(("127.0.0.1", port)))
            return first
    raise AssertionError("no free ports")


def wait_for_line(stream: Any, text: str, timeout_s: float = 60.0) -> str:
    """The first line that contains `text`; fails after `timeout_s` or at the end of the stream."""
    deadline, seen = time.monotonic() + timeout_s, []
    while select.select([stream], [], [], max(0.0, deadline - time.monotonic()))[0]:
        line = os.read(stream.fileno(), 1 << 16).decode()
        seen.append(line)
        if text in line or not line:
            break
    assert text in "".join(seen), seen
    return "".join(seen)


def listener(port: int) -> psutil.Process:
    """The process that listens on a port of loopback."""
    [found] = [each for each in psutil.net_connections("tcp") if each.laddr.port == port and each.status == psutil.CONN_LISTEN]
    return psutil.Process(found.pid)


@pytest.fixture
def fleet(toy_dataset: Path) -> Iterator[tuple[subprocess.Popen[bytes], list[str]]]:
    """Three replicas on a cluster of their own: (process of the driver, addresses)."""
    port = free_ports(REPLICAS)
    command = [
        *START,
        str(toy_dataset),
        "--replicas",
        str(REPLICAS),
        "--cpus-per-replica",
        "0.25",
        "--port",
        str(port),
        "--cluster",
        "local",
    ]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            line = wait_for_line(process.stdout, "serving on")
            match = re.fullmatch(r"serving on (\S+) \(ray, 3 replicas, cpu, 1 thread, 3 volumes\)\n", line)
            assert match is not None, line
            assert match[1].split(",") == [f"127.0.0.1:{port + k}" for k in range(REPLICAS)]
            yield process, match[1].split(",")
        finally:
            process.terminate()
            process.wait(30)


@needs_ray
@pytest.mark.slow
def test_a_stream_outlives_a_killed_replica_and_the_cluster_leaves_nothing(
    fleet: tuple[subprocess.Popen[bytes], list[str]],
) -> None:
    process, addresses = fleet
    with connect(addresses[1]) as server, server.stream(RECIPE, steps=8, **HOW) as stream:
        wanted = [taken(batch) for batch in stream]
    cluster = psutil.Process(process.pid).children(recursive=True)
    for victim, known in ((0, addresses[:1]), (2, addresses)):  # a client of one server, and one of all
        with connect(known) as server, server.stream(RECIPE, steps=8, prefetch=1, **HOW) as stream:
            got = [taken(next(stream)) for _ in range(3)]
            listener(int(addresses[victim].rpartition(":")[2])).kill()
            got += [taken(batch) for batch in stream]
        assert got == wanted
        assert f"replica {victim} is back at {addresses[victim]}" in wait_for_line(process.stderr, "is back")
    assert [connect_and_count(address) for address in addresses] == [3, 3, 3]
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0
    _, alive = psutil.wait_procs(cluster, timeout=20)
    assert alive == []


def connect_and_count(address: str) -> int:
    with connect(address) as server:
        return len(server.dataset().volumes)


@needs_ray
@pytest.mark.slow
def test_what_keeps_replicas_from_running_is_one_typed_error(toy_dataset: Path, tmp_path: Path) -> None:
    """A cluster too small, and a dataset that is none: each before any line on stdout."""
    cases = [
        (
            [str(toy_dataset), "--replicas", "2", "--cpus-per-replica", "900", "--placement-s", "1"],
            5,
            "did not place 2 replicas of 900 CPU each",
        ),
        ([str(tmp_path / "nowhere.zarr"), "--replicas", "1", "--cpus-per-replica", "0"], 4, "there is no dataset"),
    ]
    for arguments, code, message in cases:
        result = subprocess.run([*START, *arguments, "--port", "0", "--cluster", "local"], capture_output=True, text=True, timeout=60)
        assert (result.returncode, result.stdout) == (code, ""), result.stderr
        assert message in result.stderr
        assert "Traceback" not in result.stderr


def test_without_ray_the_error_says_what_to_install(
    toy_dataset: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(SystemExit) as caught:
        main(["ray", str(toy_dataset), "--replicas", "1"])
    assert caught.value.code == 6
    assert "pip install 'augserver[ray]'" in capsys.readouterr().err


@pytest.mark.parametrize("module", ["augserver.cli.ray", "augserver.service.ray_fleet"])
def test_ray_is_imported_only_to_run_a_fleet(module: str) -> None:
    script = f"import sys, {module}\nprint('ray' in sys.modules)"
    assert subprocess.run([sys.executable, "-P", "-c", script], capture_output=True, text=True, check=True).stdout == "False\n"
