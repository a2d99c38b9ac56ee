"""What happens to servers, clients and the network happens to time alone: steps complete, in order, byte-equal, nothing left behind."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from augclient import Recipe, connect

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("nothing_is_left")]

SECTIONS = {"crop": {"mode": "uniform"}, "affine": {"rotate_deg": 10}, "noise": {"std": [1, 5]}}
RECIPE = Recipe.from_dict(SECTIONS)
HOW: dict[str, Any] = {"patch": (8, 20, 20), "batch_size": 4, "seed": 5}
LARGE: dict[str, Any] = {"patch": (18, 40, 40), "batch_size": 16, "seed": 5}  # 2.3 MB: few fit the buffers between server and client
HURRY: dict[str, Any] = {"step_timeout_s": 1.0, "hedge_s": 0.2}


def stream_while_killing(stream: Any, servers: list[Any], kills: int, seed: int, taken: Callable[[Any], list[Any]]) -> list[Any]:
    """Batches of a stream while its servers are killed at random moments: within 30 ms after one of the next few batches."""
    draw = random.Random(seed)
    got: list[Any] = []

    def strike(victim: Any) -> None:
        victim.kill()
        victim.start()

    for _ in range(kills):
        victim = draw.choice(servers)
        victim.wait_ready()
        got += [taken(next(stream)) for _ in range(draw.randrange(1, 5))]
        killer = threading.Timer(draw.uniform(0, 0.03), strike, [victim])
        killer.start()
        got += [taken(next(stream)) for _ in range(draw.randrange(0, 4))]
        killer.join()
    for server in servers:
        server.wait_ready()
    return got + [taken(next(stream)) for _ in range(10)]


@pytest.mark.parametrize(("count", "kills", "transport"), [(1, 50, "grpc"), (1, 10, "local"), (3, 20, "grpc")])
def test_servers_killed_at_random_moments_are_not_noticed(
    warm_server: Callable[..., Any],
    toy_dataset: Path,
    taken: Callable[[Any], list[Any]],
    undisturbed: Callable[..., list[Any]],
    count: int,
    kills: int,
    transport: str,
) -> None:
    servers = [warm_server(toy_dataset) for _ in range(count)]
    with (
        connect([each.address for each in servers]) as server,
        server.stream(RECIPE, transport=transport, prefetch=1, **HURRY, **LARGE) as stream,
    ):
        got = stream_while_killing(stream, servers, kills, count, taken)
    assert len(got) > kills
    assert got == undisturbed(RECIPE, steps=len(got), **LARGE)
    assert [len(list(each.sockets.iterdir())) for each in servers] == [1] * count  # those of dead servers were taken away


def test_a_killed_client_goes_on_from_its_saved_state(
    zygote: Any, warm_server: Callable[..., Any], toy_dataset: Path, tmp_path: Path, undisturbed: Callable[..., list[Any]]
) -> None:
    address = warm_server(toy_dataset).address
    notes = tmp_path / "notes.json"
    draw = random.Random(7)
    for life in range(4):
        pid, stdout = zygote.fork("train", address, str(notes), json.dumps(SECTIONS), json.dumps(HOW | {"steps": 600}))
        with open(stdout) as lines:
            if life < 3:
                for _ in range(draw.randrange(1, 60)):
                    assert lines.readline()
                os.kill(pid, signal.SIGKILL)
            else:
                lines.read()
            assert zygote.wait(pid) == (-signal.SIGKILL if life < 3 else 0)
    assert json.loads(notes.read_text())["batches"] == undisturbed(RECIPE, steps=600, **HOW)


@pytest.mark.parametrize("with_another", [False, True])
def test_a_cut_network_is_not_noticed(
    warm_server: Callable[..., Any],
    serve: Callable[..., Any],
    toy_dataset: Path,
    namespace: tuple[str, str, Callable[[str], None]],
    taken: Callable[[Any], list[Any]],
    undisturbed: Callable[..., list[Any]],
    with_another: bool,
) -> None:
    name, host, set_link = namespace
    far = warm_server(toy_dataset, "--insecure", host=host, namespace=name)
    got, heals = [], []
    addresses = [far.address, serve(toy_dataset).address] if with_another else [far.address]
    with connect(addresses) as server, server.stream(RECIPE, steps=300, transport="grpc", **HURRY, **HOW) as stream:
        for batch in stream:
            got.append(taken(batch))
            if batch.step in (30, 150):
                set_link("down")
                heals.append(threading.Timer(1.5, set_link, ["up"]))
                heals[-1].start()
    for heal in heals:  # before the namespace goes: another server may have sent the rest by now
        heal.join()
    assert got == undisturbed(RECIPE, steps=300, **HOW)


@pytest.mark.parametrize("arguments", [("--backend", "cpu"), ("--devices", "cpu:2")])
def test_a_full_disk_of_logs_hurts_nothing(
    toy_dataset: Path, arguments: tuple[str, ...], taken: Callable[[Any], list[Any]], undisturbed: Callable[..., list[Any]]
) -> None:
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
    assert got == undisturbed(RECIPE, steps=40, **HOW)
