"""The same run on every backend of Keras, in processes of their own; and networks of planes, of several outputs, in 16 bits."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from augtrain.fit import FitConfig, fit

CHILD = """
import json, sys
sys.path.insert(0, sys.argv[1])
import augtrain.models, augtrain.fit.learner
from tiny_network import NETWORKS
augtrain.models.NETWORKS = augtrain.fit.learner.NETWORKS = NETWORKS
from augtrain.fit import FitConfig, fit
table = json.loads(sys.argv[2])
class Killed(BaseException): pass
def kill(step, loss):
    if step == 6: raise Killed
try:
    fit(FitConfig.from_table(table), on_step=kill)
except Killed:
    fit(FitConfig.from_table(table))
    fit(FitConfig.from_table(table, {"out": table["out"] + "-whole"}))
"""


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["torch"])
def test_a_run_learns_and_goes_on_after_a_kill_on_another_backend(
    short_run: Any, address: str, tmp_path: Path, tiny_network_file: Path, read_losses: Callable[[Path], Any], backend: str
) -> None:
    table = {**short_run(address, tmp_path / "run"), "steps": 8}
    environment = {**os.environ, "KERAS_BACKEND": backend, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    child = subprocess.run(
        [sys.executable, "-P", "-c", CHILD, str(tiny_network_file.parent), json.dumps(table)],
        capture_output=True,
        text=True,
        env=environment,
        timeout=280,
    )
    assert child.returncode == 0, child.stderr
    losses = read_losses(tmp_path / "run")
    np.testing.assert_allclose(losses, read_losses(tmp_path / "run-whole"), rtol=1e-4)
    assert losses[-2:].mean() < 0.9 * losses[0]


@pytest.mark.slow
@pytest.mark.usefixtures("tiny_network")
@pytest.mark.parametrize(
    "changes",
    [
        {"network": "planes", "batches": {"patch": [3, 15, 17], "size": 2}},
        {"network.heads": 2, "loss": {"name": "multi_resolution", "loss": "iou", "alphas": [1, 0.3], "trainable": True}},
        {"optimizer.precision": "mixed_float16", "optimizer.clip_norm": 1.0},
    ],
    ids=["planes", "heads", "float16"],
)
def test_every_kind_of_network_learns_and_is_validated(
    make_config: Callable[..., FitConfig], read_losses: Callable[[Path], Any], changes: dict[str, Any]
) -> None:
    result = fit(make_config({"validation.every": 0, "recipe.crop": {"mode": "uniform", "pad": True}, **changes}))
    losses = read_losses(result.out)
    assert losses[-3:].mean() < losses[:2].mean()
    assert result.best is not None
    assert result.best.step == 12
    assert (result.out / "prediction.png").exists()
