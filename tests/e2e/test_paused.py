"""Servers that are stopped and continued (SIGSTOP, SIGCONT): their connections stay, and nothing comes."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from augclient import Recipe, connect
from augclient.errors import StateError

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("nothing_is_left")]

RECIPE = Recipe(crop={"mode": "uniform"}, affine={"rotate_deg": 10}, noise={"std": [1, 5]})
HOW: dict[str, Any] = {"patch": (8, 20, 20), "batch_size": 4, "seed": 5}


@pytest.fixture
def pause(request: pytest.FixtureRequest) -> Callable[[Any, float], None]:
    """Stop a server now, and continue it after some seconds."""

    def stop(server: Any, for_s: float) -> None:
        server.signal(signal.SIGSTOP)
        resume = threading.Timer(for_s, server.signal, [signal.SIGCONT])
        resume.start()
        request.addfinalizer(resume.join)

    return stop


def test_a_paused_server_is_left_and_taken_back(
    warm_server: Callable[..., Any], toy_dataset: Path, taken: Callable[[Any], list[Any]], undisturbed: Callable[..., list[Any]]
) -> None:
    servers = [warm_server(toy_dataset) for _ in range(3)]
    got = []
    hurry: dict[str, Any] = {"step_timeout_s": 1.0, "hedge_s": 0.2}
    with connect([each.address for each in servers]) as server, server.stream(RECIPE, steps=400, **hurry, **HOW) as stream:
        for batch in stream:
            got.append(taken(batch))
            if batch.step in (20, 200):
                servers[batch.step // 100].signal(signal.SIGSTOP)
            if batch.step in (120, 300):
                servers[batch.step // 150].signal(signal.SIGCONT)
    for each in servers:
        each.signal(signal.SIGCONT)
    assert got == undisturbed(RECIPE, steps=400, **HOW)


@pytest.mark.parametrize("transport", ["grpc", "local"])
@pytest.mark.parametrize("timeout_s", [30.0, 0.4])  # of GetDataset, by which the local road begins
def test_a_single_paused_server_is_waited_for(
    warm_server: Callable[..., Any],
    toy_dataset: Path,
    taken: Callable[[Any], list[Any]],
    undisturbed: Callable[..., list[Any]],
    pause: Callable[[Any, float], None],
    transport: str,
    timeout_s: float,
) -> None:
    running = warm_server(toy_dataset)
    got = []
    how = HOW | {"steps": 100, "prefetch": 1}
    with (
        connect(running.address, timeout_s=timeout_s) as server,
        server.stream(RECIPE, transport=transport, step_timeout_s=0.3, **how) as stream,
    ):
        for batch in stream:
            got.append(taken(batch))
            if batch.step in (20, 60):
                pause(running, 1.2 if batch.step == 20 else 0.1)  # beyond every deadline, and within
        del batch
        assert stream.transport == transport
    assert got == undisturbed(RECIPE, **how)
    running.wait_idle()


def test_batches_held_while_their_server_is_paused_stay_what_they_were_and_their_slots_come_back(
    warm_server: Callable[..., Any], toy_dataset: Path, taken: Callable[[Any], list[Any]], undisturbed: Callable[..., list[Any]]
) -> None:
    running = warm_server(toy_dataset)
    with (
        connect(running.address) as server,
        server.stream(RECIPE, transport="local", step_timeout_s=0.3, steps=20, **HOW) as stream,
    ):
        kept = [next(stream) for _ in range(4)]
        running.signal(signal.SIGSTOP)
        dropped = kept.pop()  # its lease is returned to a server that does not read
        got = [*map(taken, kept), taken(dropped)]
        del dropped
        threading.Timer(1.0, running.signal, [signal.SIGCONT]).start()
        got += [taken(batch) for batch in stream]
        assert running.held()["leased"] >= 3  # on the ring of the stream that was left
        assert [*map(taken, kept)] == got[:3]
        kept.clear()
    assert got == undisturbed(RECIPE, steps=20, **HOW)
    running.wait_idle()


@pytest.mark.parametrize("transport", ["grpc", "local"])
def test_a_stream_from_a_paused_server_closes_at_once(warm_server: Callable[..., Any], toy_dataset: Path, transport: str) -> None:
    running = warm_server(toy_dataset)
    with connect(running.address) as server:
        stream = server.stream(RECIPE, transport=transport, step_timeout_s=0.2, prefetch=1, **HOW)
        next(stream)
        running.signal(signal.SIGSTOP)
        begun = time.monotonic()
        closer = threading.Timer(0.7, stream.close)  # it is lost by then, and called again
        closer.start()
        with pytest.raises(StateError, match="closed while it waited for batch"):
            list(stream)
        closer.join()
        assert time.monotonic() - begun < 10  # GetDataset may take 30 s
    running.signal(signal.SIGCONT)
    running.wait_idle()
