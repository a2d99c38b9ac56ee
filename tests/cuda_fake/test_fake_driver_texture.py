"""The texture sampler's plumbing on the fake driver. None of this proves nvcc's code, a card's filtering, or any speed."""

from __future__ import annotations

import pytest

pytestmark = [pytest.mark.timeout(900), pytest.mark.slow]

CLAIMS = (
    "filtering_is_within_the_stated_tolerance_of_the_exact_sampler",
    "whole_steps_give_the_voxels_themselves",
    "large_planes_go_up_row_by_row",
    "textures_have_a_budget_of_their_own",
    "a_batch_has_one_sampler_and_the_cpu_has_only_the_exact_one",
)


@pytest.mark.parametrize("claim", CLAIMS)
def test_without_proof_of_code_or_speed_on_the_fake_driver(run_scenario, claim):
    run_scenario("texture", claim)
