"""Programs of recipe steps: random ones, in batches with samples that have none, byte for byte as the CPU's."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any
from unittest import mock

import numpy as np
import pytest
from world import PATCH, Batch, assert_nothing_left, counter, cpu, driver, in_threads, make_volume, open_cuda, run, set_delays, set_faults

from augserver.errors import BackendError, BudgetError
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


class ProgramBatch(Batch):
    """A batch of toys of which most have programs."""

    def __init__(self, volumes: Any, first: int, programs: Sequence[Program | None] | None = None, **options: Any) -> None:
        super().__init__(volumes, first, **options)
        channels = len(volumes[0].image)
        self.programs = [random_program(first + k, channels) for k in range(len(volumes))] if programs is None else list(programs)
        for k, program in enumerate(self.programs):
            self.params[k] = replace(self.params[k], occlusion=None, **({"window": None, "gamma": 1.0} if program is not None else {}))
            _programs[id(self.params[k])] = program


_programs: dict[int, Program | None] = {}  # of the parameters of every batch; they live as long as their batch


@contextlib.contextmanager
def packed_programs() -> Iterator[None]:
    """Both backends pack the programs of ProgramBatch."""

    def pack(volumes: Any, params: Any, *rest: Any, **options: Any) -> PackedBatch:
        return with_programs(pack_batch(volumes, params, *rest, **options), [_programs.get(id(each)) for each in params])

    with mock.patch("augserver.kernel.cuda.backend.pack_batch", pack), mock.patch("augserver.kernel.cpu.pack_batch", pack):
        yield


def mixed_batches(count: int) -> list[Batch]:
    volumes = [make_volume(k, dtype="float32" if k % 3 == 2 else "int16", label=k % 4 != 3) for k in range(12)]
    several = [make_volume(20 + k, channels=3) for k in range(3)]
    rng = np.random.default_rng(5)
    batches: list[Batch] = []
    for k in range(count):
        pool = several if k % 7 == 6 else volumes
        chosen = [pool[j] for j in rng.integers(0, len(pool), 1 + k % 5)]
        batches.append(ProgramBatch(chosen, 5 * k, dtype=("float32", "float16")[k % 2], label=k % 5 != 4, nearest=k % 6 == 5))
    return batches


def compute_all(gpu: Any, batches: list[Batch]) -> int:
    """Bytes that differ from the CPU's, with four threads at once."""
    wrong = [0] * len(batches)

    def work(k: int) -> None:
        for at in range(k, len(batches), 4):
            wrong[at] = batches[at].wrong_bytes(batches[at].compute(gpu))

    raised = in_threads(4, work)
    assert not raised, raised
    return sum(wrong)


def random_programs_have_the_cpus_bytes(devices: str = "0", **settings: Any) -> None:
    set_delays("h2d:0-1000,kernel:0-500,d2h:0-1000")
    driver.fake_set_seed(12)
    batches = mixed_batches(100)
    gpu = open_cuda(devices=devices, **settings)
    with packed_programs():
        assert compute_all(gpu, batches) == 0
    gpu.close()
    assert_nothing_left()


def random_programs_have_the_cpus_bytes_on_three_devices() -> None:
    random_programs_have_the_cpus_bytes("all")


def samples_share_memory_that_has_room_for_one() -> None:
    random_programs_have_the_cpus_bytes(stage_bytes=18 << 10)  # three channels take 9 KB for two buffers each, 7 KB for sums


def launches_are_one_per_stage_and_three_per_measurement() -> None:
    gpu = open_cuda()
    stats: Program = [[("shift", [1.0]), ("contrast", [1.5, 1.0]), ("noise", [3.0]), ("blur", [1.0, 1.0, 1.0, *[0.5, 0.25] * 3])]]
    short: Program = [[("shift", [1.0])]]
    volume = make_volume(1)
    with packed_programs():
        for programs, expected in (
            ([None, None], 1),
            ([short, short], 2),
            ([short, None], 3),
            ([stats, None], 1 + 1 + 1 + 3 + 1 + 3),  # without a program; sampling; two stages with statistics between; the blur's three
            ([stats, stats, stats], 1 + 1 + 3 + 1 + 3),
        ):
            before, blocks = counter("launches"), counter("device_blocks")
            batch = ProgramBatch([volume] * len(programs), 0, programs)
            assert batch.wrong_bytes(batch.compute(gpu)) == 0
            assert counter("launches") - before == expected, (programs, counter("launches") - before)
            assert programs == [None, None] or counter("device_blocks") - blocks == (programs == [short, short]), (
                "memory between stages is taken once"
            )
    gpu.close()
    assert_nothing_left()


def programs_that_do_not_fit_are_refused() -> None:
    program: Program = [[("blur", [1.0, 1.0, 1.0, *[0.5, 0.25] * 3])]]
    volume = make_volume(1)
    need = -(-2 * int(np.prod(PATCH)) * 4 // 256) * 256
    for settings, part in (
        ({"stage_bytes": 2000}, f"raise it to at least {need}"),
        ({"program_bytes": 4096}, "cuda.program_bytes is 4096"),
    ):
        gpu = open_cuda(**settings)
        batch = ProgramBatch([volume] * 20, 0, [program] * 20, dtype="float16", label=False)
        with packed_programs(), pytest.raises(BudgetError) as caught:
            batch.compute(gpu)
        assert part in str(caught.value), caught.value
        ok = Batch([volume], 0)
        assert ok.wrong_bytes(ok.compute(gpu)) == 0
        gpu.close()
    assert_nothing_left()


def each_call_fails_once() -> None:
    """The first launch of stages, the later ones, their memory and their upload: a typed error each, and the next batch is right."""
    volume = make_volume(1)
    program: Program = [[("contrast", [1.5, 1.0]), ("blur", [1.0, 1.0, 1.0, *[0.5, 0.25] * 3])]]
    faults = [f"cuLaunchKernel:{k}:719:plain" for k in range(1, 10)]
    faults += ["cuMemAlloc:1:1:plain", "cuMemcpyHtoDAsync:3:1:plain", "cuMemcpyHtoDAsync:4:1:plain"]
    for fault in faults:
        gpu = open_cuda()
        with packed_programs():
            batch = ProgramBatch([volume, volume], 0, [program, None])
            outputs = batch.outputs(gpu)
            set_faults(fault)
            with pytest.raises(BackendError):
                batch.compute(gpu, outputs)
            set_faults("")
            assert batch.wrong_bytes(batch.compute(gpu)) == 0
        gpu.close()
        assert_nothing_left()


def textures_feed_programs_too() -> None:
    """Whole steps give the voxels themselves, so that the bytes are those of the exact sampler."""
    gpu = open_cuda()
    program: Program = [[("contrast", [1.5, 1.0]), ("noise", [3.0]), ("blur", [1.0, 1.0, 1.0, *[0.5, 0.25] * 3])]]
    batch = ProgramBatch([make_volume(1)] * 2, 0, [program] * 2)
    for sampler in ("exact", "texture"):
        for k, params in enumerate(batch.params):
            batch.params[k] = replace(params, affine=np.eye(3, 4, dtype=np.float32), fill=0.0, sampler=sampler)
            _programs[id(batch.params[k])] = program
        with packed_programs():
            if sampler == "exact":
                expected = batch.compute(cpu)
            else:
                got = batch.compute(gpu)
    assert all(a.tobytes() == b.tobytes() for a, b in zip(got, expected, strict=True))
    gpu.close()
    assert_nothing_left()


if __name__ == "__main__":
    run(globals())
