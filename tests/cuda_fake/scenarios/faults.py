"""Failures: each injected at each call, and what follows. No call hangs, no batch is wrong, every error is typed."""

from __future__ import annotations

import ctypes
import os
import random
import threading

import numpy as np
import pytest
from world import (
    LIVE,
    NEVER,
    PATCH,
    Batch,
    assert_nothing_left,
    counter,
    driver,
    in_threads,
    make_params,
    make_volume,
    open_cuda,
    run,
    set_delays,
    set_faults,
)

from augserver.backends import EXIT_DEVICE_LOST
from augserver.errors import AugError, BackendError, BudgetError, UnavailableError
from augserver.kernel import AugmentQueue

# What only gives back: when such a call does nothing, something is left, and nothing is to be done about it.
CLEANING = {"cuMemFree", "cuMemFreeHost", "cuMemHostUnregister", "cuStreamDestroy", "cuEventDestroy", "cuModuleUnload", "cuArrayDestroy",
            "cuTexObjectDestroy", "cuCtxPushCurrent"}  # fmt: skip
STREAM_WORK = {"cuMemcpyHtoDAsync", "cuMemcpyDtoHAsync", "cuMemcpy3DAsync", "cuLaunchKernel"}
LAUNCH_FAILURE = 719
INVALID_VALUE = 1
OUT_OF_MEMORY = 2


class Story:
    """Open, several batches through evictions and both samplers' memory, close; what each step gave."""

    def __init__(self, sampler: str = "exact") -> None:
        volumes = [make_volume(k, label=k != 2) for k in range(4)]
        self.batches = [Batch([volumes[k % 4], volumes[(k + 1) % 4]], 2 * k, dtype=("float32", "uint8")[k % 2]) for k in range(5)]
        self.sampler = sampler
        for batch in self.batches:
            batch.use_sampler(sampler)
        self.lost: list[UnavailableError] = []

    def tell(self, threads: int = 1) -> list[AugError]:
        """Run it; returns the errors that its steps gave, in order for one thread. Any other exception is a failed scenario."""
        self.lost = []
        errors: list[AugError] = []
        try:
            gpu = open_cuda(on_lost=self.lost.append, volume_bytes=6 << 10, texture_bytes=6 << 10)
        except AugError as error:
            return [error]

        def work(k: int) -> None:
            for batch in self.batches[k::threads]:
                try:
                    got = batch.compute(gpu)
                except AugError as error:
                    errors.append(error)
                else:
                    assert self.sampler == "texture" or batch.wrong_bytes(got) == 0, "a wrong batch"

        raised = in_threads(threads, work)
        assert raised == [], raised
        if self.lost:
            for attempt in (lambda: self.batches[0].compute(gpu), lambda: gpu.allocate((1,), np.uint8)):
                with pytest.raises(UnavailableError):
                    attempt()
        gpu.close()
        gpu.close()
        return errors


def calls() -> dict[str, int]:
    """Calls so far of every function that can be made to fail."""
    driver.fake_called.restype = ctypes.c_char_p
    return {name: driver.fake_calls(name.encode()) for name in driver.fake_called().decode().split(",")}


def call_sites(sampler: str) -> dict[str, int]:
    """How often one clean story calls what."""
    story = Story(sampler)
    assert story.tell() == []  # imports and first-time calls
    assert_nothing_left()
    before = calls()
    assert story.tell() == []
    assert_nothing_left()
    sites = {name: count - before[name] for name, count in calls().items() if count > before.get(name, 0)}
    assert {"cuMemAlloc", "cuLaunchKernel", "cuEventSynchronize", "cuMemHostRegister", "cuCtxCreate"} <= set(sites), sites
    return sites


def each_call_fails_once(sampler: str = "exact") -> None:
    told = 0
    for name, count in call_sites(sampler).items():
        for call in range(1, count + 1):
            for code in (INVALID_VALUE, OUT_OF_MEMORY):
                before = {each: counter(each) for each in (*LIVE, *NEVER)}
                set_faults(f"{name}:{call}:{code}:plain")
                story = Story(sampler)
                errors = story.tell()
                told += bool(errors)
                set_faults("")
                assert story.lost == [], (name, call)
                assert len(errors) <= 2, (name, call, errors)
                assert counter("contexts") == 0
                assert counter("threads_with_context") == 0
                if name not in CLEANING:
                    assert before == {each: counter(each) for each in before}, (name, call, before)
                    # Memory may be had at the second try: pycuda's own after a garbage collection, a texture's after an eviction.
                    again = code == OUT_OF_MEMORY and (name == "cuMemAlloc" or sampler == "texture")
                    assert errors or again, (name, call)
    assert told > 50, told


def each_texture_call_fails_once() -> None:
    each_call_fails_once("texture")


def the_device_is_lost_at_each_call() -> None:
    for name, count in call_sites("exact").items():
        for call in range(1, count + 1):
            kinds = ("sticky", "async") if name in STREAM_WORK else ("sticky",)
            for kind in kinds:
                set_faults(f"{name}:{call}:{LAUNCH_FAILURE}:{kind}")
                story = Story()
                errors = story.tell(threads=2)
                set_faults("")
                driver.fake_reset()
                assert len(story.lost) <= 1, (name, call, kind)
                assert counter("contexts") == 0, (name, call, kind)
                assert counter("threads_with_context") == 0, (name, call, kind)
                if story.lost:
                    assert all(isinstance(error, UnavailableError) for error in errors), (name, call, kind, errors)
    assert Story().tell() == []  # a new process, so to speak, works


