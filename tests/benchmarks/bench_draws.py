"""Time what happens before the kernel: drawing a sample's parameters, and finding a foreground voxel.

    python tests/benchmarks/bench_draws.py

Figures are the best of seven rounds, on one thread.
"""

from __future__ import annotations

import itertools
import timeit

import numpy as np
import workload
from augclient import Recipe

from augserver.augment import compile_recipe, count_planes
from augserver.augment.foreground import draw_voxel
from augserver.augment.random import words
from augserver.pipeline.plan import Plan
from augserver.volume import VolumeInfo

CLASSES = {0: "background", 1: "organ"}
COMMON = Recipe(
    crop={"mode": "uniform"},
    affine={"rotate_deg": 15, "scale": [0.8, 1.25], "shear": 0.1, "reflect": [0, 0, 0.5], "translate_mm": 10},
    occlude={"max_voxels": 40, "probability": 0.5},
    contrast={"factor": [0.8, 1.2]},
    noise={"std": [0, 30]},
    window={"low": [-1000, -100], "high": [200, 1500]},
)


def make_plan(recipe: Recipe) -> Plan:
    info = VolumeInfo(
        id="ct", shape=(1, *workload.VOLUME_SHAPE), dtype="int16", spacing_mm=(3.0, 1.0, 0.5), affine=np.eye(4), has_label=True
    )
    return Plan({"ct": info}, compile_recipe(recipe.proto, modality="ct", classes=CLASSES), workload.PATCH_SHAPE, seed=0)


def main() -> None:
    common, identity = make_plan(COMMON), make_plan(Recipe())
    label = workload.make_ct()[1]
    counts = count_planes(label)
    index = itertools.count()
    cases = {
        "random words of one address": lambda: words(0, (0, next(index)), 43),
        "parameters, the identity": lambda: identity.params(next(index)),
        "parameters, common recipe": lambda: common.params(next(index)),
        "foreground voxel of a counted volume": lambda: draw_voxel(label, counts, None, next(index) << 40, next(index) << 44),
    }
    for name, run in cases.items():
        print(f"{name:<40} {min(timeit.repeat(run, number=2000, repeat=7)) / 2000 * 1e6:8.1f} us")
    millions = label.size / 1e6
    once = min(timeit.repeat(lambda: count_planes(label), number=1, repeat=7)) / millions * 1e3
    print(f"{'counting a label, per million voxels':<40} {once:8.1f} ms")


if __name__ == "__main__":
    main()
