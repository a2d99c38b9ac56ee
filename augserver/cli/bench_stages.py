"""The stages of `augserver bench`, each timed alone on the same samples: SciPy, store, kernel, pipeline, and both roads to a client.

Every stage is run for a time, not a count, after a first batch that is not timed: memory is touched, volumes are decoded.
"""

from __future__ import annotations

import pickle
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from augclient import Recipe, connect
from scipy import ndimage

from augserver.augment import compile_recipe
from augserver.augment.sample import SampleParams
from augserver.config import ServerConfig
from augserver.cores import count_cores
from augserver.kernel import Backend
from augserver.pipeline.batch_layout import BatchLayout
from augserver.pipeline.batch_slots import SlotPool
from augserver.pipeline.host_memory import read_available_bytes
from augserver.pipeline.plan import Plan, batch_indices
from augserver.pipeline.quarantine import Quarantine
from augserver.pipeline.scheduler import Scheduler, StreamSpec
from augserver.pipeline.stage_clock import StageClock
from augserver.pipeline.volume_cache import VolumeCache
from augserver.store import Dataset
from augserver.volume import Volume


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """What every stage computes.

    Attributes:
        path: of the dataset.
        recipe: of every sample.
        patch: (Z, Y, X).
        batch_size: samples of a batch.
        window_s: how long each stage is timed.
    """

    path: Path
    recipe: Recipe
    patch: tuple[int, int, int]
    batch_size: int
    window_s: float

    def plan(self, dataset: Dataset) -> Plan:
        """The addresses of its samples; PatchError where a volume cannot give the patch."""
        compiled = compile_recipe(self.recipe.proto, modality=dataset.modality, classes=dataset.classes)
        return Plan({name: dataset.info(name) for name in dataset.volumes}, compiled, self.patch, seed=0)

    def layout(self, dataset: Dataset) -> BatchLayout:
        """Of one batch, float32."""
        infos = [dataset.info(name) for name in dataset.volumes]
        shape = (self.batch_size, infos[0].shape[0], *self.patch)
        return BatchLayout(image_shape=shape, image_dtype="float32", has_label=any(info.has_label for info in infos))


def time_scipy(workload: Workload) -> float:
    """Volumes/s of SciPy doing the same to the same samples, one process for each core at the same time."""
    # Not multiprocessing: its children run the caller's main module again, whatever that is.
    code = "import pickle, sys; from augserver.cli.bench_stages import time_scipy_alone as run; print(run(*pickle.load(sys.stdin.buffer)))"
    command = [sys.executable, "-P", "-c", code]

    def run_on(core: int) -> float:
        done = subprocess.run(command, input=pickle.dumps((workload, core)), stdout=subprocess.PIPE, check=True)
        return float(done.stdout)

    cores = count_cores()
    with ThreadPoolExecutor(cores) as pool:
        return sum(pool.map(run_on, range(cores)))


def time_scipy_alone(workload: Workload, core: int) -> float:
    """Volumes/s of SciPy on one core, on sample number `core`."""
    dataset = Dataset.open(workload.path)
    plan, rng = workload.plan(dataset), np.random.default_rng(core)
    params = plan.params(core, dataset.read(plan.address(core)[2]))
    volume = dataset.read(params.volume)
    image = volume.image.astype(np.float32)

    def one_sample(_: int) -> None:
        _scipy_sample(image, volume, params, workload.patch, rng)

    return _rate(one_sample, 1, workload.window_s)


def _scipy_sample(image: np.ndarray, volume: Volume, params: SampleParams, patch: tuple[int, int, int], rng: np.random.Generator) -> None:
    """Affine (order 1 and 0), noise, occlusion and window with SciPy and NumPy, float32 and in place where that is possible."""
    matrix, offset = params.affine[:, :3].astype(np.float64), params.affine[:, 3].astype(np.float64)
    if volume.label is not None:
        ndimage.affine_transform(volume.label, matrix, offset, patch, np.uint8, order=0, mode="constant", cval=0, prefilter=False)
    for channel in image:
        out = ndimage.affine_transform(
            channel, matrix, offset, patch, np.float32, order=1, mode="grid-constant", cval=params.fill, prefilter=False
        )
        if params.noise_std:
            noise = rng.standard_normal(patch, np.float32)
            noise *= np.float32(params.noise_std)
            out += noise
        if params.occlusion:
            out[slice(*params.occlusion)] = params.fill
        if params.window:
            low, high = (np.float32(limit) for limit in params.window)
            np.clip(out, low, high, out=out)
            out -= low
            out *= np.float32(1) / (high - low)


