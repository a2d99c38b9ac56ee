"""Order, caching and bytes, under delays."""

from __future__ import annotations

import mmap
import os
import threading
import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from world import (
    PATCH,
    Batch,
    assert_nothing_left,
    counter,
    cpu,
    driver,
    in_threads,
    make_params,
    make_volume,
    open_cuda,
    run,
    set_delays,
    wait_until,
)

from augserver.errors import AugError, BackendError, BudgetError, RequestError, StateError
from augserver.kernel import AugmentQueue
from augserver.pipeline.batch_layout import BatchLayout
from augserver.pipeline.batch_slots import SlotPool

DELAYS = "h2d:0-1500,kernel:0-1500,d2h:0-1500"


def mixed_batches(count: int) -> list[Batch]:
    """Types, labels, channels, sizes, output types and interpolation change from batch to batch."""
    volumes = [make_volume(k, dtype="float32" if k % 3 == 2 else "int16", label=k % 4 != 3) for k in range(12)]
    several = [make_volume(20 + k, channels=3) for k in range(3)]
    rng = np.random.default_rng(5)
    batches = []
    for k in range(count):
        pool = several if k % 7 == 6 else volumes
        chosen = [pool[j] for j in rng.integers(0, len(pool), 1 + k % 4)]
        batches.append(Batch(chosen, 4 * k, dtype=("float32", "float16", "uint8")[k % 3], label=k % 5 != 4, nearest=k % 6 == 5))
    return batches


def two_hundred_batches(devices: str = "0") -> None:
    set_delays(DELAYS)
    driver.fake_set_seed(11)
    batches = mixed_batches(200)
    gpu = open_cuda(devices=devices, volume_bytes=24 << 10)  # about five volumes: some batch always waits for room
    wrong = [0] * len(batches)

    def work(k: int) -> None:
        for at in range(k, len(batches), 4):
            wrong[at] = batches[at].wrong_bytes(batches[at].compute(gpu))

    assert in_threads(4, work) == []
    assert sum(wrong) == 0
    statistics = gpu.statistics()
    assert all(each.volumes.evictions > 10 and each.volumes.hits > 10 and each.failed == 0 for each in statistics), statistics
    if devices == "all":
        assert min(each.batches for each in statistics) > 50, statistics
    gpu.close()
    assert_nothing_left()


def two_hundred_batches_on_three_devices() -> None:
    two_hundred_batches("all")


def queue_keeps_the_order_of_pushes() -> None:
    set_delays(DELAYS)
    gpu = open_cuda()
    batches = mixed_batches(30)
    with AugmentQueue(gpu, depth=4) as queue:
        pushed = popped = 0
        while popped < len(batches):
            while pushed < len(batches) and queue.statistics().waiting < 4:
                batch = batches[pushed]
                queue.push(batch.volumes, batch.params, PATCH, image_dtype=batch.dtype, label=batch.label, nearest=batch.nearest)
                pushed += 1
            assert batches[popped].wrong_bytes(queue.pop()) == 0
            popped += 1
        with pytest.raises(StateError):
            queue.pop()
    gpu.close()
    assert_nothing_left()


def start_while_held(gpu: Any, batch: Batch, count: int) -> list[threading.Thread]:
    """Threads that each ask for the batch, while the device stands still; their arrays are made before."""
    outputs = [batch.outputs(gpu) for _ in range(count)]
    driver.fake_hold(1)
    threads = [threading.Thread(target=batch.compute, args=(gpu, each)) for each in outputs]
    for thread in threads:
        thread.start()
    return threads


def a_volume_is_uploaded_once_for_requests_at_the_same_time() -> None:
    gpu = open_cuda()
    volume = make_volume(1)
    batch = Batch([volume, volume], 0)
    threads = start_while_held(gpu, batch, 5)
    wait_until(lambda: gpu.statistics()[0].waiting + gpu.statistics()[0].in_flight == 5)
    driver.fake_hold(0)
    for thread in threads:
        thread.join()
    assert batch.wrong_bytes(batch.compute(gpu)) == 0
    assert gpu.statistics()[0].volumes.misses == 1
    gpu.close()
    assert_nothing_left()


