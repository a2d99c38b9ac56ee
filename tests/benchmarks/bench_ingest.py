"""Time the ingest of a 512 x 512 x 400 NIfTI to 3 mm against scipy.ndimage, and measure its peak memory.

    python tests/benchmarks/bench_ingest.py [--gzip]

In one run, best of three each: our resampling and gaussian_filter + zoom on the same voxels in memory; then the whole of `augserver
ingest` (checksums, resampling, writing) in a process of its own, and reading by nibabel with gaussian_filter + zoom. At last, eight
smaller volumes by one job and by two.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from scipy import ndimage

from augserver.ingest.resample import resample_image

SHAPE = (400, 512, 512)
SPACING_MM = (1.0, 0.8, 0.8)
TARGET_MM = (3.0, 3.0, 3.0)
ROUNDS = 3

INGEST = """
import json, re, sys, time
from augserver.ingest import IngestConfig, find_sources, ingest_scans
from augserver.store import DatasetWriter
start = time.perf_counter()
config = IngestConfig(spacing_mm=(3.0, 3.0, 3.0), jobs=int(sys.argv[3]))
with DatasetWriter(sys.argv[2], modality="ct", preprocessing=config.preprocessing) as writer:
    outcomes = list(ingest_scans(find_sources([__import__("pathlib").Path(sys.argv[1])]).sources, writer, config))
    writer.finish()
assert all(outcome.info for outcome in outcomes), outcomes
seconds = time.perf_counter() - start
peak_kb = re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]  # ru_maxrss would count the parent before exec
print(json.dumps([seconds, int(peak_kb) / 1e6]))
"""


def make_ct(shape: tuple[int, int, int]) -> np.ndarray:
    """A smooth body with noise, int16: it packs by gzip about as a CT does."""
    z, y, x = (np.linspace(-1, 1, size, dtype=np.float32) for size in shape)
    body = z[:, None, None] ** 2 * 0.2 + y[:, None] ** 2 + x**2 < 0.7
    noise = np.random.default_rng(0).integers(-15, 15, shape, np.int16)
    return np.where(body, 40 + noise, -1000 + noise // 8).astype(np.int16)


def scipy_resample(voxels: np.ndarray) -> np.ndarray:
    ratio = np.divide(TARGET_MM, SPACING_MM)
    smooth = ndimage.gaussian_filter(voxels.astype(np.float32), np.maximum(ratio - 1, 0) / 3, mode="nearest")
    return ndimage.zoom(smooth, 1 / ratio, order=1)


def best_s(run: Callable[[], Any]) -> float:
    times = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return min(times)


def ingest_s(source: Path, folder: Path, jobs: int) -> tuple[float, float]:
    """Seconds and peak GB of an ingest in a process of its own, best of ROUNDS; the imports are not timed."""
    results = []
    for number in range(ROUNDS):
        out = folder / f"{source.name}-{jobs}-{number}.zarr"
        command = [sys.executable, "-c", INGEST, str(source), str(out), str(jobs)]
        results.append(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
    return min(seconds for seconds, _ in results), max(peak for _, peak in results)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--gzip", action="store_true", help="pack the file; unpacking then takes most of the time on both sides")
    suffix = ".nii.gz" if parser.parse_args().gzip else ".nii"
    voxels = make_ct(SHAPE)
    ours = best_s(lambda: resample_image(voxels, SPACING_MM, TARGET_MM))
    scipys = best_s(lambda: scipy_resample(voxels))
    print(f"resampling in memory   {ours:6.2f} s, SciPy {scipys:6.2f} s: {scipys / ours:5.1f} times")
    affine = np.diag([-SPACING_MM[2], -SPACING_MM[1], SPACING_MM[0], 1.0])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = folder / f"scan{suffix}"
        nibabel.save(nibabel.Nifti1Image(voxels.T, affine), path)
        whole, peak_gb = ingest_s(path, folder, 1)
        reading = best_s(lambda: scipy_resample(np.asarray(nibabel.load(path).dataobj).T))
        print(
            f"whole ingest {suffix:<9} {whole:6.2f} s, nibabel and SciPy {reading:6.2f} s: {reading / whole:5.1f} times "
            f"(its resampling alone: {scipys / whole:.1f}); peak {peak_gb:.2f} GB"
        )
        (folder / "many").mkdir()
        for number in range(8):
            nibabel.save(nibabel.Nifti1Image(voxels[50 * number : 50 * number + 50].T, affine), folder / f"many/{number}.nii.gz")
        one, two = (ingest_s(folder / "many", folder, jobs)[0] for jobs in (1, 2))
        print(f"8 packed volumes       {one:6.2f} s by one job, {two:6.2f} s by two: {one / two:5.2f} times")


if __name__ == "__main__":
    main()