def time_store(workload: Workload) -> float:
    """Volumes/s decoded from disk, or from the page cache, as it is at the time."""
    dataset = Dataset.open(workload.path)
    return _rate(lambda k: dataset.read(dataset.volumes[k % len(dataset.volumes)]), 1, workload.window_s)


def time_kernel(workload: Workload, backend: Backend) -> float:
    """Volumes/s of the backend alone: parameters drawn before, volumes in memory, one output array."""
    dataset = Dataset.open(workload.path)
    plan, layout = workload.plan(dataset), workload.layout(dataset)
    drawn: list[list[SampleParams]] = []
    volumes: dict[str, Volume] = {}
    for step in range(4):
        indices = batch_indices(step, workload.batch_size)
        for index in indices:
            name = plan.address(index)[2]
            volumes[name] = volumes.get(name) or dataset.read(name, allocate=backend.allocate)
        drawn.append([plan.params(index, volumes[plan.address(index)[2]]) for index in indices])
    image = backend.allocate(layout.image_shape, "float32")
    label = backend.allocate((workload.batch_size, *workload.patch), "uint8") if layout.has_label else None

    def one_batch(k: int) -> None:
        params = drawn[k % len(drawn)]
        backend.augment([volumes[each.volume] for each in params], params, image, label)

    return _rate(one_batch, workload.batch_size, workload.window_s)


def time_pipeline(workload: Workload, backend: Backend) -> float:
    """Volumes/s of whole batches made for a stream, in this process: addresses, cache, draws, kernel, slots."""
    dataset = Dataset.open(workload.path)
    config = ServerConfig()
    cache = VolumeCache(dataset.info, partial(dataset.read, allocate=backend.allocate), read_available_bytes() // 2)
    slots = SlotPool(config.streams.max_slot_bytes, lambda size: backend.allocate((size,), np.uint8))
    workers = backend.concurrency + 1
    scheduler = Scheduler(backend, cache, Quarantine(0), slots, StageClock(), look_ahead=workers, workers=workers)
    spec = StreamSpec(
        plan=workload.plan(dataset),
        layout=workload.layout(dataset),
        indices=lambda step: batch_indices(step, workload.batch_size),
        start=0,
        stop=1 << 40,
    )
    try:
        with scheduler.open(spec) as stream:

            def one_batch(_: int) -> None:
                batch = stream.next_batch()
                if batch is not None:
                    batch.release()

            return _rate(one_batch, workload.batch_size, workload.window_s, first=_epoch_batches(dataset, workload))
    finally:
        scheduler.close()


def time_road(workload: Workload, address: str, transport: str) -> float:
    """Volumes/s of batches that arrive in this process from a server in another one."""
    with connect(address) as server:
        first = -(-len(server.dataset().volumes) // workload.batch_size)
        with server.stream(workload.recipe, patch=workload.patch, batch_size=workload.batch_size, transport=transport) as stream:
            return _rate(lambda _: next(stream), workload.batch_size, workload.window_s, first=first)


def _epoch_batches(dataset: Dataset, workload: Workload) -> int:
    """Batches until every volume was decoded once."""
    return -(-len(dataset.volumes) // workload.batch_size)


def _rate(run: Callable[[int], object], volumes: int, window_s: float, *, first: int = 1) -> float:
    """Volumes per second of `run(0), run(1), ...`, each of which makes `volumes`, after `first` calls that are not timed."""
    for k in range(first):
        run(k)
    began = time.perf_counter()
    done, elapsed = 0, 0.0
    while elapsed < window_s:
        run(first + done)
        done += 1
        elapsed = time.perf_counter() - began
    return done * volumes / elapsed
