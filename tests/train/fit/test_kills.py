"""A run that is killed, at whatever moment, goes on as if it had not been: the same batches, the same losses.

Losses are compared to 1e-4 of their size: the backend's threads sum in an order of their own.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from augclient.stream import Stream
from augtrain.fit import FitConfig, FitResult, fit
from augtrain.fit import checkpoint as checkpoint_module

STEPS = 12
CLOSE = {"rtol": 1e-4, "atol": 0.0}

pytestmark = pytest.mark.usefixtures("tiny_network")


class Killed(BaseException):
    """Ends a run as SIGKILL would: nothing catches it, and no `finally` of a run writes anything."""


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, bytes]]:
    """(step, image) of every batch that a run took, in order."""
    taken: list[tuple[int, bytes]] = []
    real: Any = Stream.__next__  # a property that gives the function

    def record(stream: Stream) -> Any:
        batch = real.fget(stream)()
        if batch.image.shape[0] > 1:  # a whole volume comes alone
            taken.append((batch.step, batch.image.tobytes()))
        return batch

    monkeypatch.setattr(Stream, "__next__", record)
    return taken


def run_killed_at(config: FitConfig, step: int) -> None:
    def kill(at: int, loss: float) -> None:
        if at == step:
            raise Killed

    with pytest.raises(Killed):
        fit(config, on_step=kill)


@pytest.mark.slow
def test_killed_at_random_steps_it_goes_on_with_the_same_batches_losses_and_schedules(
    make_config: Callable[..., FitConfig], read_losses: Any, batches: list[Any], tmp_path: Path
) -> None:
    """Augmentation begins where two steps do not lower the loss by a fifth; the rate halves where a validation does not halve it."""
    changes = {
        "augmentation": {"start": "plateau", "window": 2, "patience": 1, "min_delta": 0.2},
        "learning_rate": {"rule": "plateau", "min_delta": 0.5, "patience": 1},
    }
    whole = fit(make_config({**changes, "out": str(tmp_path / "whole")}))
    wanted = dict(batches)
    assert sorted(wanted) == list(range(STEPS))
    config = make_config(changes)
    for step in sorted(random.Random(6).sample(range(STEPS), 3)):
        batches.clear()
        run_killed_at(config, step)
        assert all(wanted[number] == image for number, image in batches)
    result = fit(config)
    np.testing.assert_allclose(read_losses(result.out), read_losses(whole.out), **CLOSE)
    assert result.augmented_from == whole.augmented_from
    assert 0 < (result.augmented_from or 0) < STEPS
    rates = [np.loadtxt(each.out / "history.csv", delimiter=",", skiprows=1)[:, 2] for each in (result, whole)]
    np.testing.assert_array_equal(*rates)
    assert len(set(rates[0])) > 1
    assert result.best is not None
    assert whole.best is not None
    assert result.best.step == whole.best.step


@pytest.mark.slow
def test_killed_while_a_checkpoint_is_written_it_goes_on_from_the_one_before(
    make_config: Callable[..., FitConfig], read_losses: Any, undisturbed: FitResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, saved, real = make_config(), [], np.savez

    def die_half_way(file: Any, **arrays: Any) -> None:
        saved.append(len(saved))
        if len(saved) == 3:
            file.write(b"PK\x03\x04 half a file")
            file.flush()
            raise Killed
        real(file, **arrays)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint_module.np, "savez", die_half_way)
        with pytest.raises(Killed):
            fit(config)
    assert sorted(path.name for path in (config.out / "checkpoints").iterdir()) == [
        ".writing.npz",
        "step_000000004.npz",
        "step_000000005.npz",
    ]
    fit(config)
    np.testing.assert_allclose(read_losses(config.out), read_losses(undisturbed.out), **CLOSE)


@pytest.mark.slow
def test_a_stop_signal_leaves_a_checkpoint_and_the_same_command_goes_on(
    make_config: Callable[..., FitConfig], read_losses: Any, undisturbed: FitResult
) -> None:
    config = make_config({"checkpoints.every": 1000})

    def stop(at: int, loss: float) -> None:
        if at == 6:
            os.kill(os.getpid(), signal.SIGINT)

    stopped = fit(config, on_step=stop)
    assert (stopped.finished, stopped.steps) == (False, 7)
    assert fit(config).finished
    np.testing.assert_allclose(read_losses(config.out), read_losses(undisturbed.out), **CLOSE)


@pytest.mark.slow
def test_a_server_that_is_killed_and_comes_back_changes_nothing(
    make_config: Callable[..., FitConfig], read_losses: Any, undisturbed: FitResult, torsos: Path
) -> None:
    servers = [start_child(torsos, "127.0.0.1:0")]
    address = servers[0][1]

    def kill(at: int, loss: float) -> None:
        if at in (2, 7):
            servers[-1][0].kill()
            servers[-1][0].wait()
            servers.append(start_child(torsos, address))

    try:
        result = fit(make_config({"server": address}), on_step=kill)
    finally:
        for process, _ in servers:
            process.kill()
            process.communicate()
    assert len(servers) == 3
    np.testing.assert_allclose(read_losses(result.out), read_losses(undisturbed.out), **CLOSE)


def start_child(dataset: Path, address: str) -> tuple[subprocess.Popen[str], str]:
    """`augserver serve` in a process of its own, and its address."""
    command = [sys.executable, "-P", "-c", "from augserver.cli import main; main()", "serve", str(dataset), "--address", address]
    process = subprocess.Popen([*command, "--backend", "cpu"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line.startswith("serving on ")
    return process, line.split()[2]