def the_device_is_lost_at_random_moments() -> None:
    """Several threads, delays in every stream: the loss meets batches in every stage."""
    set_delays("h2d:0-300,kernel:0-300,d2h:0-300")
    rng = random.Random(3)
    losses = 0
    for _ in range(60):
        set_faults(f"{rng.choice(sorted(STREAM_WORK - {'cuMemcpy3DAsync'}))}:{rng.randint(1, 12)}:700:async")
        story = Story()
        errors = story.tell(threads=3)
        set_faults("")
        driver.fake_reset()
        losses += len(story.lost)
        assert bool(errors) <= bool(story.lost)
        assert counter("contexts") == 0
        assert counter("threads_with_context") == 0
    assert losses > 30, losses


def a_lost_device_fails_what_is_in_flight_and_the_process_ends_with_75() -> None:
    seen: list[BaseException] = []
    ended = threading.Event()

    def restart(_: UnavailableError) -> None:
        # As a server does: the callers in flight learn of it first, then the process ends with the code its supervisor knows.
        threading.Thread(target=lambda: (ended.wait(30), os._exit(EXIT_DEVICE_LOST if len(seen) in (3, 4) else 1))).start()

    gpu = open_cuda(on_lost=restart)
    batch = Batch([make_volume(1)], 0)
    batch.compute(gpu)
    driver.fake_hold(1)
    set_faults("cuLaunchKernel:2:719:async")
    threads = [threading.Thread(target=lambda: seen.extend(in_threads(1, lambda _: batch.compute(gpu)))) for _ in range(4)]
    for thread in threads:
        thread.start()
    while gpu.statistics()[0].waiting + gpu.statistics()[0].in_flight < 4:
        pass
    driver.fake_hold(0)
    for thread in threads:
        thread.join()
    assert all(isinstance(error, UnavailableError) for error in seen), seen
    assert "started again" in str(seen[0])
    ended.set()
    threading.Event().wait(30)


def a_device_that_is_lost_takes_the_other_two_along() -> None:
    lost: list[UnavailableError] = []

    def broken(error: UnavailableError) -> None:
        lost.append(error)
        raise ValueError("a mistake of the server's")

    gpu = open_cuda(devices="all", on_lost=broken)
    batch = Batch([make_volume(k) for k in range(3)], 0)
    assert batch.wrong_bytes(batch.compute(gpu)) == 0
    outputs, single = batch.outputs(gpu), Batch([make_volume(1)], 0)
    later = single.outputs(gpu)
    set_faults("cuLaunchKernel:2:719:sticky")
    with pytest.raises(UnavailableError):
        batch.compute(gpu, outputs)
    driver.fake_reset()  # the other devices would go on
    for _ in range(3):
        with pytest.raises(UnavailableError, match="started again"):
            single.compute(gpu, later)
    assert len(lost) == 1
    gpu.close()
    assert counter("contexts") == 0
    assert counter("threads_with_context") == 0


def a_batch_that_fails_in_the_queue_leaves_its_place_to_the_next() -> None:
    gpu = open_cuda()
    volume = make_volume(1)
    with AugmentQueue(gpu, depth=3) as queue:
        queue.push([volume], [make_params(1)], PATCH)
        first, _ = queue.pop()
        set_faults("cuLaunchKernel:1:1:plain")
        queue.push([volume], [make_params(1)], PATCH)
        with pytest.raises(BackendError) as caught:
            queue.pop()
        assert "later is not affected" in str(caught.value)
        queue.push([volume], [make_params(1)], PATCH)
        again, _ = queue.pop()
    assert again.tobytes() == first.tobytes()
    gpu.close()
    assert_nothing_left()


def a_start_without_memory_names_the_settings() -> None:
    for settings in ({"volume_bytes": 1 << 30}, {"slot_bytes": 1 << 30}):
        with pytest.raises(BudgetError) as caught:
            open_cuda(**settings)
        assert "cuda.slot_bytes" in str(caught.value)
        assert str(1 << 30) in str(caught.value)
    assert_nothing_left()


def a_machine_that_cannot_says_what_is_missing() -> None:
    from augserver.config import CudaConfig
    from augserver.kernel import open_backend

    def refused(part: str, config: CudaConfig) -> None:
        with pytest.raises(BackendError) as caught:
            open_backend("cuda", cuda=config)
        assert part in str(caught.value)

    fatbin = os.environ["FAKE_CUDA_FATBIN"]
    refused("build-kernels", CudaConfig(fatbin="absent.fatbin"))
    refused("this process sees 1", CudaConfig(fatbin=fatbin, devices="1"))
    refused("do not load on this device of compute capability 9.0", CudaConfig(fatbin=__file__))
    set_faults("cuInit:1:100:plain")
    refused("nvidia-smi", CudaConfig(fatbin=fatbin))
    set_faults("cuModuleLoadDataEx:1:209:plain")
    refused("no kernel image is available", CudaConfig(fatbin=fatbin))
    set_faults("")
    auto = open_backend("auto", cuda=CudaConfig(fatbin="absent.fatbin"))
    assert auto.name == "cpu"
    auto.close()
    auto = open_backend("auto", cuda=CudaConfig(fatbin=fatbin))
    assert auto.name == "cuda"
    auto.close()
    assert_nothing_left()


if __name__ == "__main__":
    run(globals())
