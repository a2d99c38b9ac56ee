"""Programs of recipe steps, for tests of backends: random ones, and samples that carry them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from augserver.augment.sample import SampleParams
from augserver.augment.step_rules import read_applied

Program = list[list[dict[str, Any]]]
"""Of each channel, its steps in order: their op and explicit values."""

OPS: list[dict[str, Any]] = [
    {"op": "multiply", "factor": 1.5, "about": 10.0},
    {"op": "multiply", "factor": 0.5, "about": "mean"},
    {"op": "shift", "offset": 3.0},
    {"op": "noise", "std": 20.0},
    {"op": "contrast", "factor": 1.5},
    {"op": "gamma", "exponent": 0.7},
    {"op": "gamma", "exponent": 1.4, "invert": True, "keep_statistics": True},
    {"op": "blur", "sigma": [0.9, 0.0, 0.5]},
    {"op": "window", "low": -100.0, "high": 100.0},
]


def random_program(number: int, channels: int) -> Program | None:
    """Another program for every number, of up to five steps per channel; None for every fourth."""
    rng = np.random.default_rng(number)
    if number % 4 == 3:
        return None
    return [[OPS[k] for k in rng.integers(0, len(OPS), rng.integers(0, 6))] for _ in range(channels)]


def with_program(params: SampleParams, program: Program | None, dtype: DTypeLike = np.float32) -> SampleParams:
    """The sample with these steps in place of all that has a fixed order; for bytes each channel ends in a window."""
    if program is None:
        return params
    last = [{"op": "window", "low": -500.0, "high": 500.0}] if np.dtype(dtype) == np.uint8 else []
    steps: list[Any] = []
    for channel, tables in enumerate(program):
        for table in (*tables, *last):
            keys = {name: value for name, value in table.items() if name != "op"}
            steps.append(read_applied(table["op"], (channel,), keys, len(steps) + 1, len(program)))
    return replace(params, steps=tuple(steps), contrast=1.0, brightness=0.0, gamma=1.0, noise_std=0.0, window=None, occlusion=None)
