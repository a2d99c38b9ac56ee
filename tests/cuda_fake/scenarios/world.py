"""Toys and tools that the scenarios share: volumes, batches, the fake driver's controls. Runs in a process of its own.

`run(namespace)` calls the scenario that argv names. A hang ends the process with the stacks of all threads.
"""

from __future__ import annotations

import ctypes
import faulthandler
import os
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from augserver.augment.sample import SampleParams
from augserver.config import CudaConfig
from augserver.kernel import Backend, open_backend
from augserver.volume import Volume, VolumeInfo

HANG_S = 60.0
PATCH = (6, 7, 9)
LIVE = ("device_blocks", "pinned_blocks", "registered_blocks", "streams", "events", "modules", "arrays", "textures", "contexts")
NEVER = ("orphans", "threads_with_context", "pageable_copies")

driver: Any = ctypes.CDLL("libcuda.so.1")
cpu = open_backend("cpu", threads=1)


def counter(name: str) -> int:
    value: int = driver.fake_counter(name.encode())
    assert value >= 0, f"no counter {name}"
    return value


def set_faults(text: str) -> None:
    driver.fake_set_faults(text.encode())


def set_delays(text: str) -> None:
    driver.fake_set_delays(text.encode())


def assert_nothing_left() -> None:
    left = {name: counter(name) for name in (*LIVE, *NEVER) if counter(name)}
    assert not left, left


def make_volume(number: int, *, dtype: str = "int16", label: bool = True, channels: int = 1, writable: bool = False) -> Volume:
    """An asymmetric volume of noise; every number another shape and content."""
    rng = np.random.default_rng(number)
    shape = (channels, 5 + number % 7, 7 + number % 5, 11 + number % 3)
    image = rng.integers(-1000, 1000, shape).astype(dtype)
    labels = rng.integers(0, 9, shape[1:]).astype(np.uint8) if label else None
    image.flags.writeable = writable
    if labels is not None:
        labels.flags.writeable = writable
    info = VolumeInfo(id=f"v{number}", shape=image.shape, dtype=dtype, spacing_mm=(3.0, 1.0, 0.5), affine=np.eye(4), has_label=label)
    return Volume(info=info, image=image, label=labels)


def make_params(number: int) -> SampleParams:
    """Another transformation for every number; every option of the kernel occurs."""
    rng = np.random.default_rng(1000 + number)
    affine = np.eye(3, 4) * rng.uniform(0.7, 1.3) + rng.uniform(-0.3, 0.3, (3, 4))
    params = SampleParams(affine=affine.astype(np.float32), fill=-1000.0, window=(-800.0, 700.0), noise_key=number * 2**33 + 7)
    if number % 2:
        params = replace(params, noise_std=25.0, contrast=1.1, pivot=40.0, brightness=-3.0)
    if number % 3 == 0:
        params = replace(params, occlusion=(1, 4), occlusion_label=255)
    if number % 5 == 0:
        params = replace(params, keep_labels=frozenset({1, 4, 5}), gamma=0.8)
    return params


class Batch:
    """One batch of toys: made anew for each backend, compared byte by byte with the CPU's."""

    def __init__(self, volumes: list[Volume], first: int, *, dtype: str = "float32", label: bool = True, nearest: bool = False) -> None:
        self.volumes = volumes
        self.params = [make_params(first + k) for k in range(len(volumes))]
        self.dtype, self.label, self.nearest = dtype, label, nearest

    def use_sampler(self, sampler: str) -> None:
        self.params = [replace(params, sampler=sampler) for params in self.params]

    def outputs(self, backend: Backend) -> tuple[Any, Any]:
        """Arrays for the results, full of what no kernel writes everywhere."""
        image = backend.allocate((len(self.volumes), len(self.volumes[0].image), *PATCH), self.dtype)
        image.view(np.uint8)[...] = 0xCD
        label = backend.allocate((len(self.volumes), *PATCH), np.uint8) if self.label else None
        if label is not None:
            label[...] = 0xCD
        return image, label

    def compute(self, backend: Backend, outputs: tuple[Any, Any] | None = None) -> tuple[Any, Any]:
        """The results, in `outputs` or in new arrays."""
        image, label = outputs or self.outputs(backend)
        backend.augment(self.volumes, self.params, image, label, nearest=self.nearest)
        return image, label

    def wrong_bytes(self, got: tuple[Any, Any]) -> int:
        """Bytes that differ from the CPU's."""
        expected = self.compute(cpu)
        return sum(int((a.view(np.uint8) != b.view(np.uint8)).sum()) for a, b in zip(got, expected, strict=True) if a is not None)


def open_cuda(*, on_lost: Callable[[Any], None] | None = None, **settings: Any) -> Any:
    """A CUDA backend of toy sizes."""
    sizes = {"slot_bytes": 64 << 10, "volume_bytes": 256 << 10, "texture_bytes": 256 << 10, "staging_bytes": 1 << 20, **settings}
    return open_backend("cuda", cuda=CudaConfig(fatbin=os.environ["FAKE_CUDA_FATBIN"], **sizes), on_lost=on_lost)


def wait_until(reached: Callable[[], bool]) -> None:
    """Return once `reached()` holds, which no event tells of. Lets other threads run meanwhile: a bare loop would hold the GIL."""
    pause = threading.Event()
    while not reached():
        pause.wait(0.001)


def in_threads(count: int, work: Callable[[int], None]) -> list[BaseException]:
    """Call work(0), work(1), ... in threads of their own; returns what they raised."""
    raised: list[BaseException] = []

    def guarded(k: int) -> None:
        try:
            work(k)
        except BaseException as error:
            raised.append(error)

    threads = [threading.Thread(target=guarded, args=(k,)) for k in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return raised


def run(namespace: dict[str, Any]) -> None:
    faulthandler.dump_traceback_later(HANG_S, exit=True)
    namespace[sys.argv[1]]()
