"""In order, ahead by so much and no more, fair, and gone when closed."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from augserver.errors import BudgetError, UnavailableError, VolumeError
from augserver.pipeline.scheduler import Scheduler, StreamSpec

Make = Callable[..., Any]


def take(stream: Any, count: int) -> list[tuple[int, list[float]]]:
    """Step and first voxel of each sample of the next batches."""
    taken = []
    for _ in range(count):
        with stream.next_batch() as batch:
            taken.append((batch.step, batch.image[:, 0, 0, 0, 0].tolist()))
    return taken


def wait_until(condition: Callable[[], bool], lock_holder: Scheduler) -> None:
    """Wait for a state that no event announces; the deadline fails the test, the poll only paces it."""
    deadline = threading.Event()
    for _ in range(3000):
        if condition():
            return
        deadline.wait(0.01)
    raise AssertionError(f"state not reached: {lock_holder.statistics()}")


def test_batches_come_in_order_and_end(make_scheduler: Make, make_spec: Make) -> None:
    with make_scheduler(workers=3, look_ahead=4).open(make_spec(start=3, stop=8)) as stream:
        assert take(stream, 5) == [(step, [2 * step * 10 + 2 * step % 4, (2 * step + 1) * 10 + (2 * step + 1) % 4]) for step in range(3, 8)]
        assert stream.next_batch() is None
        assert stream.next_batch() is None


def test_no_more_than_the_look_ahead_is_made_before_it_is_asked_for(make_scheduler: Make, make_spec: Make, backend: Any) -> None:
    scheduler = make_scheduler(look_ahead=2, workers=2)
    with scheduler.open(make_spec(stop=100)) as stream:
        for _ in range(3):
            assert backend.entered.acquire(timeout=30)
        wait_until(lambda: scheduler.statistics().batches == 3, scheduler)
        assert scheduler.statistics().runnable == 0  # paused: back-pressure
        assert len(backend.calls) == 3
        batch = stream.next_batch()
        assert not backend.entered.acquire(timeout=0.05)  # held by the client: its slot is not free
        batch.release()
        assert backend.entered.acquire(timeout=30)
        wait_until(lambda: scheduler.statistics().batches == 4, scheduler)


def test_a_slot_is_not_reused_before_it_is_released(make_scheduler: Make, make_spec: Make) -> None:
    scheduler = make_scheduler(look_ahead=1, workers=1)
    with scheduler.open(make_spec(stop=20)) as stream:
        held = stream.next_batch()
        before = held.image.copy()
        with stream.next_batch() as other:
            assert other.step == 1
        wait_until(lambda: scheduler.statistics().runnable == 0 and scheduler.statistics().batches == 3, scheduler)
        assert (held.image == before).all()
        held.release()
        assert [step for step, _ in take(stream, 18)] == list(range(2, 20))


def test_streams_take_turns(make_scheduler: Make, make_spec: Make, backend: Any) -> None:
    scheduler = make_scheduler(look_ahead=3, workers=1)
    backend.gate.clear()
    greedy = scheduler.open(make_spec(start=0, stop=50))
    assert backend.entered.acquire(timeout=30)  # the worker is busy with the first batch of `greedy`, which is in line again
    modest = scheduler.open(make_spec(start=1000, stop=1050))
    backend.gate.set()
    wait_until(lambda: scheduler.statistics().batches == 8, scheduler)  # all slots of both are full
    assert ["modest" if call[0] >= 2000 else "greedy" for call in backend.calls] == ["greedy"] + ["greedy", "modest"] * 3 + ["modest"]
    greedy.close()
    modest.close()


def test_a_slow_consumer_does_not_hold_up_another(make_scheduler: Make, make_spec: Make) -> None:
    scheduler = make_scheduler()
    with scheduler.open(make_spec(stop=1000)) as stuck, scheduler.open(make_spec(stop=50)) as quick:
        held = stuck.next_batch()
        assert [step for step, _ in take(quick, 50)] == list(range(50))
        held.release()


def test_a_failing_sample_ends_its_stream_after_the_batches_before_it(make_scheduler: Make, make_spec: Make, store: Any) -> None:
    scheduler = make_scheduler(look_ahead=5)
    store.broken["d"] = VolumeError("volume 'd' is cut off")  # first in batch 1: samples 2 and 3
    with scheduler.open(make_spec()) as stream:
        assert [step for step, _ in take(stream, 1)] == [0]
        for _ in range(2):
            with pytest.raises(VolumeError, match="'d' is cut off"):
                stream.next_batch()
    store.broken.clear()
    with scheduler.open(make_spec()) as stream:  # the workers live
        assert len(take(stream, 10)) == 10


def test_an_unforeseen_exception_reaches_the_consumer_and_no_worker_dies(make_scheduler: Make, make_spec: Make, backend: Any) -> None:
    scheduler = make_scheduler(workers=1)
    backend.fail_at[0] = ZeroDivisionError("a bug")
    with scheduler.open(make_spec()) as stream, pytest.raises(ZeroDivisionError):
        stream.next_batch()
    backend.fail_at.clear()
    with scheduler.open(make_spec()) as stream:
        assert len(take(stream, 3)) == 3


def test_closing_gives_all_memory_back_even_while_a_batch_is_made(make_scheduler: Make, make_spec: Make, backend: Any) -> None:
    scheduler = make_scheduler(look_ahead=3, workers=2)
    backend.gate.clear()
    stream = scheduler.open(make_spec(stop=1000))
    assert backend.entered.acquire(timeout=30)
    assert backend.entered.acquire(timeout=30)
    stream.close()
    assert scheduler.statistics().streams == 0
    slots = scheduler.slots.statistics()
    assert (slots.rings, slots.filling, slots.ready, slots.leased) == (1, 2, 0, 0)  # it is being written to
    backend.gate.set()
    wait_until(lambda: scheduler.slots.statistics().reserved_bytes == 0, scheduler)
    assert scheduler.statistics().runnable == 0


def test_closing_while_a_batch_is_with_the_client_frees_its_slot_on_release(make_scheduler: Make, make_spec: Make) -> None:
    scheduler = make_scheduler()
    stream = scheduler.open(make_spec(stop=1))
    batch = stream.next_batch()
    stream.close()
    assert scheduler.slots.statistics().reserved_bytes == 64
    batch.release()
    batch.release()
    assert scheduler.slots.statistics().reserved_bytes == 0


def test_close_from_another_thread_wakes_a_waiting_consumer(make_scheduler: Make, make_spec: Make, backend: Any) -> None:
    backend.gate.clear()
    stream = make_scheduler().open(make_spec())
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(stream.next_batch)
        assert backend.entered.acquire(timeout=30)
        stream.close()
        with pytest.raises(UnavailableError, match="closed before its end"):
            waiting.result(30)


def test_a_stream_that_does_not_fit_the_slots_is_refused(make_scheduler: Make, make_spec: Make, backend: Any) -> None:
    scheduler = make_scheduler(look_ahead=2, slot_bytes=3 * 64)
    with scheduler.open(make_spec()):
        with pytest.raises(BudgetError, match=r"streams\.max_slot_bytes"):
            scheduler.open(make_spec())
        assert scheduler.statistics().streams == 1


def test_a_short_stream_takes_no_more_slots_than_it_has_steps(make_scheduler: Make, make_spec: Make) -> None:
    scheduler = make_scheduler(look_ahead=50)
    with scheduler.open(make_spec(stop=1)):
        assert scheduler.slots.statistics().reserved_bytes == 64


def test_an_empty_stream_ends_at_once(make_scheduler: Make, make_spec: Make) -> None:
    with make_scheduler().open(make_spec(start=5, stop=5)) as stream:
        assert stream.next_batch() is None


def test_a_closed_scheduler_opens_nothing_and_keeps_no_thread(make_scheduler: Make, make_spec: Make) -> None:
    before = set(threading.enumerate())
    scheduler = make_scheduler(workers=3)
    stream = scheduler.open(make_spec(stop=1000))
    scheduler.close()
    with pytest.raises(UnavailableError):
        stream.next_batch()
    with pytest.raises(UnavailableError, match="stopping"):
        scheduler.open(make_spec())
    assert scheduler.slots.statistics().reserved_bytes == 0
    assert set(threading.enumerate()) <= before


def test_batches_larger_than_the_cache_are_made_in_pieces(make_scheduler: Make, make_spec: Make, backend: Any) -> None:
    scheduler = make_scheduler(cache_bytes=2 * 60, workers=2)
    spec: StreamSpec = make_spec(stop=6, count=7)
    with scheduler.open(spec) as stream:
        taken = take(stream, 6)
    assert taken == [(s, [i * 10 + i % 4 for i in range(7 * s, 7 * s + 7)]) for s in range(6)]
    assert max(len({i % 4 for i in call}) for call in backend.calls) <= 2


def test_workers_that_share_a_cache_of_one_volume_finish(make_scheduler: Make, make_spec: Make) -> None:
    scheduler = make_scheduler(cache_bytes=60, workers=4, look_ahead=4)
    streams = [scheduler.open(make_spec(stop=30, count=4)) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda stream: take(stream, 30), streams))
    assert all(result == results[0] for result in results)
    for stream in streams:
        stream.close()
