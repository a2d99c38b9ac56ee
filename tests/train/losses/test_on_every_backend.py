"""Every suite of this folder, on each backend of Keras: a backend is chosen once in the life of a process.

KERAS_BACKEND=jax pytest tests/train/losses/suite_formulas.py      one of them by hand
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("backend", ["tensorflow", "jax", "torch"])
def test_losses_hold_on(backend: str) -> None:
    suites = sorted(str(path) for path in FOLDER.glob("suite_*.py"))
    assert len(suites) == 5
    environment = os.environ | {
        "KERAS_BACKEND": backend,
        "CUDA_VISIBLE_DEVICES": "",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "OMP_NUM_THREADS": "1",
        "XLA_FLAGS": "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true",  # JAX compiles more than it computes
    }
    command = [sys.executable, "-P", "-m", "pytest", "-q", "-p", "no:cacheprovider", *suites]
    child = subprocess.run(command, env=environment, cwd=FOLDER, capture_output=True, text=True, timeout=580, check=False)
    assert child.returncode == 0, f"{backend}:\n{child.stdout[-8000:]}\n{child.stderr[-2000:]}"
    assert " passed" in child.stdout
    assert "skipped" not in child.stdout
