"""The command itself, killed by the system: nothing of the process is left, and the same command goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from augtrain.fit import FitResult

COMMAND = """
import importlib.util, os, signal, sys
spec = importlib.util.spec_from_file_location("tiny_network", {tiny!r})
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
import augtrain.models, augtrain.fit.learner
augtrain.models.NETWORKS = augtrain.fit.learner.NETWORKS = module.NETWORKS
from pathlib import Path
real = Path.replace
def replace(fresh, target):
    if target.name == "step_{at:09d}.npz":
        os.kill(os.getpid(), signal.SIGKILL)
    real(fresh, target)
Path.replace = replace
from augtrain.cli import main
main(sys.argv[1:])
"""


@pytest.mark.slow
def test_the_command_killed_before_a_checkpoint_takes_its_name_goes_on_to_the_same_losses(
    undisturbed: FitResult, read_losses: Callable[[Path], Any], address: str, tmp_path: Path, tiny_network_file: Path, short_run: Any
) -> None:
    table = short_run(address, tmp_path / "run")
    table["optimizer"]["deterministic"] = True
    config = tmp_path / "run.toml"
    config.write_text(toml(table))

    def run(killed_at: int) -> subprocess.CompletedProcess[str]:
        command = COMMAND.format(tiny=str(tiny_network_file), at=killed_at)
        environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
        arguments = [sys.executable, "-P", "-c", command, "fit", str(config), "--json"]
        return subprocess.run(arguments, capture_output=True, text=True, env=environment, timeout=200)

    assert run(8).returncode == -signal.SIGKILL
    done = run(999)
    assert done.returncode == 0, done.stderr
    assert "going on at step 5 " in done.stderr  # of the validation; the checkpoint of step 8 has no name yet
    result = json.loads(done.stdout)
    assert (result["steps"], result["finished"]) == (12, True)
    np.testing.assert_allclose(read_losses(tmp_path / "run"), read_losses(undisturbed.out), rtol=1e-4)


def toml(table: dict[str, Any]) -> str:
    """A mapping as TOML."""
    return "\n".join(f"{key} = {inline(value)}" for key, value in table.items())


def inline(value: Any) -> str:
    """JSON's values are TOML's but for tables."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {inline(each)}" for key, each in value.items()) + "}"
    return json.dumps(value)
