"""The check that runs on cards, run here without one: the script itself works, and writes no figure. Proves no code and no speed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent.parent
RESULTS = REPOSITORY / "tests" / "benchmarks" / "RESULTS.md"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_dry_run_of_the_gpu_check_passes_on_the_fake_driver_and_writes_no_figures(fake_driver):
    before = RESULTS.read_bytes() if RESULTS.exists() else None
    environment = {**fake_driver, "PYTHON": sys.executable, "FAKE_CUDA_MEMORY": str(1 << 30)}
    del environment["LD_LIBRARY_PATH"]
    done = subprocess.run(
        [REPOSITORY / "tests" / "gpu" / "check.sh", "--dry-run"], env=environment, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    assert "11 passed" in done.stdout
    assert "no figures" in done.stdout
    assert done.stdout.rstrip().endswith("all passed")
    assert (RESULTS.read_bytes() if RESULTS.exists() else None) == before
