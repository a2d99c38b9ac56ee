"""report() beside MONAI, SimpleITK and SciPy's distance maps, in one run: a 200 x 512 x 512 volume with six classes.

    python tests/benchmarks/bench_metrics.py [--shape 200 512 512] [--threads 2] [--json]

Ours computes all scores of report(). Each peer computes the surface distances of the same five organs in the way its documentation
shows: MONAI the Hausdorff distance, its 95th percentile and the average symmetric surface distance; SimpleITK LabelContour and a
signed distance map per organ and direction; SciPy the same with binary_erosion and distance_transform_edt, once on the whole volume and
once cropped to the organ. Prints wall and CPU seconds, their ratios to ours, the largest difference of the average surface distance, and
by how much the process's peak of memory grew. Imports do not count; peers that are not installed are left out.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

SPACING_MM = (1.5, 0.75, 0.8)
CLASSES = {0: "background", 1: "liver", 2: "bladder", 3: "lungs", 4: "kidneys", 5: "bone"}
# centre and half axes as shares of the volume, (z, y, x), and the class: two lungs, two kidneys, ribs stand in as a shell
_BODIES = [
    (3, (0.70, 0.45, 0.30), (0.22, 0.20, 0.13)),
    (3, (0.70, 0.45, 0.70), (0.21, 0.20, 0.12)),
    (1, (0.38, 0.45, 0.35), (0.13, 0.18, 0.20)),
    (4, (0.30, 0.65, 0.33), (0.10, 0.06, 0.06)),
    (4, (0.31, 0.65, 0.67), (0.10, 0.06, 0.06)),
    (2, (0.10, 0.50, 0.50), (0.06, 0.07, 0.09)),
]

Labels = NDArray[np.uint8]


def make_pair(shape: tuple[int, int, int]) -> tuple[Labels, Labels]:
    """Prediction and truth: bumpy bodies in a shell, and the same with other bumps and a few false islands."""
    return _bodies(shape, seed=1), _bodies(shape, seed=0)


def ours(prediction: Labels, truth: Labels) -> list[float]:
    from augtrain.metrics import report

    scores = report(prediction, truth, SPACING_MM, CLASSES)
    return [scores.per_class[k].assd or 0.0 for k in range(1, 6)]


def monai(prediction: Labels, truth: Labels) -> list[float]:
    import torch
    from monai.metrics import compute_average_surface_distance, compute_hausdorff_distance

    found = []
    for k in range(1, 6):
        pair = [torch.from_numpy(labels == k)[None, None] for labels in (prediction, truth)]
        for percentile in (None, 95):
            compute_hausdorff_distance(*pair, include_background=True, spacing=SPACING_MM, percentile=percentile)
        found.append(float(compute_average_surface_distance(*pair, include_background=True, spacing=SPACING_MM, symmetric=True)))
    return found


def simpleitk(prediction: Labels, truth: Labels) -> list[float]:
    import SimpleITK as sitk

    images = [sitk.ConstantPad(sitk.GetImageFromArray(labels), [1] * 3, [1] * 3) for labels in (prediction, truth)]  # sees no border
    for image in images:
        image.SetSpacing(SPACING_MM[::-1])
    found = []
    for k in range(1, 6):
        contours = [sitk.LabelContour(image == k) for image in images]
        maps = [sitk.GetArrayFromImage(sitk.Abs(sitk.SignedMaurerDistanceMap(each, False, False, True))) for each in contours]
        masks = [sitk.GetArrayFromImage(each) > 0 for each in contours]
        found.append(_pooled_mean(maps[1][masks[0]], maps[0][masks[1]]))
    return found


def scipy_whole(prediction: Labels, truth: Labels) -> list[float]:
    return [_by_distance_maps(prediction == k, truth == k) for k in range(1, 6)]


def scipy_cropped(prediction: Labels, truth: Labels) -> list[float]:
    found = []
    for k in range(1, 6):
        either = (prediction == k) | (truth == k)
        box = ndimage.find_objects(either.view(np.uint8), max_label=1)[0]
        found.append(_by_distance_maps(prediction[box] == k, truth[box] == k))
    return found


PEERS: dict[str, Callable[[Labels, Labels], list[float]]] = {
    "SciPy EDT, cropped": scipy_cropped,
    "SciPy EDT, whole volume": scipy_whole,
    "SimpleITK": simpleitk,
    "MONAI": monai,
}


def main() -> None:
    """Measure ours three times and each peer once; print each when it is done, or all as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", type=int, nargs=3, default=(200, 512, 512))
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="of torch and SimpleITK; ours takes all")
    parser.add_argument("--peers", nargs="*", choices=PEERS, default=list(PEERS))
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    _limit_threads(options.threads)
    prediction, truth = make_pair(tuple(options.shape))
    first = min((_measured("augtrain.metrics.report", ours, prediction, truth) for _ in range(3)), key=lambda row: row.wall_s)
    rows = [first]
    _show(first, first, options.json)
    for name in options.peers:
        try:
            rows.append(_measured(name, PEERS[name], prediction, truth))
        except ImportError:
            continue
        _show(rows[-1], first, options.json)
    if options.json:
        print(json.dumps({"shape": list(options.shape), "threads": options.threads, "rows": [asdict(row) for row in rows]}, indent=1))


