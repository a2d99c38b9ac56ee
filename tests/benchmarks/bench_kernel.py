"""Time the fused kernel against SciPy: the same draws of all four operations, interleaved in one run.

    python tests/benchmarks/bench_kernel.py [--rounds 7] [--isa all] [--json FILE]

First the outputs are compared with SciPy's. Then every round gives each contender the same eight draws; a contender's figure is the
median over rounds of its milliseconds per volume. SciPy runs on one thread and as a pool of two threads with a volume each, which is
its best on two cores; the ratio is between the two-thread figures.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import workload
from numpy.typing import NDArray

from augserver.augment.sample import SampleParams
from augserver.kernel import allocate, open_backend
from augserver.kernel.cpu import instruction_sets
from augserver.volume import Volume, VolumeInfo

BATCH = 4
BASELINE = "SciPy, pool of 2 threads"


def make_volume(image: NDArray[np.generic], label: NDArray[np.uint8]) -> Volume:
    """The arrays as a cache holds them: on huge pages."""
    voxels, ids = allocate((1, *image.shape), image.dtype), allocate(label.shape, np.uint8)
    voxels[0], ids[...] = image, label
    info = VolumeInfo(id="ct", shape=voxels.shape, dtype=image.dtype.name, spacing_mm=(1, 1, 1), affine=np.eye(4), has_label=True)
    return Volume(info=info, image=voxels, label=ids)


def sample_params(draw: workload.Draw, noise: bool = True) -> SampleParams:
    return SampleParams(
        affine=draw.affine,
        fill=workload.FILL,
        noise_std=draw.noise_std if noise else 0.0,
        noise_key=draw.key,
        window=workload.WINDOW,
        occlusion=draw.occlusion,
        occlusion_label=None,
    )


def check(volumes: dict[str, Volume], draws: list[workload.Draw]) -> None:
    """Raise SystemExit unless the kernel gives SciPy's values, noise aside, and noise of the drawn strength."""
    image, label = volumes["int16"].image[0].astype(np.float32), volumes["int16"].label
    assert label is not None  # made above
    with open_backend("cpu") as backend:
        for draw in draws:
            expected, expected_ids = workload.scipy_sample(image, label, draw, None)
            for storage, volume in volumes.items():
                out, ids = np.empty((1, 1, *workload.PATCH_SHAPE), np.float32), np.empty((1, *workload.PATCH_SHAPE), np.uint8)
                backend.augment([volume], [sample_params(draw, noise=False)], out, ids)
                worst, differing = float(np.abs(out[0, 0] - expected).max()), float((ids[0] != expected_ids).mean())
                if worst > 1e-3 or differing > 2e-5:
                    raise SystemExit(f"{storage}: the kernel differs from SciPy by {worst:.1e} of the window, labels in {differing:.1e}")
                noisy = np.empty_like(out)
                backend.augment([volume], [sample_params(draw)], noisy, ids)
                open_voxels = (expected > 0.4) & (expected < 0.6)
                strength = float((noisy - out)[0, 0][open_voxels].std()) * (workload.WINDOW[1] - workload.WINDOW[0])
                if abs(strength / draw.noise_std - 1) > 0.02:
                    raise SystemExit(f"{storage}: noise of std {strength:.2f} HU where {draw.noise_std:.2f} was asked for")


def scipy_contender(volume: Volume, draws: list[workload.Draw], threads: int, mode: str) -> Callable[[], None]:
    image, label = volume.image[0].astype(np.float32), volume.label
    assert label is not None  # made above
    rngs = [np.random.default_rng(k) for k in range(threads)]
    if threads == 1:
        return lambda: [workload.scipy_sample(image, label, draw, rngs[0], mode) for draw in draws] and None
    pool = ThreadPoolExecutor(threads)
    shares = [draws[k::threads] for k in range(threads)]

    def work(k: int) -> None:
        for draw in shares[k]:
            workload.scipy_sample(image, label, draw, rngs[k], mode)

    return lambda: list(pool.map(work, range(threads))) and None


def kernel_contender(volume: Volume, draws: list[workload.Draw], threads: int, isa: str) -> Callable[[], None]:
    backend = open_backend("cpu", threads=threads, isa=isa)
    out = allocate((BATCH, 1, *workload.PATCH_SHAPE), np.float32)
    ids = allocate((BATCH, *workload.PATCH_SHAPE), np.uint8)
    batches = [[sample_params(draw) for draw in draws[k : k + BATCH]] for k in range(0, len(draws), BATCH)]

    def step() -> None:
        for params in batches:
            backend.augment([volume] * BATCH, params, out, ids)

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--isa", default="all", help="one instruction set, or all")
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    arguments = parser.parse_args()

    image, label = workload.make_ct()
    draws = workload.make_draws()
    volumes = {"int16": make_volume(image, label), "float32": make_volume(image.astype(np.float32), label)}
    check(volumes, draws)

    contenders = {
        "SciPy, 1 thread": scipy_contender(volumes["int16"], draws, 1, "constant"),
        BASELINE: scipy_contender(volumes["int16"], draws, 2, "constant"),
    }
    vector_sets = [isa for isa in instruction_sets() if isa != "scalar" and arguments.isa in ("all", isa)]
    for isa in vector_sets:
        for storage, volume in volumes.items():
            for threads, unit in ((1, "thread"), (2, "threads")):
                contenders[f"augserver {isa} {storage}, {threads} {unit}"] = kernel_contender(volume, draws, threads, isa)

    times: dict[str, list[float]] = {name: [] for name in contenders}
    for step in list(contenders.values())[2:]:
        step()  # threads started, pages touched
    for _ in range(arguments.rounds):
        for name, step in contenders.items():
            start = time.perf_counter()
            step()
            times[name].append((time.perf_counter() - start) * 1e3 / len(draws))

    figures = {name: statistics.median(spent) for name, spent in times.items()}
    print(f"{'ms per volume':44s} {'median':>8s} {'min':>8s} {'SciPy 2 threads / this':>24s}")
    for name, spent in times.items():
        print(f"{name:44s} {figures[name]:8.2f} {min(spent):8.2f} {figures[BASELINE] / figures[name]:23.1f}x")
    best = f"augserver {vector_sets[0]} int16, 2 threads"
    ratio = figures[BASELINE] / figures[best]
    print(f"\n{ratio:.1f} times SciPy on the same two cores, both at their best ({best})")
    if arguments.json:
        arguments.json.write_text(json.dumps({"ms_per_volume": figures, "rounds": times, "times_scipy": ratio}, indent=1) + "\n")


if __name__ == "__main__":
    main()