def a_full_queue_blocks_the_submitter() -> None:
    gpu = open_cuda(slots=2, queue=1)
    batch = Batch([make_volume(1)], 0)
    threads = start_while_held(gpu, batch, 6)
    # Two in slots; one that the owner holds until a slot is free or that fills the queue's only place; the others are outside.
    wait_until(lambda: (gpu.statistics()[0].in_flight, gpu.statistics()[0].waiting) == (2, 1))
    for thread in threads:
        thread.join(0.05)
    now = gpu.statistics()[0]
    assert (now.in_flight, now.waiting, now.batches) == (2, 1, 0), now
    assert all(thread.is_alive() for thread in threads)
    driver.fake_hold(0)
    for thread in threads:
        thread.join()
    assert gpu.statistics()[0].batches == 6
    gpu.close()
    assert_nothing_left()


def an_array_that_may_be_written_is_uploaded_for_each_batch() -> None:
    gpu = open_cuda()
    volume = make_volume(1, writable=True)
    batch = Batch([volume], 0)
    assert batch.wrong_bytes(batch.compute(gpu)) == 0
    volume.image[...] = volume.image[:, ::-1].copy()
    assert batch.wrong_bytes(batch.compute(gpu)) == 0
    gpu.close()
    assert_nothing_left()


def a_volume_that_died_makes_room() -> None:
    gpu = open_cuda()
    volume = make_volume(1)
    batch = Batch([volume], 0)
    batch.compute(gpu)
    used = gpu.statistics()[0].volumes.used_bytes
    assert used > 0
    del volume, batch
    other = Batch([make_volume(2)], 0)
    assert other.wrong_bytes(other.compute(gpu)) == 0
    now = gpu.statistics()[0].volumes
    assert (now.volumes, now.misses, now.evictions) == (1, 2, 0), now
    gpu.close()
    assert_nothing_left()


