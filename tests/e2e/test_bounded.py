"""Memory stays flat, dead clients are noticed, and a damaged volume hurts only those who need it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from augclient import Recipe, connect
from augclient.errors import AugError, BudgetError, VolumeError

RECIPE = Recipe(crop={"mode": "uniform", "pad": True}, affine={"rotate_deg": 10}, noise={"std": [1, 5]})
MIB = 1 << 20

GREEDY_CLIENT = """
import sys
from augclient import Recipe, connect
server = connect(sys.argv[1])
stream = server.stream(Recipe(), patch=(8, 40, 40), batch_size=2)
next(stream)
for _ in range(200):  # until nothing of the stream is under way any more: TCP itself would miss the answers to that
    server.dataset()
print("streaming", flush=True)
sys.stdin.read()
"""


@pytest.mark.slow
def test_memory_of_server_and_client_is_flat_over_a_thousand_batches(serve: Callable[..., Any], toy_dataset: Path) -> None:
    running = serve(toy_dataset)
    server_process, client_process = psutil.Process(running.process.pid), psutil.Process()
    with connect(running.address) as server, server.stream(RECIPE, patch=(24, 40, 40), batch_size=4, steps=1300) as stream:
        for _ in range(300):
            next(stream)
        before = server_process.memory_info().rss, client_process.memory_info().rss
        batch_bytes = sum(batch.image.nbytes + batch.label.nbytes for batch in stream) / 1000
        after = server_process.memory_info().rss, client_process.memory_info().rss
    # one batch is 0.8 MB: a leak of one in a hundred batches would show
    assert batch_bytes == 4 * 24 * 40 * 40 * 5
    assert after[0] - before[0] < 6 * MIB
    assert after[1] - before[1] < 6 * MIB


@pytest.mark.parametrize(
    ("number", "within_s"),
    [
        (signal.SIGKILL, 5.0),  # its sockets close
        (signal.SIGSTOP, 6.0),  # its sockets stay: a ping without an answer finds out
    ],
)
def test_a_client_that_dies_frees_its_stream(serve: Callable[..., Any], toy_dataset: Path, number: int, within_s: float) -> None:
    running = serve(toy_dataset, config="[streams]\nmax_streams = 1\n[listen]\nkeepalive_s = 1.0\nkeepalive_timeout_s = 1.0\n")
    victim = subprocess.Popen([sys.executable, "-P", "-c", GREEDY_CLIENT, running.address], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert victim.stdout is not None
        assert victim.stdout.readline() == b"streaming\n"
        with connect(running.address) as server:
            with pytest.raises(BudgetError, match="max_streams = 1"):
                next(server.stream(Recipe(), patch=(8, 20, 20), batch_size=1))
            victim.send_signal(number)
            assert seconds_until_served(server) < within_s
    finally:
        victim.kill()
        victim.communicate()


def test_a_client_that_pauses_is_not_taken_for_dead(serve: Callable[..., Any], toy_dataset: Path) -> None:
    running = serve(toy_dataset, config="[listen]\nkeepalive_s = 0.2\nkeepalive_timeout_s = 1\n")
    with connect(running.address) as server:
        stream = server.stream(RECIPE, patch=(24, 40, 40), batch_size=8, steps=200, reconnect_s=0.0)
        next(stream)
        pause_until = time.monotonic() + 3  # longer than a ping may take, with full buffers
        while time.monotonic() < pause_until:
            server.dataset()
        assert sum(1 for _ in stream) == 199
        stream.close()


def seconds_until_served(server: Any) -> float:
    """How long until a stream is admitted; asks again and again."""
    begun = time.monotonic()
    while time.monotonic() - begun < 30:
        try:
            next(server.stream(Recipe(), patch=(8, 20, 20), batch_size=1, steps=1))
        except BudgetError:
            continue
        break
    return time.monotonic() - begun


def test_a_truncated_volume_ends_the_streams_that_need_it_and_no_others_where_none_may_be_lost(
    serve: Callable[..., Any], toy_dataset: Path, tmp_path: Path
) -> None:
    hurt = tmp_path / "hurt.zarr"
    shutil.copytree(toy_dataset, hurt)
    running = serve(hurt, config="[quarantine]\nmax_volumes = 0\n")
    for path in (hurt / "case_2").rglob("*"):
        if path.is_file() and path.suffix != ".json":
            os.truncate(path, path.stat().st_size - 5)
    with connect(running.address) as server:
        with pytest.raises(VolumeError, match="case_2") as caught:
            for _ in server.stream(RECIPE, patch=(8, 20, 20), batch_size=3, steps=10):
                pass
        assert str(tmp_path) not in str(caught.value)
        assert server.volume("case_1").image.shape == (1, 18, 41, 57)
        # one sample at a time: those of the whole volumes go on
        served = 0
        for index in range(12):
            try:
                patch = server.sample(RECIPE, index=index, patch=(8, 20, 20))
            except VolumeError:
                continue
            assert patch.sample.volume != "case_2"
            served += 1
        assert served == 8


def test_bad_requests_through_the_client_leave_the_server_alive(serve: Callable[..., Any], toy_dataset: Path) -> None:
    running = serve(toy_dataset)
    with connect(running.address) as server:
        for how in (
            {"patch": (800, 20, 20)},
            {"batch_size": 10**6},
            {"start": 2**63},
            {"image_dtype": "uint8"},
            {"recipe": Recipe(noise={"std": [float("nan"), 1]})},
            {"recipe": Recipe(noise={"std": [-2, -1]})},
            {"recipe": Recipe(affine={"scale": [1.2, 0.8]})},
            {"recipe": Recipe(labels={"keep": ["spleen"]})},
        ):
            recipe = how.pop("recipe", Recipe())
            with pytest.raises(AugError) as caught:
                next(server.stream(recipe, **{"patch": (8, 20, 20), "batch_size": 2} | how))
            assert type(caught.value).exit_code in (64, 5), caught.value
            assert len(str(caught.value)) > 30
        assert len(list(server.stream(Recipe(), patch=(8, 20, 20), batch_size=2, steps=3))) == 3


@pytest.mark.slow
def test_sixty_four_streams_are_served_fairly_or_refused_by_the_name_of_the_budget(serve: Callable[..., Any], toy_dataset: Path) -> None:
    how: dict[str, Any] = {"patch": (8, 20, 20), "batch_size": 4, "seed": 5, "transport": "grpc", "prefetch": 1}
    running = serve(toy_dataset, config="[streams]\nmax_streams = 64\n")
    counts = [0] * 64
    begun, over = threading.Event(), threading.Event()
    with connect(running.address) as server:
        streams = [server.stream(RECIPE, **how) for _ in range(64)]

        def consume(k: int) -> None:
            while not over.is_set():
                next(streams[k])
                counts[k] += 1
                if begun.is_set() and counts[k] >= before[k] + 60:
                    over.set()

        threads = [threading.Thread(target=consume, args=(k,)) for k in range(64)]
        for thread in threads:
            thread.start()
        deadline = time.monotonic() + 60
        while min(counts) < 5:  # this process starts 64 threads one after the other: its own unfairness, not the server's
            assert time.monotonic() < deadline
            time.sleep(0.005)
        before = list(counts)
        begun.set()
        for thread in threads:
            thread.join()
        assert min(after - first for after, first in zip(counts, before, strict=True)) >= 15  # the fastest has 60
        with pytest.raises(BudgetError, match=r"streams\.max_streams = 64"):
            next(server.stream(RECIPE, **how))
        for stream in streams:
            stream.close()


@pytest.mark.slow
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
