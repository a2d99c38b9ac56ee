"""Least recently used, one decode at a time, leased volumes stay, and the budget holds."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from augserver.errors import BudgetError, NotFoundError, VolumeError
from augserver.pipeline.volume_cache import VolumeCache

VOLUME_BYTES = 60


def cache_of(store: Any, volumes: int) -> VolumeCache:
    return VolumeCache(store.info, store.read, volumes * VOLUME_BYTES)


def test_a_volume_is_decoded_once_and_then_shared(store: Any) -> None:
    cache = cache_of(store, 2)
    with cache.lease("b") as first, cache.lease("b") as second:
        assert first is second
        assert first.image.flat[0] == 1
    assert store.reads == ["b"]
    statistics = cache.statistics()
    assert (statistics.hits, statistics.misses, statistics.leased, statistics.used_bytes) == (1, 1, 0, VOLUME_BYTES)


def test_the_least_recently_used_idle_volume_goes_first(store: Any) -> None:
    cache = cache_of(store, 2)
    for id_ in ("a", "b", "a", "c", "a", "b"):
        cache.lease(id_).release()
    assert store.reads == ["a", "b", "c", "b"]  # c drove out b, not a; b then drove out c
    assert cache.statistics().evictions == 2


def test_a_leased_volume_is_never_evicted_and_the_budget_holds(store: Any) -> None:
    cache = cache_of(store, 2)
    with cache.lease("a") as kept:
        for id_ in ("b", "c", "d"):
            cache.lease(id_).release()
            assert cache.statistics().used_bytes == 2 * VOLUME_BYTES
        with cache.lease("a") as again:
            assert again is kept
    assert store.reads == ["a", "b", "c", "d"]


def test_try_lease_declines_instead_of_waiting_for_room(store: Any) -> None:
    cache = cache_of(store, 1)
    with cache.lease("a"):
        assert cache.try_lease("b") is None
        assert cache.statistics().used_bytes == VOLUME_BYTES
    lease = cache.try_lease("b")
    assert lease is not None
    assert lease.volume.info.id == "b"
    lease.release()


def test_lease_waits_until_another_lease_makes_room(store: Any) -> None:
    cache = cache_of(store, 1)
    first = cache.lease("a")
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(cache.lease, "b")
        first.release()
        assert waiting.result(30).volume.info.id == "b"
    assert cache.statistics().volumes == 1


def test_concurrent_requests_share_one_decode(store: Any) -> None:
    cache = cache_of(store, 4)
    store.gate.clear()
    with ThreadPoolExecutor(8) as pool:
        leases = [pool.submit(cache.lease, "c") for _ in range(8)]
        assert store.entered.acquire(timeout=30)
        store.gate.set()
        volumes = {id(each.result(30).volume) for each in leases}
    assert store.reads == ["c"]
    assert len(volumes) == 1
    assert cache.statistics().misses == 1


def test_a_failed_decode_reaches_all_who_wait_and_leaves_no_trace(store: Any) -> None:
    cache = cache_of(store, 1)
    store.broken["a"] = VolumeError("volume 'a' is cut off")
    store.gate.clear()
    with ThreadPoolExecutor(2) as pool:
        leases = [pool.submit(cache.lease, "a") for _ in range(2)]
        assert store.entered.acquire(timeout=30)
        store.gate.set()
        for each in leases:
            with pytest.raises(VolumeError, match="cut off"):
                each.result(30)
    assert cache.statistics().used_bytes == 0
    store.broken.clear()
    with cache.lease("a") as volume:  # mended: no failure is remembered
        assert volume.info.id == "a"


def test_a_volume_larger_than_the_budget_is_refused_by_name(store: Any) -> None:
    cache = VolumeCache(store.info, store.read, VOLUME_BYTES - 1)
    with pytest.raises(BudgetError, match=r"'a' takes 60 bytes .* cache\.max_bytes = 59"):
        cache.lease("a")
    with pytest.raises(BudgetError, match="'a'"):
        cache.require_fit(["a"])
    assert store.reads == []


def test_memory_that_cannot_be_had_is_a_budget_error(store: Any) -> None:
    cache = cache_of(store, 1)
    store.broken["a"] = MemoryError()
    with pytest.raises(BudgetError, match=r"no memory for volume 'a' of 60 bytes"):
        cache.lease("a")
    assert cache.statistics().used_bytes == 0


def test_an_unknown_volume_is_not_found(store: Any) -> None:
    with pytest.raises(NotFoundError):
        cache_of(store, 1).lease("zebra")


def test_many_threads_never_exceed_the_budget(store: Any) -> None:
    cache = cache_of(store, 2)
    exceeded = threading.Event()

    def work(seed: int) -> None:
        for k in range(200):
            with cache.lease("abcd"[(seed + k * 3) % 4]) as volume:
                if cache.statistics().used_bytes > 2 * VOLUME_BYTES or volume.image.flat[0] != (seed + k * 3) % 4:
                    exceeded.set()

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(work, range(6)))
    assert not exceeded.is_set()
    assert cache.statistics().leased == 0
