"""Slots have the layout they say, go round in order, and the pool refuses instead of growing."""

from __future__ import annotations

import gc
import mmap
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from augserver.errors import BudgetError
from augserver.pipeline.batch_layout import BatchLayout
from augserver.pipeline.batch_slots import SlotPool

LABELLED = BatchLayout(image_shape=(2, 1, 3, 5, 7), image_dtype="float16", has_label=True)
SMALL = BatchLayout(image_shape=(1, 1, 1, 1, 64), image_dtype="uint8", has_label=False)


def pool_of(max_bytes: int, **how: int) -> SlotPool:
    return SlotPool(max_bytes, lambda size: np.zeros(size, np.uint8), **how)


def memory_files() -> int:
    """Descriptors of shared memory that this process holds, without the garbage of other tests."""
    gc.collect()
    count = 0
    for path in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):
            count += "memfd:" in os.readlink(path)
    return count


def test_image_and_label_are_aligned_views_of_one_buffer() -> None:
    ring = pool_of(10_000).open_ring(LABELLED, 1)
    slot = ring.claim()
    assert (slot.image.shape, slot.image.dtype) == ((2, 1, 3, 5, 7), np.float16)
    assert slot.label is not None
    assert (slot.label.shape, slot.label.dtype) == ((2, 3, 5, 7), np.uint8)
    assert LABELLED.image_bytes == 420
    assert LABELLED.label_offset == 448  # the next multiple of 64
    slot.image[:] = 1
    slot.label[:] = 2
    assert slot.buffer[448:].tolist() == [2] * 210
    assert slot.buffer[:420].tobytes() == np.ones(210, np.float16).tobytes()


def test_without_labels_there_is_no_label_array() -> None:
    layout = BatchLayout(image_shape=(1, 3, 1, 2, 2), image_dtype="uint8", has_label=False)
    slot = pool_of(100).open_ring(layout, 1).claim()
    assert slot.label is None
    assert layout.label_shape is None
    assert slot.buffer.nbytes == 64  # 12, filled up


def test_shared_slots_lie_in_one_memory_at_the_offsets_they_say() -> None:
    ring = pool_of(100_000).open_ring(LABELLED, 3, shared=True)
    assert ring.memory is not None
    slots = [ring.claim() for _ in range(3)]
    for number, slot in enumerate(slots, 1):
        assert slot.label is not None
        slot.image[:] = number
        slot.label[:] = 10 * number
    mapped = mmap.mmap(ring.memory.descriptor, ring.memory.size_bytes, prot=mmap.PROT_READ)
    assert [slot.offset for slot in slots] == [0, mmap.PAGESIZE, 2 * mmap.PAGESIZE]
    for number, slot in enumerate(slots, 1):
        assert np.frombuffer(mapped, np.float16, 210, slot.offset).tolist() == [number] * 210
        assert np.frombuffer(mapped, np.uint8, 210, slot.label_offset).tolist() == [10 * number] * 210
        assert slot.label_offset - slot.offset == 448


@pytest.mark.parametrize(
    "attack",
    [
        lambda fd: os.ftruncate(fd, 0),
        lambda fd: os.ftruncate(fd, 1 << 20),
        lambda fd: os.write(fd, b"x"),
        lambda fd: mmap.mmap(fd, mmap.PAGESIZE),
    ],
)
def test_who_gets_shared_memory_can_neither_resize_nor_write_it(attack: Callable[[int], object]) -> None:
    ring = pool_of(100_000).open_ring(SMALL, 1, shared=True)
    assert ring.memory is not None
    with pytest.raises(PermissionError):
        attack(ring.memory.descriptor)
    ring.claim().image[:] = 7  # the server still can
    assert mmap.mmap(ring.memory.descriptor, 64, prot=mmap.PROT_READ)[:64] == b"\7" * 64


def test_the_budget_is_refused_by_name_and_nothing_is_taken() -> None:
    pool = pool_of(200)
    ring = pool.open_ring(SMALL, 2)
    with pytest.raises(BudgetError, match=r"streams\.max_slot_bytes = 200 bytes, of which 128 are in use"):
        pool.open_ring(SMALL, 2)
    assert pool.statistics().reserved_bytes == 128
    ring.let_go()
    assert pool.statistics().reserved_bytes == 0
    assert pool.open_ring(SMALL, 3).statistics().free == 3


def test_the_budget_of_one_stream_is_refused_by_name() -> None:
    pool = pool_of(10_000, max_ring_bytes=150)
    with pytest.raises(BudgetError, match=r"3 slots of 64 bytes .* streams\.max_stream_bytes = 150"):
        pool.open_ring(SMALL, 3)
    pool.open_ring(SMALL, 2)
    pool.open_ring(SMALL, 2)
    assert pool.statistics().reserved_bytes == 256


def test_memory_that_cannot_be_had_is_not_counted() -> None:
    def fail(size: object) -> np.ndarray:
        raise MemoryError(size)

    pool = SlotPool(10_000, fail, share=fail)
    before = memory_files()
    for shared in (False, True):
        with pytest.raises(BudgetError, match="the machine has no memory for 2 slots of 64 bytes"):
            pool.open_ring(SMALL, 2, shared=shared)
    assert pool.statistics().reserved_bytes == 0
    assert memory_files() <= before


def test_a_slot_goes_round_and_every_state_is_counted() -> None:
    pool = pool_of(10_000)
    ring = pool.open_ring(SMALL, 4)
    first, second, third = ring.claim(), ring.claim(), ring.claim()
    for slot in (first, second):
        ring.finish(slot)
    ring.lease(first)
    now = ring.statistics()
    assert (now.free, now.filling, now.ready, now.leased, now.size_bytes) == (1, 1, 1, 1, 256)
    whole = pool.statistics()
    assert (whole.rings, whole.shared_rings, whole.free, whole.filling, whole.ready, whole.leased) == (1, 0, 1, 1, 1, 1)
    with pytest.raises(ValueError, match="slot is filling, due is ready"):
        ring.lease(third)
    ring.give_back(first)
    assert ring.claim() is first  # the one whose pages are in the caches


def test_memory_goes_back_when_stream_reader_and_slots_have_all_let_go() -> None:
    pool = pool_of(100_000)
    ring = pool.open_ring(SMALL, 2, shared=True)
    ring.hold()  # a client maps it
    slot = ring.claim()
    ring.let_go()  # the stream ends
    ring.let_go()  # the client goes
    assert pool.statistics().rings == 1  # the kernel still writes
    ring.give_back(slot)
    assert (pool.statistics().rings, pool.statistics().reserved_bytes) == (0, 0)
    assert ring.memory is not None
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(ring.memory.descriptor)


def test_shared_memory_is_unmapped_with_the_last_array_on_it_and_not_by_a_garbage_collection() -> None:
    ring = pool_of(100_000).open_ring(SMALL, 2, shared=True)
    assert ring.memory is not None
    inode = str(os.fstat(ring.memory.descriptor).st_ino)
    slot = ring.claim()

    def mapped() -> bool:
        return any(line.split()[4] == inode for line in Path("/proc/self/maps").read_text().splitlines())

    ring.let_go()
    ring.give_back(slot)
    assert mapped()
    del slot
    assert not mapped()  # though the ring, which its budget knows, is still here
