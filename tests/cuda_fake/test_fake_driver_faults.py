"""Failures on the fake driver: every call, plain and sticky. None of this proves nvcc's code or any speed."""

from __future__ import annotations

import ctypes.util
import subprocess
import sys

import pytest

pytestmark = [pytest.mark.timeout(900), pytest.mark.slow]

CLAIMS = (
    "each_call_fails_once",
    "each_texture_call_fails_once",
    "the_device_is_lost_at_each_call",
    "the_device_is_lost_at_random_moments",
    "a_batch_that_fails_in_the_queue_leaves_its_place_to_the_next",
    "a_start_without_memory_names_the_settings",
    "a_machine_that_cannot_says_what_is_missing",
)


@pytest.mark.parametrize("claim", CLAIMS)
def test_without_proof_of_code_or_speed_on_the_fake_driver(run_scenario, claim):
    run_scenario("faults", claim)


def test_a_lost_device_fails_what_is_in_flight_and_the_process_ends_with_75_on_the_fake_driver(run_scenario):
    run_scenario("faults", "a_lost_device_fails_what_is_in_flight_and_the_process_ends_with_75", expect=75)


def test_a_device_that_is_lost_takes_the_other_two_along_on_the_fake_driver(run_scenario):
    run_scenario("faults", "a_device_that_is_lost_takes_the_other_two_along", FAKE_CUDA_DEVICES="3")


WITHOUT_DRIVER = """
from augserver.errors import BackendError
from augserver.kernel import open_backend

assert open_backend("auto", threads=1).name == "cpu"
try:
    open_backend("cuda")
except BackendError as error:
    print(error)
"""


def test_pycuda_without_a_driver_says_what_to_install_and_auto_takes_the_cpu(fake_driver):
    if ctypes.util.find_library("cuda") is not None:
        pytest.skip("this machine has a driver")
    environment = {name: value for name, value in fake_driver.items() if name != "LD_LIBRARY_PATH"}
    done = subprocess.run([sys.executable, "-P", "-c", WITHOUT_DRIVER], env=environment, capture_output=True, text=True, check=True)
    assert "no NVIDIA driver" in done.stdout
    assert "--gpus all" in done.stdout