@dataclass(frozen=True)
class Row:
    """What one took: wall clock, CPU seconds of all threads, growth of the process's peak memory, and the average distance per organ."""

    name: str
    wall_s: float
    cpu_s: float
    peak_grew_mb: float
    assd_mm: list[float]


def _measured(name: str, function: Callable[[Labels, Labels], list[float]], *pair: Labels) -> Row:
    function(*make_pair((24, 32, 32)))  # imports
    before_mb, wall, cpu = _peak_mb(), time.perf_counter(), time.process_time()
    found = function(*pair)
    return Row(name, time.perf_counter() - wall, time.process_time() - cpu, _peak_mb() - before_mb, found)


def _show(row: Row, first: Row, as_json: bool) -> None:
    differs = max(abs(a - b) for a, b in zip(row.assd_mm, first.assd_mm, strict=True))
    line = (
        f"{row.name:26s} {row.wall_s:7.1f} s  {row.cpu_s:7.1f} CPU s  times ours: {row.wall_s / first.wall_s:6.1f} wall,"
        f" {row.cpu_s / first.cpu_s:6.1f} CPU  ASSD differs by {differs:.1e} mm  peak +{row.peak_grew_mb:.0f} MB"
    )
    print(line, file=sys.stderr if as_json else sys.stdout, flush=True)


def _bodies(shape: tuple[int, int, int], seed: int) -> Labels:
    bumps = _bumps(shape, seed)
    z, y, x = (
        np.linspace(0, 1, size, dtype=np.float32).reshape([-1 if a == axis else 1 for a in range(3)]) for axis, size in enumerate(shape)
    )
    labels = np.zeros(shape, np.uint8)
    ring = ((y - 0.5) / 0.36) ** 2 + ((x - 0.5) / 0.42) ** 2 + 0 * z + bumps
    labels[(ring > 0.93) & (ring < 1.0) & (np.sin(60 * z) > 0)] = 5
    for number, centre, half in _BODIES:
        radius = sum(((axis - c) / h) ** 2 for axis, c, h in zip((z, y, x), centre, half, strict=True))
        labels[radius + bumps < 1] = number
    islands = np.random.default_rng(seed).integers(0, shape, (20, 3))
    for number, (i, j, k) in enumerate(islands.tolist()):
        labels[i : i + 2, j : j + 3, k : k + 4] = 1 + number % 5
    return labels


def _bumps(shape: tuple[int, int, int], seed: int) -> NDArray[np.float32]:
    coarse = np.random.default_rng(seed).normal(0, 0.06, [max(2, size // 16) for size in shape]).astype(np.float32)
    smooth = ndimage.zoom(coarse, [size / n for size, n in zip(shape, coarse.shape, strict=True)], order=1)
    return np.asarray(smooth, np.float32)


def _by_distance_maps(prediction: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float:
    edges = [mask ^ ndimage.binary_erosion(mask) for mask in (prediction, truth)]
    maps = [ndimage.distance_transform_edt(~edge, sampling=SPACING_MM) for edge in edges]
    return _pooled_mean(maps[1][edges[0]], maps[0][edges[1]])


def _pooled_mean(first: NDArray[np.floating], second: NDArray[np.floating]) -> float:
    return float((first.sum(dtype=np.float64) + second.sum(dtype=np.float64)) / (first.size + second.size))


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _limit_threads(threads: int) -> None:
    try:
        import SimpleITK as sitk
        import torch
    except ImportError:
        return
    torch.set_num_threads(threads)
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(threads)


if __name__ == "__main__":
    main()
