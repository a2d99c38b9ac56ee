"""Child processes on a backend of Keras, which is chosen once in the life of a process."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Child = Callable[..., str]


@pytest.fixture(scope="session")
def child() -> Child:
    """(backend, script of this folder, its arguments...) -> what it printed."""

    def run(backend: str, script: str, *arguments: str) -> str:
        environment = os.environ | {
            "KERAS_BACKEND": backend,
            "CUDA_VISIBLE_DEVICES": "",
            "TF_CPP_MIN_LOG_LEVEL": "3",
            "OMP_NUM_THREADS": "1",
        }
        command = [sys.executable, "-P", str(Path(__file__).parent / script), *arguments]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, check=False)
        assert done.returncode == 0, f"{script} on {backend}:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
        return done.stdout

    return run
