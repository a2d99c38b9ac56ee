"""`augserver demo`, from torsos to a falling loss, and how it ends when it cannot."""

from __future__ import annotations

import importlib.util
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest
from augclient import connect
from click.testing import CliRunner
from PIL import Image
from rich.console import Console

from augserver.cli import first_training
from augserver.cli.demo import _train, demo
from augserver.cli.processes.child_server import child_server
from augserver.errors import AugError, ConfigError, UnavailableError
from augserver.store import Dataset

COMMAND = [sys.executable, "-P", "-c", "from augserver.cli import main; main()", "demo"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder of a whole run, and what it printed."""
    out = tmp_path_factory.mktemp("demo")
    run = subprocess.run([*COMMAND, "--out", str(out), "--steps", "30"], capture_output=True, text=True, timeout=240, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    return out, run.stdout


@pytest.mark.slow
def test_a_run_leaves_a_dataset_and_a_picture_and_prints_the_figures(finished: tuple[Path, str]) -> None:
    out, printed = finished
    dataset = Dataset.open(out / "torsos.zarr")
    assert dataset.volumes == tuple(f"torso_{k}" for k in range(6))
    assert dataset.classes == {0: "background", 1: "liver", 2: "bladder", 3: "lungs", 4: "kidneys", 5: "bone"}
    with Image.open(out / "slices.png") as picture:
        picture.load()
        assert picture.width > 1000
        assert len(np.unique(np.asarray(picture.convert("L")))) > 100
    assert re.search(r"kernel, in process\D+[1-9]\d*\D+[1-9]\d*", printed)
    assert re.search(r"server to client, gRPC\D+[1-9]\d*\D+[1-9]\d*", printed)
    first, last = map(float, re.findall(r"first step (\S+), mean of the last 3 steps (\S+)", printed)[0])
    assert last < first


@pytest.mark.slow
def test_a_server_serves_while_the_block_runs_and_is_gone_after(finished: tuple[Path, str], tmp_path: Path) -> None:
    before = set(psutil.Process().children())
    with child_server(finished[0] / "torsos.zarr", tmp_path / "log") as ready:
        [process] = set(psutil.Process().children()) - before
        assert ready.volumes == 6
        with connect(ready.address) as server:
            assert len(server.dataset().volumes) == 6
    assert not process.is_running()


@pytest.mark.slow
def test_sigterm_in_the_middle_leaves_no_server(finished: tuple[Path, str]) -> None:
    run = subprocess.Popen([*COMMAND, "--out", str(finished[0]), "--steps", "100000"], stdout=subprocess.PIPE, text=True, bufsize=1)
    with run:
        assert run.stdout is not None
        assert any(line.startswith("serving ") for line in iter(run.stdout.readline, ""))
        servers = psutil.Process(run.pid).children(recursive=True)
        run.send_signal(signal.SIGTERM)
        run.communicate(timeout=60)
    assert run.returncode == 128 + signal.SIGTERM
    assert servers
    assert psutil.wait_procs(servers, timeout=20)[1] == []


def test_a_server_that_cannot_start_is_quoted(tmp_path: Path) -> None:
    with (
        pytest.raises(UnavailableError, match=r"the server ended with code \d+ before it was ready: augserver: .*no-such"),
        child_server(tmp_path / "no-such.zarr", tmp_path / "log"),
    ):
        pytest.fail("it is not ready")


def test_without_tensorflow_it_says_how_to_go_on_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    result = CliRunner().invoke(demo, ["--out", str(tmp_path / "out")])
    assert isinstance(result.exception, ConfigError)
    assert 'pip install "augserver-client[tensorflow-cpu]", or run augserver demo --no-train' in str(result.exception)
    assert not (tmp_path / "out").exists()


def test_a_loss_that_does_not_fall_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(first_training, "train", lambda address, classes, steps, report: [1.0] * steps)
    with pytest.raises(AugError, match=r"the loss did not fall: 1.000 at first, 1.000 at the end"):
        _train(Console(quiet=True), "127.0.0.1:1", 10)
