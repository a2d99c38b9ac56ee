"""Programs of recipe steps: random ones, in batches with samples that have none, byte for byte as the CPU's."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from world import PATCH, Batch, assert_nothing_left, counter, cpu, driver, in_threads, make_volume, open_cuda, run, set_delays, set_faults

from augserver.errors import BackendError, BudgetError, UnavailableError

sys.path.append(str(Path(__file__).resolve().parents[2] / "kernel"))
from step_programs import Program, random_program, with_program

PATCHES = (PATCH, (1, 1, 1), (5, 21, 120), (2, 2, 1100))  # a strip per plane, one voxel, several strips per plane, rows that are cut
STATISTICS: dict[str, Any] = {"op": "contrast", "factor": 1.5}
NEIGHBOURS: dict[str, Any] = {"op": "blur", "sigma": 0.5}  # a voxel to each side, in three phases


class ProgramBatch(Batch):
    """A batch of toys of which most have programs."""

    def __init__(
        self,
        volumes: Any,
        first: int,
        programs: Sequence[Program | None] | None = None,
        patch: tuple[int, int, int] = PATCH,
        **options: Any,
    ) -> None:
        super().__init__(volumes, first, **options)
        channels, self.patch = len(volumes[0].image), patch
        if programs is None:
            programs = [random_program(first + k, channels) for k in range(len(volumes))]
        samples = zip(self.params, programs, strict=True)
        self.params = [with_program(replace(params, occlusion=None), program, self.dtype) for params, program in samples]

    def outputs(self, backend: Any) -> tuple[Any, Any]:
        image = backend.allocate((len(self.volumes), len(self.volumes[0].image), *self.patch), self.dtype)
        label = backend.allocate((len(self.volumes), *self.patch), np.uint8) if self.label else None
        return image, label


def mixed_batches(count: int) -> list[Batch]:
    """Types, labels, channels, patches, output types and interpolation change from batch to batch."""
    volumes = [make_volume(k, dtype="float32" if k % 3 == 2 else "int16", label=k % 4 != 3) for k in range(12)]
    several = [make_volume(20 + k, channels=3) for k in range(3)]
    rng = np.random.default_rng(5)
    batches: list[Batch] = []
    for k in range(count):
        pool = several if k % 7 == 6 else volumes
        chosen = [pool[j] for j in rng.integers(0, len(pool), 1 + k % 5)]
        batches.append(
            ProgramBatch(
                chosen, 5 * k, patch=PATCHES[k % 9 % 4], dtype=("float32", "float16", "uint8")[k % 3], label=k % 5 != 4, nearest=k % 6 == 5
            )
        )
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
    gpu = open_cuda(devices=devices, slot_bytes=1 << 20, **settings)
    assert compute_all(gpu, batches) == 0
    gpu.close()
    assert_nothing_left()


def random_programs_have_the_cpus_bytes_on_three_devices() -> None:
    random_programs_have_the_cpus_bytes("all")


def samples_share_memory_that_has_room_for_one() -> None:
    random_programs_have_the_cpus_bytes(stage_bytes=320 << 10)  # one sample of three channels, with two buffers each, takes 316 KB


def launches_are_one_per_stage_and_three_per_measurement() -> None:
    gpu = open_cuda()
    stats: Program = [[{"op": "shift", "offset": 1.0}, STATISTICS, {"op": "noise", "std": 3.0}, NEIGHBOURS]]
    short: Program = [[{"op": "shift", "offset": 1.0}]]
    volume = make_volume(1)
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
    program: Program = [[NEIGHBOURS]]
    volume = make_volume(1)
    need = -(-2 * int(np.prod(PATCH)) * 4 // 256) * 256
    for settings, part in (
        ({"stage_bytes": 2000}, f"raise it to at least {need}"),
        ({"program_bytes": 4096}, "cuda.program_bytes is 4096"),
    ):
        gpu = open_cuda(**settings)
        batch = ProgramBatch([volume] * 20, 0, [program] * 20, dtype="float16", label=False)
        with pytest.raises(BudgetError) as caught:
            batch.compute(gpu)
        assert part in str(caught.value), caught.value
        ok = Batch([volume], 0)
        assert ok.wrong_bytes(ok.compute(gpu)) == 0
        gpu.close()
    assert_nothing_left()


def each_call_fails_once() -> None:
    """The first launch of stages, the later ones, their memory and their upload: a typed error each, and the next batch is right."""
    volume = make_volume(1)
    program: Program = [[STATISTICS, NEIGHBOURS]]
    faults = [f"cuLaunchKernel:{k}:719:plain" for k in range(1, 10)]
    faults += ["cuMemAlloc:1:1:plain", "cuMemcpyHtoDAsync:3:1:plain", "cuMemcpyHtoDAsync:4:1:plain"]
    for fault in faults:
        gpu = open_cuda()
        batch = ProgramBatch([volume, volume], 0, [program, None])
        outputs = batch.outputs(gpu)
        set_faults(fault)
        with pytest.raises(BackendError):
            batch.compute(gpu, outputs)
        set_faults("")
        assert batch.wrong_bytes(batch.compute(gpu)) == 0
        gpu.close()
        assert_nothing_left()


def the_device_is_lost_at_each_launch() -> None:
    program: Program = [[STATISTICS, NEIGHBOURS]]
    for k in range(1, 10):
        for kind in ("sticky", "async"):
            gpu = open_cuda()
            batch = ProgramBatch([make_volume(1)] * 2, 0, [program, None])
            outputs = batch.outputs(gpu)
            set_faults(f"cuLaunchKernel:{k}:719:{kind}")
            with pytest.raises(UnavailableError):
                batch.compute(gpu, outputs)
            set_faults("")
            gpu.close()
            driver.fake_reset()


def a_negative_zero_goes_through_the_sampling_as_it_is() -> None:
    gpu = open_cuda()
    volume = make_volume(1, dtype="float32", channels=2)
    volume.image.flags.writeable = True
    volume.image[...] = -0.0
    batch = ProgramBatch([volume], 0, [[[], [{"op": "shift", "offset": 0.0}]]], nearest=True)
    image, label = batch.compute(gpu)
    assert (np.signbit(image[0, 0]) & (image[0, 0] == 0)).any()
    assert batch.wrong_bytes((image, label)) == 0
    gpu.close()
    assert_nothing_left()


def textures_feed_programs_too() -> None:
    """Whole steps give the voxels themselves, so that the bytes are those of the exact sampler."""
    gpu = open_cuda()
    program: Program = [[STATISTICS, {"op": "noise", "std": 3.0}, NEIGHBOURS]]
    batch = ProgramBatch([make_volume(1)] * 2, 0, [program] * 2)
    for sampler in ("exact", "texture"):
        for k, params in enumerate(batch.params):
            batch.params[k] = replace(params, affine=np.eye(3, 4, dtype=np.float32), fill=0.0, sampler=sampler)
        if sampler == "exact":
            expected = batch.compute(cpu)
        else:
            got = batch.compute(gpu)
    assert all(a.tobytes() == b.tobytes() for a, b in zip(got, expected, strict=True))
    gpu.close()
    assert_nothing_left()


if __name__ == "__main__":
    run(globals())
