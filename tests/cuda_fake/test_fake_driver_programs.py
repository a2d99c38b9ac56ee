"""Programs of recipe steps on the fake driver: order, bytes, memory. None of this proves nvcc's code or any speed."""

from __future__ import annotations

import pytest

pytestmark = [pytest.mark.timeout(900), pytest.mark.slow]

CLAIMS = (
    "random_programs_have_the_cpus_bytes",
    "samples_share_memory_that_has_room_for_one",
    "launches_are_one_per_stage_and_three_per_measurement",
    "programs_that_do_not_fit_are_refused",
    "each_call_fails_once",
    "the_device_is_lost_at_each_launch",
    "a_negative_zero_goes_through_the_sampling_as_it_is",
    "textures_feed_programs_too",
)


@pytest.mark.parametrize("claim", CLAIMS)
def test_without_proof_of_code_or_speed_on_the_fake_driver(run_scenario, claim):
    run_scenario("programs", claim)


def test_random_programs_have_the_cpus_bytes_on_three_fake_devices(run_scenario):
    run_scenario("programs", "random_programs_have_the_cpus_bytes_on_three_devices", FAKE_CUDA_DEVICES="3")
