"""The programs of a batch on a device: ops and values, and the plan of launches that cuda/plan.cpp makes of them.

A slot's table holds   [ops][values][runs]   and goes up with the parameters.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from augserver.errors import BudgetError
from augserver.kernel import _cpu
from augserver.kernel.batch import PackedBatch
from augserver.kernel.cuda.arena import aligned
from augserver.kernel.cuda.sizes import DeviceSizes


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """One launch: `rows` of the grid, `threads` of each; `first` of the samples with programs for "augment", else an address."""

    kernel: str
    first: int
    rows: int
    threads: int
    in_type: int


def check_programs(batch: PackedBatch, sizes: DeviceSizes, device: str) -> None:
    """Raise BudgetError where a batch's programs do not fit the device's memory for them."""
    rows = batch.rows[batch.rows["ops"] != 0]
    if len(rows) == 0:
        return
    stage_bytes, runs_bytes = _cpu.measure_plan(rows.ctypes.data, len(rows))
    if stage_bytes > sizes.stage_bytes:
        raise BudgetError(
            f"{device}: the steps of a sample hand on {stage_bytes} bytes, and cuda.stage_bytes is {sizes.stage_bytes}; raise it to at "
            f"least {stage_bytes}, or ask for a smaller patch"
        )
    table_bytes = _runs_at(batch) + runs_bytes
    if table_bytes > sizes.program_bytes:
        raise BudgetError(
            f"{device}: the steps of a batch of {len(batch.rows)} samples take {table_bytes} bytes, and cuda.program_bytes is "
            f"{sizes.program_bytes}; raise it to at least {table_bytes}, or ask for a smaller batch"
        )


def plan_programs(
    batch: PackedBatch,
    sampled: NDArray[np.void],
    samples: NDArray[np.void],
    table: NDArray[np.uint8],
    *,
    samples_at: int,
    table_at: int,
    memory: tuple[int, int],
) -> tuple[int, list[Launch]]:
    """Fill a slot's table.

    Args:
        batch: has programs, and `check_programs` took it.
        sampled: the rows with programs, as they are sampled: their output becomes the memory between stages.
        samples: the same rows as their stages read them: their programs become the table's.
        table: the slot's, on the host.
        samples_at, table_at: where `samples` and `table` will be on the device.
        memory: address and bytes of the memory between stages.
    Returns:
        Bytes of the table that are in use, and the launches in order.
    """
    assert batch.ops is not None
    assert batch.values is not None
    runs, launches = _cpu.make_plan(sampled.ctypes.data, samples.ctypes.data, len(samples), samples_at, *memory)
    values_at, runs_at = aligned(batch.ops.nbytes), _runs_at(batch)
    for part, first in ((batch.ops, 0), (batch.values, values_at), (np.frombuffer(runs, np.uint8), runs_at)):
        table[first : first + part.nbytes] = part.reshape(-1).view(np.uint8)
    for rows in (sampled, samples):
        rows["ops"] = rows["ops"] - np.uint64(batch.ops.ctypes.data) + np.uint64(table_at)
        rows["values"] = rows["values"] - np.uint64(batch.values.ctypes.data) + np.uint64(table_at + values_at)
    first_run = table_at + runs_at
    return runs_at + len(runs), [
        Launch(
            kernel=kernel,
            first=first if kernel == "augment" else first_run + first * _cpu.RUN_BYTES,
            rows=rows,
            threads=threads,
            in_type=in_type,
        )
        for kernel, first, rows, threads, in_type in launches
    ]


def _runs_at(batch: PackedBatch) -> int:
    assert batch.ops is not None
    assert batch.values is not None
    return aligned(batch.ops.nbytes) + aligned(batch.values.nbytes)
