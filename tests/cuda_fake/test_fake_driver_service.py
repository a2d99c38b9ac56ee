"""The server with the CUDA backend, on the fake driver. None of this proves nvcc's code or any speed."""

from __future__ import annotations

import pytest

pytestmark = [pytest.mark.timeout(900), pytest.mark.slow]

CLAIMS = (
    "a_stream_has_the_cpus_bytes_from_pinned_volumes_that_come_and_go",
    "one_stream_fills_the_queue",
    "what_the_config_says_wins",
)


@pytest.mark.parametrize("claim", CLAIMS)
def test_without_proof_of_code_or_speed_on_the_fake_driver(run_scenario, claim):
    run_scenario("service", claim)
