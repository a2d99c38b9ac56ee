"""What is set aside stays so, is logged once by whoever meets it, and never exceeds the budget unnoticed."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from augserver.errors import BudgetError, UnavailableError, VolumeError
from augserver.pipeline.batch_compute import compute_batch
from augserver.pipeline.batch_layout import BatchLayout, Slot
from augserver.pipeline.quarantine import Quarantine
from augserver.pipeline.stage_clock import StageClock
from augserver.pipeline.volume_cache import VolumeCache

VOLUME_BYTES = 60


@pytest.fixture
def compute(store: Any, backend: Any, make_spec: Callable[..., Any]) -> Callable[..., list[tuple[str, str, float]]]:
    """(volume, replaces, value) of samples 0 to 7, two of each of four volumes."""

    def run(quarantine: Quarantine, *, cache_volumes: int = 4) -> list[tuple[str, str, float]]:
        layout = BatchLayout(image_shape=(8, 1, 1, 1, 4), image_dtype="float32", has_label=False)
        slot = Slot(np.zeros(layout.slot_bytes, np.uint8), layout)
        cache = VolumeCache(store.info, store.read, cache_volumes * VOLUME_BYTES)
        try:
            params = compute_batch(
                make_spec().plan,
                range(8),
                slot,
                cache=cache,
                quarantine=quarantine,
                backend=backend,
                cancelled=lambda: False,
                clock=StageClock(),
            )
        finally:
            assert cache.statistics().leased == 0
        return [(each.volume, each.replaces, value) for each, value in zip(params, slot.image[:, 0, 0, 0, 0].tolist(), strict=True)]

    return run


@pytest.mark.parametrize("cache_volumes", [1, 2, 4])
def test_the_next_undamaged_volume_stands_in_with_any_cache(compute: Any, store: Any, cache_volumes: int) -> None:
    store.broken = {id_: VolumeError(f"volume {id_!r} is cut off") for id_ in "bc"}
    quarantine = Quarantine(2)
    wanted = [("a", "", 0.0), ("d", "b", 13.0), ("d", "c", 23.0), ("d", "", 33.0)]
    assert compute(quarantine, cache_volumes=cache_volumes) == wanted + [(v, r, value + 40) for v, r, value in wanted]
    assert (sorted(store.reads).count("b"), sorted(store.reads).count("c")) == (1, 1)  # not looked at again
    assert "b" in quarantine
    assert "a" not in quarantine
    assert quarantine.statistics().replaced_samples == 4


def test_a_volume_set_aside_stays_so_after_it_was_restored(compute: Any, store: Any) -> None:
    quarantine = Quarantine(1)
    store.broken["b"] = VolumeError("volume 'b' is cut off")
    first = compute(quarantine)
    store.broken.clear()
    assert compute(quarantine) == first
    assert compute(Quarantine(1)) != first


@pytest.mark.parametrize("error", [UnavailableError("no disk"), BudgetError("no memory"), OSError("no file handle"), ZeroDivisionError()])
def test_nothing_but_damage_sets_a_volume_aside(compute: Any, store: Any, error: Exception) -> None:
    store.broken["b"] = error
    quarantine = Quarantine(4)
    with pytest.raises(type(error)):
        compute(quarantine)
    assert quarantine.statistics().volumes == 0


def test_a_strict_quarantine_gives_the_error_of_the_volume(compute: Any, store: Any) -> None:
    store.broken["c"] = VolumeError("volume 'c' is cut off")
    quarantine = Quarantine(0)
    with pytest.raises(VolumeError) as caught:
        compute(quarantine)
    assert caught.value is store.broken["c"]
    assert quarantine.errors() == {}


def test_every_volume_damaged_is_an_error_even_within_the_budget(compute: Any, store: Any) -> None:
    store.broken = {id_: VolumeError("cut off") for id_ in "abcd"}
    with pytest.raises(VolumeError, match="every volume of the dataset is damaged"):
        compute(Quarantine(4))


def test_many_threads_that_meet_one_damage_log_it_once(caplog: pytest.LogCaptureFixture) -> None:
    quarantine = Quarantine(1)
    start = threading.Barrier(8)

    def meet() -> None:
        start.wait(30)
        quarantine.set_aside("b", VolumeError("volume 'b' is cut off"))

    threads = [threading.Thread(target=meet) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert [(record.levelno, "'b' is cut off" in record.getMessage()) for record in caplog.records] == [(logging.ERROR, True)]
    assert {id_: str(error) for id_, error in quarantine.errors().items()} == {"b": "volume 'b' is cut off"}


def test_a_long_list_of_losses_is_counted_and_cut() -> None:
    quarantine = Quarantine(11)
    for k in range(11):
        quarantine.set_aside(f"case_{k:02}", VolumeError("cut off"))
    with pytest.raises(VolumeError, match=r"12 volumes are damaged, .*max_volumes = 11 .*'case_00', .*'case_09' and 2 more; restore"):
        quarantine.set_aside("case_11", VolumeError("cut off"))
    with pytest.raises(VolumeError, match="12 volumes"):
        quarantine.require_budget()
