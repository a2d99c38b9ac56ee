"""The queue on the fake driver: order, caching, back-pressure and bytes. None of this proves nvcc's code or any speed."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.timeout(900)  # the first test builds pycuda, once

CLAIMS = (
    "queue_keeps_the_order_of_pushes",
    "a_volume_is_uploaded_once_for_requests_at_the_same_time",
    "a_full_queue_blocks_the_submitter",
    "an_array_that_may_be_written_is_uploaded_for_each_batch",
    "a_volume_that_died_makes_room",
    "scattered_room_is_put_together",
    "refusals_name_what_is_needed",
    "pageable_results_are_allowed_when_configured",
    "pinned_arrays_are_freed_when_their_last_view_dies",
    "results_go_straight_into_memory_shared_with_another_process",
    "volumes_in_pinned_memory_go_up_without_a_copy_between",
    "a_forked_child_is_refused_at_once_and_the_parent_goes_on",
    "a_process_that_forgets_to_close_ends_by_itself",
)


@pytest.mark.slow
@pytest.mark.parametrize("claim", CLAIMS)
def test_without_proof_of_code_or_speed_on_the_fake_driver(run_scenario, claim):
    run_scenario("order", claim)


@pytest.mark.slow
def test_200_mixed_batches_have_the_cpus_bytes_under_random_delays_on_the_fake_driver(run_scenario):
    run_scenario("order", "two_hundred_batches")


@pytest.mark.slow
def test_200_mixed_batches_have_the_cpus_bytes_on_three_fake_devices(run_scenario):
    run_scenario("order", "two_hundred_batches_on_three_devices", FAKE_CUDA_DEVICES="3")


@pytest.mark.slow
def test_volumes_in_pinned_memory_serve_three_fake_devices(run_scenario):
    run_scenario("order", "volumes_in_pinned_memory_serve_three_devices", FAKE_CUDA_DEVICES="3")
