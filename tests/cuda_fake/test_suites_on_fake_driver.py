"""The suites of every backend, run with `--backend cuda` on the fake driver. None of this proves nvcc's code or any speed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent.parent
# On a card check.sh runs all of them; here those that touch what is the backend's own, within half a minute.
SUITES = (
    "tests/kernel/test_backend_contract.py",
    "tests/kernel/test_augment_queue.py",
    "tests/kernel/test_warp.py",
    "tests/kernel/test_geometry_scipy.py",
    "tests/e2e/test_same_bytes.py",
)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_suites_of_every_backend_pass_without_proof_of_code_or_speed_on_the_fake_driver(fake_driver):
    environment = {**fake_driver, "AUGSERVER_FATBIN": fake_driver["FAKE_CUDA_FATBIN"], "FAKE_CUDA_MEMORY": str(1 << 30)}
    command = [sys.executable, "-P", "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "--backend", "cuda", *SUITES]
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert "skipped" not in done.stdout, done.stdout[-3000:]
