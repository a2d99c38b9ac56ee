"""The load of load.py for some seconds: what would leak or mix up bytes at once shows here, what is slow to show needs its ten minutes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_mixed_clients_get_their_bytes_and_leave_nothing_behind() -> None:
    script = Path(__file__).with_name("load.py")
    command = [sys.executable, "-P", str(script), "--minutes", "0.15", "--clients", "8"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    assert "WRONG" not in done.stdout
    assert int(done.stdout.split(" min: ")[1].split()[0]) > 20  # batches
