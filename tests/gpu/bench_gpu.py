"""Measure the CUDA backend on this machine's first card, and the peers that are installed, on the kernel benchmark's workload.

    python tests/gpu/bench_gpu.py [--write RESULTS.md] [--rounds 5] [--dry-run]

Every figure is a median over rounds, in which all contenders take their turn. Device times come from CUDA events around one stream's
work; pipeline times from the host's clock over a run of batches whose results have all arrived. --dry-run goes through everything once
with toy sizes, on the fake driver, and prints no figure.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pycuda.driver as cuda

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "benchmarks")]

import counters  # noqa: E402  (beside this file)
import peers_gpu  # noqa: E402  (beside this file)
import workload  # noqa: E402  (of tests/benchmarks)

from augserver.augment.sample import SampleParams  # noqa: E402
from augserver.config import CudaConfig  # noqa: E402
from augserver.kernel import open_backend  # noqa: E402
from augserver.kernel.batch import pack_batch  # noqa: E402
from augserver.kernel.cuda import fatbin  # noqa: E402
from augserver.kernel.cuda.device import Device  # noqa: E402
from augserver.kernel.cuda.pinned import PinnedArrays  # noqa: E402
from augserver.kernel.cuda.sizes import resolve_sizes  # noqa: E402
from augserver.volume import Volume, VolumeInfo  # noqa: E402

BATCH = 4
MIB = 1 << 20


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    what: str
    figure: float
    unit: str
    note: str = ""


@dataclass(frozen=True)
class Scale:
    """Sizes of a run: the real ones, or toys for the dry run."""

    rounds: int
    batches: int
    shrink: int  # patches and volumes are cut to 1 / shrink along each axis

    @property
    def patch(self) -> tuple[int, ...]:
        return tuple(n // self.shrink for n in workload.PATCH_SHAPE)


class Workload:
    """Volumes and parameters of the kernel benchmark."""

    def __init__(self, scale: Scale) -> None:
        image, label = workload.make_ct()
        cut = tuple(slice(0, n // scale.shrink) for n in image.shape)
        self.image, self.label = np.ascontiguousarray(image[cut]), np.ascontiguousarray(label[cut])
        self.draws = workload.make_draws()
        self.params = [
            SampleParams(
                affine=draw.affine,
                fill=workload.FILL,
                noise_std=draw.noise_std,
                noise_key=draw.key,
                window=workload.WINDOW,
                occlusion=None if draw.occlusion is None or scale.shrink > 1 else draw.occlusion,
                occlusion_label=None,
            )
            for draw in self.draws
        ]

    def volumes(self, count: int, dtype: str) -> list[Volume]:
        """`count` volumes with arrays of their own."""
        made = []
        for k in range(count):
            image, label = self.image[None].astype(dtype), self.label.copy()
            image.flags.writeable = label.flags.writeable = False
            info = VolumeInfo(id=str(k), shape=image.shape, dtype=dtype, spacing_mm=(1.0, 1.0, 1.0), affine=np.eye(4), has_label=True)
            made.append(Volume(info=info, image=image, label=label))
        return made

    def batch_params(self, sampler: str = "exact") -> list[SampleParams]:
        return [replace(self.params[k % len(self.params)], sampler=sampler) for k in range(BATCH)]


@contextmanager
def device_of(config: CudaConfig) -> Iterator[tuple[Device, PinnedArrays]]:
    """The first card without queue and threads: its pieces one by one."""
    cuda.init()
    context = cuda.Device(int(config.devices)).make_context()
    try:
        free_bytes, total_bytes = cuda.mem_get_info()
        sizes = resolve_sizes(config, free_bytes=free_bytes, total_bytes=total_bytes)
        pinned = PinnedArrays(lambda: None)
        device = Device("cuda", fatbin.read(Path(config.fatbin) if config.fatbin else None), sizes, pinned)
        yield device, pinned
        device.close()
        pinned.free_all()
    finally:
        cuda.Context.pop()
        context.detach()


def time_ms(stream: Any, work: Callable[[], None], rounds: int) -> float:
    """Median milliseconds of what `work` enqueues on `stream`, after one run to warm up."""
    times = []
    for _ in range(rounds + 1):
        start, stop = cuda.Event(), cuda.Event()
        start.record(stream)
        work()
        stop.record(stream)
        stop.synchronize()
        times.append(start.time_till(stop))
    return statistics.median(times[1:])


def measure_pieces(load: Workload, scale: Scale, config: CudaConfig) -> tuple[list[Row], dict[str, float]]:
    """Kernel, copies and memory of the card, each alone. Returns rows, and milliseconds per batch of the three stages."""
    rows: list[Row] = []
    voxels = BATCH * int(np.prod(scale.patch))
    with device_of(config) as (device, pinned):
        slot = device.slots[0]
        copied = min(config.slot_bytes or 256 * MIB, 256 * MIB) // 2
        both = time_ms(
            device.compute, lambda: cuda.memcpy_dtod_async(slot.device_out, int(slot.device_out) + copied, copied, device.compute), 9
        )
        memory_gb_s = 2 * copied / both / 1e6
        rows.append(Row("device memory, copy on the card", memory_gb_s, "GB/s", "read and written bytes; the kernel's share is of this"))
        stages: dict[str, float] = {}
        for dtype, out, sampler in (
            ("int16", "float32", "exact"),
            ("float32", "float32", "exact"),
            ("int16", "float16", "exact"),
            ("int16", "uint8", "exact"),
            ("int16", "float32", "texture"),
        ):
            volumes = load.volumes(BATCH, dtype)
            image, label = pinned.allocate((BATCH, 1, *scale.patch), out), pinned.allocate((BATCH, *scale.patch), np.uint8)
            batch = pack_batch(volumes, load.batch_params(sampler), image, label)
            device.enqueue(slot, batch)
            slot.done.synchronize()
            placed = device.place(slot, batch, int(slot.device_out), int(slot.device_out) + image.nbytes)
            cuda.memcpy_htod(slot.device_params, np.ascontiguousarray(placed).view(np.uint8))
            kernel = time_ms(device.compute, lambda placed=placed, sampler=sampler: device.launch(slot, placed, sampler), scale.rounds)
            # What must move at least: each result once, and the part of the volume under the patch once.
            least = image.nbytes + label.nbytes + voxels * (np.dtype(dtype).itemsize + 1)
            name = f"kernel, {dtype} volume -> {out}, {sampler}"
            rows.append(Row(name, voxels / kernel / 1e6, "Gvoxel/s", f"{100 * least / kernel / 1e6 / memory_gb_s:.0f} % of memory's rate"))
            if (dtype, out, sampler) == ("int16", "float32", "exact"):
                for threads in (64, 128, 256):
                    took = time_ms(device.compute, lambda placed=placed, n=threads: device.launch(slot, placed, "exact", n), scale.rounds)
                    rows.append(Row(f"the same in blocks of {threads} threads", voxels / took / 1e6, "Gvoxel/s"))
                down = time_ms(device.d2h, lambda image=image, label=label: _copy_down(device, slot, image, label), scale.rounds)
                rows.append(Row("device to host, pinned", (image.nbytes + label.nbytes) / down / 1e6, "GB/s"))
                pieces = pinned.allocate((volumes[0].image.nbytes + volumes[0].label.nbytes,), np.uint8)
                up = BATCH * time_ms(device.h2d, lambda pieces=pieces: _copy_up(device, slot, pieces), scale.rounds)
                rows.append(Row("host to device, pinned", BATCH * pieces.nbytes / up / 1e6, "GB/s"))
                stages = {"kernel": kernel, "D2H": down, "H2D": up}
            device.memory.residency(sampler).release(slot.residents)
            device.memory.residency(sampler).evict_unused()
    return rows, stages


def _copy_up(device: Device, slot: Any, pieces: Any) -> None:
    cuda.memcpy_htod_async(slot.device_out, pieces, device.h2d)


def _copy_down(device: Device, slot: Any, image: Any, label: Any) -> None:
    cuda.memcpy_dtoh_async(image, int(slot.device_out), device.d2h)
    cuda.memcpy_dtoh_async(label, int(slot.device_out), device.d2h)


def run_pipeline(backend: Any, batches: list[list[Volume]], params: list[SampleParams], scale: Scale, threads: int) -> float:
    """Milliseconds per batch from the first submission to the last result."""
    outputs = [
        (backend.allocate((BATCH, 1, *scale.patch), np.float32), backend.allocate((BATCH, *scale.patch), np.uint8)) for _ in range(threads)
    ]

    def work(k: int) -> None:
        for at in range(k, len(batches), threads):
            backend.augment(batches[at], params, *outputs[k])

    start = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, range(threads)))
    return 1e3 * (time.perf_counter() - start) / len(batches)


def measure_pipeline(load: Workload, scale: Scale, config: CudaConfig, stages: dict[str, float]) -> tuple[list[Row], float]:
    """The whole backend, resident and cold, one batch at a time and overlapped. Returns rows, and ms per batch of the pinned cold one.

    Cold volumes are measured twice: from ordinary memory, through the staging ring, and from pinned memory, as in the server's cache.
    """
    volumes = load.volumes(3 * BATCH, "int16")
    one = volumes[0].image.nbytes + volumes[0].label.nbytes + 1024  # a volume and what alignment adds
    groups = [volumes[k : k + BATCH] for k in range(0, len(volumes), BATCH)]
    params = load.batch_params()
    rows: list[Row] = []
    times: dict[tuple[str, bool], float] = {}
    for kind in ("resident", "cold, staged", "cold, pinned"):
        # Cold: three groups in turn, and room for two, of which the one wanted next is always the one that has just gone.
        budget = one * (len(volumes) if kind == "resident" else 2 * BATCH)
        backend = open_backend("cuda", cuda=replace(config, volume_bytes=budget))
        try:
            if kind == "cold, pinned":
                groups = [[_pinned_copy(backend, volume) for volume in group] for group in groups]
            batches = [groups[k % len(groups)] for k in range(scale.batches)]
            run_pipeline(backend, batches[: len(groups)], params, scale, 1)
            figures: dict[bool, list[float]] = {True: [], False: []}
            for _ in range(scale.rounds):
                for overlap in (False, True):
                    figures[overlap].append(run_pipeline(backend, batches, params, scale, config.slots + 1 if overlap else 1))
        finally:
            backend.close()
        for overlap in (False, True):
            times[kind, overlap] = statistics.median(figures[overlap])
            name = f"pipeline, volumes {kind}, {'overlapped' if overlap else 'one batch at a time'}"
            rows.append(Row(name, times[kind, overlap], "ms/batch"))
        note = "1.69 is the aim" if kind == "cold, pinned" else ""
        rows.append(Row(f"gain of the overlap, {kind}", times[kind, False] / times[kind, True], "times", note))
    slowest = max(stages, key=lambda name: stages[name])
    note = f"{slowest}; 1.15 is the aim"
    rows.append(Row("pinned cold pipeline over its slowest stage alone", times["cold, pinned", True] / stages[slowest], "times", note))
    return rows, times["cold, pinned", True]


def _pinned_copy(backend: Any, volume: Volume) -> Volume:
    image, label = backend.allocate(volume.image.shape, volume.image.dtype), backend.allocate(volume.label.shape, np.uint8)
    image[...], label[...] = volume.image, volume.label
    image.flags.writeable = label.flags.writeable = False
    return replace(volume, image=image, label=label)


def measure_peers(load: Workload, scale: Scale, ours_ms: float) -> list[Row]:
    """SciPy, and what is installed on the card; milliseconds per volume, and how many times ours."""
    rows = [Row("augserver, cold, copies included", ours_ms / BATCH, "ms/volume")]
    for peer in peers_gpu.peers(load.image, load.label, load.draws, scale.patch):
        wrong = peers_gpu.disagreement(peer, 0, load.image, load.label, load.draws, scale.patch)
        if wrong:
            print(f"left out, not the same work: {peer.name}: {wrong}", file=sys.stderr)
            continue
        times = []
        for k in range(scale.rounds):
            start = time.perf_counter()
            peer.run(k, True)
            times.append(1e3 * (time.perf_counter() - start))
        figure = statistics.median(times)
        rows.append(Row(peer.name, figure, "ms/volume", f"{figure / (ours_ms / BATCH):.1f} times augserver's"))
    return rows


def describe() -> str:
    """Card, driver, machine and commit, for the table's head."""
    device = cuda.Device(0)
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=HERE, capture_output=True, text=True, check=False).stdout.strip()
    version = cuda.get_driver_version()
    return (
        f"{device.name()}, compute capability {'.'.join(map(str, device.compute_capability()))}, driver for CUDA {version // 1000}."
        f"{version % 1000 // 10}; {os.cpu_count()} CPUs, Python {platform.python_version()}; commit {commit or 'unknown'}"
    )


