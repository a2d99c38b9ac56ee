"""Failures on the fake driver: every call, plain and sticky. None of this proves nvcc's code or any speed."""

from __future__ import annotations

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
