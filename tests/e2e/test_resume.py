"""A stream goes on after its server went away: without a gap, without a repeat, with the same bytes."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from augclient import Recipe, connect
from augclient.errors import StateError

RECIPE = Recipe(crop={"mode": "uniform"}, affine={"rotate_deg": 10}, noise={"std": [1, 5]})
HOW: dict[str, Any] = {"patch": (8, 20, 20), "batch_size": 2, "seed": 5}


def taken(batch: Any) -> tuple[int, list[int], bytes, bytes]:
    return batch.step, [sample.index for sample in batch.samples], batch.image.tobytes(), batch.label.tobytes()


@pytest.fixture(scope="module")
def wanted(serve: Callable[..., Any], toy_dataset: Path) -> list[Any]:
    """Twelve batches without an interruption."""
    with connect(serve(toy_dataset).address) as server, server.stream(RECIPE, steps=12, **HOW) as stream:
        return [taken(batch) for batch in stream]


def test_from_a_token_after_the_server_was_restarted(serve: Callable[..., Any], toy_dataset: Path, wanted: list[Any]) -> None:
    first = serve(toy_dataset)
    with connect(first.address) as server, server.stream(RECIPE, steps=12, **HOW) as stream:
        got = [taken(next(stream)) for _ in range(5)]
        token = json.loads(json.dumps(stream.state_dict()))
    first.stop()
    second = serve(toy_dataset)
    with connect(second.address) as server, server.stream(RECIPE, steps=12, state=token, **HOW) as stream:
        got += [taken(batch) for batch in stream]
    assert got == wanted


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_by_itself_when_the_server_comes_back(serve: Callable[..., Any], toy_dataset: Path, wanted: list[Any], number: int) -> None:
    first = serve(toy_dataset)
    with connect(first.address) as server, server.stream(RECIPE, steps=12, **HOW) as stream:
        got = [taken(next(stream)) for _ in range(3)]
        first.signal(number)
        first.wait()
        serve(toy_dataset, address=first.address)  # the port of a server that just died can be bound at once
        got += [taken(batch) for batch in stream]
    assert got == wanted


def test_a_token_of_another_dataset_is_refused(serve: Callable[..., Any], toy_dataset: Path, one_volume: Path) -> None:
    with connect(serve(toy_dataset).address) as server, server.stream(RECIPE, steps=12, **HOW) as stream:
        next(stream)
        token = stream.state_dict()
    with connect(serve(one_volume).address) as server, pytest.raises(StateError):
        server.stream(RECIPE, steps=12, state=token, **HOW)
