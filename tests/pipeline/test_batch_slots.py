"""Slots have the layout they say, and the pool refuses instead of growing."""

from __future__ import annotations

import numpy as np
import pytest

from augserver.errors import BudgetError
from augserver.pipeline.batch_slots import BatchLayout, SlotPool


def pool_of(max_bytes: int) -> SlotPool:
    return SlotPool(max_bytes, lambda size: np.zeros(size, np.uint8))


def test_image_and_label_are_aligned_views_of_one_buffer() -> None:
    layout = BatchLayout(image_shape=(2, 1, 3, 5, 7), image_dtype="float16", has_label=True)
    [slot] = pool_of(10_000).reserve(layout, 1)
    assert (slot.image.shape, slot.image.dtype) == ((2, 1, 3, 5, 7), np.float16)
    assert slot.label is not None
    assert (slot.label.shape, slot.label.dtype) == ((2, 3, 5, 7), np.uint8)
    assert layout.image_bytes == 420
    assert layout.label_offset == 448  # the next multiple of 64
    slot.image[:] = 1
    slot.label[:] = 2
    assert slot.buffer[448:].tolist() == [2] * 210
    assert slot.buffer[:420].tobytes() == np.ones(210, np.float16).tobytes()


def test_without_labels_there_is_no_label_array() -> None:
    layout = BatchLayout(image_shape=(1, 3, 1, 2, 2), image_dtype="uint8", has_label=False)
    [slot] = pool_of(100).reserve(layout, 1)
    assert slot.label is None
    assert layout.label_shape is None
    assert slot.buffer.nbytes == 64  # 12, filled up


def test_the_budget_is_refused_by_name_and_nothing_is_taken() -> None:
    layout = BatchLayout(image_shape=(1, 1, 1, 1, 64), image_dtype="uint8", has_label=False)
    pool = pool_of(200)
    slots = pool.reserve(layout, 2)
    with pytest.raises(BudgetError, match=r"streams\.max_slot_bytes = 200 bytes, of which 128 are in use"):
        pool.reserve(layout, 2)
    assert pool.statistics().reserved_bytes == 128
    for slot in slots:
        pool.release(slot)
    assert pool.statistics().reserved_bytes == 0
    assert len(pool.reserve(layout, 3)) == 3


def test_memory_that_cannot_be_had_is_not_counted() -> None:
    def fail(size: int) -> np.ndarray:
        raise MemoryError(size)

    pool = SlotPool(1000, fail)
    with pytest.raises(BudgetError, match="the machine has no memory for 2 slots of 64 bytes"):
        pool.reserve(BatchLayout(image_shape=(1, 1, 1, 1, 64), image_dtype="uint8", has_label=False), 2)
    assert pool.statistics().reserved_bytes == 0
