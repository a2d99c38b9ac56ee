"""The kernel on CPU threads."""

from __future__ import annotations

import os
from collections.abc import Sequence
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from augserver.augment.sample import SampleParams
from augserver.errors import BackendError, RequestError
from augserver.kernel import checks
from augserver.kernel.memory import allocate
from augserver.kernel.params import PARAMS_DTYPE, pack_sample
from augserver.volume import Volume

try:
    from augserver.kernel import _cpu
except ImportError as cause:
    raise BackendError(f"the compiled kernel augserver.kernel._cpu cannot be loaded ({cause}); run `pip install .`") from cause

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

    name = "cpu"

    def __init__(self, *, threads: int | None = None, isa: str | None = None) -> None:
        count = len(os.sched_getaffinity(0)) if threads is None else threads
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
        packed = _pack_batch(volumes, params, out_image, out_label, nearest)
        self._runner.run(packed.ctypes.data, len(packed))

    def allocate(self, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """See Backend.allocate."""
        return allocate(shape, dtype)

    def close(self) -> None:
        """End the threads. No call may be running."""
        self._runner = None

    def __enter__(self) -> CpuBackend:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def _pack_batch(
    volumes: Sequence[Volume],
    params: Sequence[SampleParams],
    out_image: NDArray[Any],
    out_label: NDArray[np.uint8] | None,
    nearest: bool,
) -> NDArray[np.void]:
    """Check a batch and describe it as an array of PARAMS_DTYPE. The arrays it points to must outlive its use."""
    if len(volumes) != len(params) or not volumes:
        raise RequestError(f"{len(volumes)} volumes and {len(params)} params; allowed: as many of each, at least 1")
    channels = volumes[0].image.shape[0]
    checks.check_outputs(out_image, out_label, len(volumes), channels)
    out_dtype = out_image.dtype.name
    patch: tuple[int, int, int] = out_image.shape[2:]
    packed = np.zeros(len(volumes), PARAMS_DTYPE)
    for k, (volume, sample) in enumerate(zip(volumes, params, strict=True)):
        where = f"sample {k} (volume {volume.info.id!r})"
        checks.check_volume(volume, where)
        if volume.image.shape[0] != channels:
            raise RequestError(f"{where}: {volume.image.shape[0]} channels; the batch's first volume has {channels}")
        checks.check_params(sample, patch, out_dtype, where)
        label = volume.label if out_label is not None else None
        if out_label is not None and label is None:
            out_label[k] = 0
        pack_sample(
            packed[k : k + 1],
            sample,
            in_shape=volume.image.shape[1:],
            in_dtype=volume.image.dtype.name,
            channels=channels,
            out_shape=patch,
            out_dtype=out_dtype,
            addresses=(
                volume.image.ctypes.data,
                0 if label is None else label.ctypes.data,
                out_image[k].ctypes.data,
                0 if out_label is None or label is None else out_label[k].ctypes.data,
            ),
            nearest=nearest,
        )
    return packed