def scattered_room_is_put_together() -> None:
    """Three volumes fill the arena; the next batch keeps the middle one and brings one as large as the two holes beside it."""
    small = [make_volume(0, label=False) for _ in range(3)]
    large = make_volume(0, dtype="float32", label=False)
    piece = -(-small[0].image.nbytes // 256) * 256
    assert piece < large.image.nbytes <= 2 * piece
    gpu = open_cuda(volume_bytes=3 * piece)
    assert (first := Batch(small, 0)).wrong_bytes(first.compute(gpu)) == 0
    assert (second := Batch([small[1], large], 3)).wrong_bytes(second.compute(gpu)) == 0
    now = gpu.statistics()[0].volumes
    assert (now.volumes, now.misses, now.evictions) == (2, 5, 3), now  # the middle one moved
    gpu.close()
    assert_nothing_left()


def refusals_name_what_is_needed() -> None:
    gpu = open_cuda(slot_bytes=8 << 10, volume_bytes=4 << 10)
    volumes = [make_volume(k) for k in range(3)]

    def refused(kind: type[AugError], part: str, batch: Batch) -> None:
        with pytest.raises(AugError) as caught:
            batch.compute(gpu)
        assert caught.type is kind
        assert part in str(caught.value)

    need = sum(-(-v.image.nbytes // 256) * 256 + -(-v.label.nbytes // 256) * 256 for v in volumes if v.label is not None)
    refused(BudgetError, f"raise it to at least {need}", Batch(volumes, 0, dtype="uint8"))
    refused(BudgetError, "cuda.slot_bytes = 8192", Batch([volumes[0]] * 6, 0))
    plain = np.empty((1, 1, *PATCH), np.float32)
    with pytest.raises(RequestError) as caught:
        gpu.augment([volumes[0]], [make_params(1)], plain)
    assert "backend.allocate" in str(caught.value)
    ok = Batch([volumes[0]], 2)
    assert ok.wrong_bytes(ok.compute(gpu)) == 0
    assert counter("pageable_copies") == 0
    gpu.close()
    assert_nothing_left()


def pageable_results_are_allowed_when_configured() -> None:
    gpu = open_cuda(pageable=True)
    image, expected = np.empty((1, 1, *PATCH), np.float32), np.empty((1, 1, *PATCH), np.float32)
    volume = make_volume(3)
    gpu.augment([volume], [make_params(1)], image)
    cpu.augment([volume], [make_params(1)], expected)
    assert image.tobytes() == expected.tobytes()
    assert counter("pageable_copies") == 1
    gpu.close()


def pinned_arrays_are_freed_when_their_last_view_dies() -> None:
    gpu = open_cuda()
    array = gpu.allocate((3, 5, 7), np.float32)
    view = array[1:, 2]
    assert array.flags.c_contiguous
    assert array.flags.writeable
    assert counter("registered_blocks") == 1
    del array
    gpu.allocate((1,), np.uint8)
    view[...] = 3.0  # still there
    assert counter("registered_blocks") >= 1
    del view
    batch = Batch([make_volume(1)], 0)
    kept = batch.compute(gpu)
    batch.compute(gpu)
    gpu.allocate((1,), np.uint8)
    assert counter("registered_blocks") <= 5, counter("registered_blocks")
    assert batch.wrong_bytes(kept) == 0
    gpu.close()
    assert batch.wrong_bytes(kept) == 0  # ordinary memory now
    assert_nothing_left()


def results_go_straight_into_memory_shared_with_another_process() -> None:
    gpu = open_cuda()
    layout = BatchLayout(image_shape=(1, 1, *PATCH), image_dtype="float32", has_label=False)
    pool = SlotPool(1 << 24, lambda size: np.zeros(size, np.uint8), share=gpu.share)
    ring = pool.open_ring(layout, 2, shared=True)
    assert ring.memory is not None
    slots = [ring.claim(), ring.claim()]
    volume, expected = make_volume(3), np.empty((1, 1, *PATCH), np.float32)
    gpu.augment([volume], [make_params(1)], slots[1].image)
    cpu.augment([volume], [make_params(1)], expected)
    theirs = mmap.mmap(ring.memory.descriptor, ring.memory.size_bytes, prot=mmap.PROT_READ)
    assert theirs[slots[1].offset : slots[1].offset + expected.nbytes] == expected.tobytes()
    assert counter("pageable_copies") == 0
    blocks = counter("registered_blocks")
    for slot in slots:
        ring.give_back(slot)
    del slot, slots
    ring.let_go()
    gpu.allocate((1,), np.uint8)  # the owner thread has work, and frees what has expired first
    gpu.allocate((1,), np.uint8)
    assert counter("registered_blocks") <= blocks, (counter("registered_blocks"), blocks)
    gpu.close()
    assert theirs[layout.slot_stride : layout.slot_stride + 4] == expected.tobytes()[:4]  # still the reader's
    assert_nothing_left()


def volumes_in_pinned_memory_go_up_without_a_copy_between(devices: str = "0") -> None:
    set_delays(DELAYS)
    gpu = open_cuda(devices=devices)
    plain = [make_volume(k) for k in range(6)]
    volumes = []
    for volume in plain:
        assert volume.label is not None
        image, label = gpu.allocate(volume.image.shape, volume.image.dtype), gpu.allocate(volume.label.shape, np.uint8)
        image[...], label[...] = volume.image, volume.label
        image.flags.writeable = label.flags.writeable = False
        volumes.append(replace(volume, image=image, label=label))
    batch = Batch(volumes, 3)
    assert batch.wrong_bytes(batch.compute(gpu)) == 0
    pinned_bytes = sum(volume.info.size_bytes for volume in volumes)
    assert sum(each.direct_bytes for each in gpu.statistics()) == pinned_bytes
    assert sum(each.staged_bytes for each in gpu.statistics()) == 0
    del batch, volumes, image, label
    other = Batch(plain, 5)
    assert other.wrong_bytes(other.compute(gpu)) == 0
    assert sum(each.staged_bytes for each in gpu.statistics()) == pinned_bytes
    gpu.close()
    assert_nothing_left()


def volumes_in_pinned_memory_serve_three_devices() -> None:
    volumes_in_pinned_memory_go_up_without_a_copy_between("all")


def a_forked_child_is_refused_at_once_and_the_parent_goes_on() -> None:
    gpu = open_cuda()
    batch = Batch([make_volume(1)], 0)
    outputs = batch.outputs(gpu)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # 3.12 warns of a fork beside threads: just that is tried here
        child = os.fork()
    if child == 0:
        code = 1
        try:
            for call in (lambda: batch.compute(gpu, outputs), lambda: gpu.allocate((1,), np.uint8)):
                with pytest.raises(BackendError, match="forked"):
                    call()
            gpu.close()
            code = 5
        finally:
            os._exit(code)  # as multiprocessing ends its children: no call to a driver that is not theirs
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 5
    assert batch.wrong_bytes(batch.compute(gpu)) == 0
    gpu.close()
    assert_nothing_left()


def a_process_that_forgets_to_close_ends_by_itself() -> None:
    batch = Batch([make_volume(1)], 0)
    batch.compute(open_cuda())


if __name__ == "__main__":
    run(globals())