def as_table(rows: list[Row], head: str) -> str:
    """Markdown."""
    lines = [f"\n## GPU, {datetime.datetime.now(datetime.UTC):%Y-%m-%d}\n", f"{head}. `tests/gpu/check.sh`; batches of {BATCH}.\n"]
    lines += ["| what | figure | unit | note |", "|---|---:|---|---|"]
    lines += [f"| {row.what} | {row.figure:.4g} | {row.unit} | {row.note} |" for row in rows]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", type=Path, help="append the table to this file")
    parser.add_argument("--counters", type=Path, help="what ncu said of profile_case.py, for the table")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--dry-run", action="store_true", help="toy sizes, no figures")
    arguments = parser.parse_args()
    dry = arguments.dry_run
    scale = Scale(rounds=1, batches=4, shrink=10) if dry else Scale(rounds=arguments.rounds, batches=48, shrink=1)
    slot_bytes, volume_bytes = (4 * MIB, 16 * MIB) if dry else (256 * MIB, 512 * MIB)
    config = CudaConfig(fatbin=os.environ.get("AUGSERVER_FATBIN", ""), slot_bytes=slot_bytes, volume_bytes=volume_bytes)
    load = Workload(scale)
    rows, stages = measure_pieces(load, scale, config)
    pipeline, cold_ms = measure_pipeline(load, scale, config, stages)
    rows += pipeline + measure_peers(load, scale, cold_ms)
    if arguments.counters is not None and arguments.counters.exists():
        rows += [Row(f"{each.kernel}: {each.metric}", each.figure, each.unit, "ncu") for each in counters.read(arguments.counters)]
    if dry or "fake" in cuda.Device(0).name():
        print(f"dry run: {len(rows)} rows, no figures")
        return
    table = as_table(rows, describe())
    print(table)
    if arguments.write is not None:
        with arguments.write.open("a", encoding="utf-8") as results:
            results.write(table)


if __name__ == "__main__":
    main()
