"""One batch: split as memory and patience demand, with the same result, and dropped when nobody waits for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from augserver.pipeline import batch_compute
from augserver.pipeline.batch_compute import compute_batch
from augserver.pipeline.batch_layout import BatchLayout, Slot
from augserver.pipeline.quarantine import Quarantine
from augserver.pipeline.stage_clock import StageClock
from augserver.pipeline.volume_cache import VolumeCache

INDICES = range(3, 10)


def run(
    store: Any,
    backend: Any,
    plan: Any,
    *,
    cache_volumes: int = 4,
    cancelled: Callable[[], bool] = lambda: False,
    quarantine: Quarantine | None = None,
) -> Any:
    """Image values by place, and the indices that were drawn."""
    layout = BatchLayout(image_shape=(len(INDICES), 1, 1, 1, 4), image_dtype="float32", has_label=False)
    slot = Slot(np.zeros(layout.slot_bytes, np.uint8), layout)
    cache = VolumeCache(store.info, store.read, cache_volumes * 60)
    lost = quarantine or Quarantine(0)
    params = compute_batch(plan, INDICES, slot, cache=cache, quarantine=lost, backend=backend, cancelled=cancelled, clock=StageClock())
    assert cache.statistics().leased == 0
    return slot.image[:, 0, 0, 0, 0].tolist(), [each.index for each in params]


@pytest.fixture
def plan(make_spec: Callable[..., Any]) -> Any:
    return make_spec().plan


WANTED = [index * 10 + index % 4 for index in INDICES]


def test_a_batch_is_one_kernel_call_where_its_volumes_fit(store: Any, backend: Any, plan: Any) -> None:
    assert run(store, backend, plan) == (WANTED, list(INDICES))
    assert backend.calls == [list(INDICES)]


@pytest.mark.parametrize("cache_volumes", [1, 2, 3])
def test_a_batch_that_does_not_fit_the_cache_has_the_same_values(store: Any, backend: Any, plan: Any, cache_volumes: int) -> None:
    assert run(store, backend, plan, cache_volumes=cache_volumes) == (WANTED, list(INDICES))
    assert len(backend.calls) > 1
    assert all(len({index % 4 for index in call}) <= cache_volumes for call in backend.calls)


def test_large_samples_go_to_the_kernel_in_smaller_calls(store: Any, backend: Any, plan: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_compute, "_CALL_VOXELS", 3 * 4)
    assert run(store, backend, plan) == (WANTED, list(INDICES))
    assert [len(call) for call in backend.calls] == [3, 3, 1]
    backend.calls.clear()
    monkeypatch.setattr(batch_compute, "_CALL_VOXELS", 1)  # less than one sample: one at a time
    assert run(store, backend, plan) == (WANTED, list(INDICES))
    assert [len(call) for call in backend.calls] == [1] * 7


def test_a_cancelled_batch_is_left_undone(store: Any, backend: Any, plan: Any) -> None:
    answers = iter([False, False, True, True])
    values, drawn = run(store, backend, plan, cancelled=lambda: next(answers))
    assert values == [0.0] * 7
    assert drawn == [3, 4]
    assert backend.calls == []


def test_a_failing_kernel_call_releases_the_volumes(store: Any, backend: Any, plan: Any) -> None:
    backend.fail_at[5] = ZeroDivisionError()
    cache = VolumeCache(store.info, store.read, 4 * 60)
    layout = BatchLayout(image_shape=(7, 1, 1, 1, 4), image_dtype="float32", has_label=False)
    with pytest.raises(ZeroDivisionError):
        compute_batch(
            plan,
            INDICES,
            Slot(np.zeros(layout.slot_bytes, np.uint8), layout),
            cache=cache,
            quarantine=Quarantine(0),
            backend=backend,
            cancelled=lambda: False,
            clock=StageClock(),
        )
    assert cache.statistics().leased == 0
