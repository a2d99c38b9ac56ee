"""Batches with programs of recipe steps, for tests of backends: random programs, and both backends' packing with them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any
from unittest import mock

import numpy as np

from augserver.kernel import _cpu
from augserver.kernel.batch import PackedBatch, pack_batch

STEPS = _cpu.steps()
OP = np.dtype([("step", "<u4"), ("values", "<u4"), ("key", "<u4", (2,))])
HALF_KERNEL = [0.5, 0.2, 0.05]
OPS: list[tuple[str, list[float]]] = [
    ("multiply", [1.5, 0.0, 10.0]),
    ("multiply", [0.5, 1.0, 0.0]),
    ("shift", [3.0]),
    ("noise", [20.0]),
    ("contrast", [1.5, 1.0]),
    ("gamma", [0.7, 0.0, 0.0]),
    ("gamma", [1.4, 1.0, 1.0]),
    ("blur", [2.0, 0.0, 1.0, *HALF_KERNEL, 1.0, 0.6, 0.2]),
    ("window", [-100.0, 0.005, 1.0]),
]
Program = list[list[tuple[str, list[float]]]]


def random_program(number: int, channels: int) -> Program | None:
    """Another program for every number, of up to five steps per channel; None for every fourth."""
    rng = np.random.default_rng(number)
    if number % 4 == 3:
        return None
    return [[OPS[k] for k in rng.integers(0, len(OPS), rng.integers(0, 6))] for _ in range(channels)]


def with_programs(batch: PackedBatch, programs: Sequence[Program | None]) -> PackedBatch:
    """The batch with a program for each of its samples that has one."""
    ops: list[Any] = []
    values: list[float] = []
    firsts = []
    for k, program in enumerate(programs):
        firsts.append((len(ops), len(values)))
        ends = [0]
        for channel in program or ():
            for name, numbers in channel:
                ops.append((STEPS[name]["code"], len(values) - firsts[k][1], (7 + k, len(ops))))
                values += numbers
            ends.append(len(ops) - firsts[k][0])
        batch.rows["op_ends"][k] = ends + [ends[-1]] * (9 - len(ends))
    table, numbers_table = np.array(ops or [(0, 0, (0, 0))], OP), np.array(values or [0.0], np.float32)
    for k, program in enumerate(programs):
        if program is not None:
            batch.rows["ops"][k] = table.ctypes.data + firsts[k][0] * OP.itemsize
            batch.rows["values"][k] = numbers_table.ctypes.data + firsts[k][1] * 4
    return replace(batch, ops=table, values=numbers_table)


@contextlib.contextmanager
def packed_programs(programs: Mapping[int, Program | None]) -> Iterator[None]:
    """Both backends give samples the program under their noise_key."""

    def pack(volumes: Any, params: Any, *rest: Any, **options: Any) -> PackedBatch:
        return with_programs(pack_batch(volumes, params, *rest, **options), [programs.get(each.noise_key) for each in params])

    with (
        mock.patch("augserver.kernel.cpu.pack_batch", pack),
        mock.patch("augserver.kernel.cuda.backend.pack_batch", pack),
    ):
        yield
