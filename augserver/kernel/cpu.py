"""The kernel on CPU threads."""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from augserver.augment.sample import SampleParams
from augserver.cores import count_cores
from augserver.errors import BackendError, BudgetError
from augserver.kernel import _cpu
from augserver.kernel.backend import BackendSettings
from augserver.kernel.batch import PackedBatch, pack_batch
from augserver.kernel.device_statistics import DeviceStatistics
from augserver.kernel.memory import allocate
from augserver.volume import Volume

MAX_THREADS = 1024


def instruction_sets() -> tuple[str, ...]:
    """Those that this CPU runs, best first; "scalar", the slow reference that CUDA runs too, comes last."""
    return tuple(_cpu.isas())


class CpuBackend:
    """The fused kernel on a pool of threads of its own.

    Threads are started by the first batch and sleep between batches. `augment` may be called from several threads at once; the pool
    is shared. After os.fork the child starts its own threads with its first batch. Samples have the same bytes whatever the threads,
    the instruction set and the batch they are in.
    """

    name = device = "cpu"
    samplers = ("exact",)
    concurrency = 1  # the threads share each batch

    def __init__(self, *, threads: int | None = None, isa: str | None = None) -> None:
        count = count_cores() if threads is None else threads
        if not 1 <= count <= MAX_THREADS:
            raise BackendError(f"backend 'cpu': threads is {threads}; allowed: 1 to {MAX_THREADS}")
        sets = instruction_sets()
        if isa is not None and isa not in sets:
            raise BackendError(f"backend 'cpu': isa {isa!r} is not available; this machine runs: {', '.join(sets)}")
        self._runner: _cpu.Runner | None = _cpu.Runner(count, isa or sets[0])
        self.threads = count
        self.isa = isa or sets[0]

    @property
    def description(self) -> str:
        """For people: "cpu, 2 threads, x86-64-v4"."""
        return f"cpu, {self.threads} thread{'s' if self.threads > 1 else ''}, {self.isa}"

    def augment(
        self,
        volumes: Sequence[Volume],
        params: Sequence[SampleParams],
        out_image: NDArray[Any],
        out_label: NDArray[np.uint8] | None = None,
        *,
        nearest: bool = False,
    ) -> None:
        """See Backend.augment."""
        if self._runner is None:
            raise BackendError("backend 'cpu' is closed; open another one")
        batch = pack_batch(volumes, params, out_image, out_label, nearest=nearest)
        if batch.sampler != "exact":
            raise BackendError(f"backend 'cpu' has no sampler {batch.sampler!r}; use the backend 'cuda', or output.sampler = \"exact\"")
        _set_addresses(batch)
        try:
            self._runner.run(batch.rows.ctypes.data, len(batch.rows))
        except MemoryError:
            patch = out_image.shape[1:]
            raise BudgetError(
                f"backend 'cpu': no memory for steps that need the whole patch {patch} (C, Z, Y, X), at 8 bytes a voxel; "
                "ask for a smaller patch, or leave out blur and steps that look at the patch's mean or range"
            ) from None

    def allocate(self, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """See Backend.allocate."""
        return allocate(shape, dtype)

    def share(self, pages: mmap.mmap) -> NDArray[np.uint8]:
        """See Backend.share."""
        return np.frombuffer(pages, np.uint8)

    def devices(self) -> tuple[DeviceStatistics, ...]:
        """See Backend.devices."""
        return ()

    def close(self) -> None:
        """End the threads. No call may be running."""
        self._runner = None

    def __enter__(self) -> CpuBackend:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def open_cpu(settings: BackendSettings) -> CpuBackend:
    """The opener that augserver.backends names."""
    return CpuBackend(threads=settings.threads, isa=settings.isa)


def _set_addresses(batch: PackedBatch) -> None:
    """Point the rows at the batch's own arrays, which must outlive their use; labels of volumes without one become 0 here."""
    rows, out_label = batch.rows, batch.out_label
    rows["image"] = [volume.image.ctypes.data for volume in batch.volumes]
    rows["out_image"] = [sample.ctypes.data for sample in batch.out_image]
    if out_label is not None:
        for k, volume in enumerate(batch.volumes):
            if volume.label is None:
                out_label[k] = 0
            else:
                rows["label"][k] = volume.label.ctypes.data
                rows["out_label"][k] = out_label[k].ctypes.data
