"""`augserver doctor` on the fake driver: what it says of a device. None of this proves nvcc's code or any speed."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

DOCTOR = [sys.executable, "-P", "-c", "from augserver.cli import main; main()", "doctor", "--json"]


def findings(environment: dict[str, str]) -> dict[str, Any]:
    done = subprocess.run(DOCTOR, env=environment, capture_output=True, text=True, timeout=100, check=True)
    return {each["check"]: each for each in json.loads(done.stdout)["findings"]}


@pytest.mark.slow
def test_a_device_is_named_with_its_capability_and_memory_on_the_fake_driver(fake_driver: dict[str, str]) -> None:
    found = findings(fake_driver)
    assert found["cuda driver"]["well"]
    assert found["pycuda"]["well"]
    assert found["cuda device 0"]["well"]
    assert "compute capability" in found["cuda device 0"]["found"]
    assert "0.1 GB" in found["cuda device 0"]["found"]  # FAKE_CUDA_MEMORY


@pytest.mark.slow
def test_an_old_device_and_none_are_told_apart_on_the_fake_driver(fake_driver: dict[str, str]) -> None:
    old = findings({**fake_driver, "FAKE_CUDA_CAPABILITY": "6.1"})["cuda device 0"]
    assert (old["well"], old["cause"]) == (False, "the kernels are compiled for 7.5 and newer")
    none = findings({**fake_driver, "FAKE_CUDA_DEVICES": "0"})["cuda devices"]
    assert "CUDA_VISIBLE_DEVICES" in none["next_step"]
