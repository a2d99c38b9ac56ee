"""The kernel on GPUs, through pycuda: one queue for each device, a batch's samples spread evenly over them.

This module is imported only when the backend is asked for; without it nothing of CUDA or pycuda is loaded.
"""

from __future__ import annotations

import atexit
import itertools
import mmap
import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from augclient.contract import SAMPLERS
from numpy.typing import DTypeLike, NDArray

from augserver.augment.sample import SampleParams
from augserver.config import CudaConfig
from augserver.errors import BackendError, RequestError, UnavailableError
from augserver.kernel.backend import BackendSettings
from augserver.kernel.batch import PackedBatch, pack_batch
from augserver.kernel.cuda import fatbin
from augserver.kernel.device_statistics import DeviceStatistics
from augserver.volume import Volume

try:
    import pycuda.driver as cuda
except ImportError as cause:
    if "libcuda.so" in str(cause):
        raise BackendError(
            f"backend 'cuda': pycuda finds no NVIDIA driver ({cause}); install it, or give the container the GPU (docker run --gpus all)"
        ) from cause
    raise BackendError(f"backend 'cuda': pycuda cannot be loaded ({cause}); run `pip install augserver[cuda]`") from cause

from augserver.kernel.cuda.fifo import CudaFifo, FifoStatistics  # needs pycuda
from augserver.kernel.cuda.pinned import PinnedArrays


class CudaBackend:
    """The fused kernel on one GPU or several.

    `augment` may be called from several threads at once, and should be: the calls in flight are what fills the queue, and what lets
    the copies of one batch hide behind the kernel of another. Batches of one thread end in order. Samples have the bytes of the CPU
    backend, whatever the devices and the batch they are in.

    Args:
        config: devices, queue and memory.
        on_lost: called once, from a thread of the backend, when a device is lost: all batches in flight and all later ones fail with
            UnavailableError then, and only a new process gets the device back. A server ends itself with EXIT_DEVICE_LOST of
            augserver.backends.
    Raises:
        BackendError: no driver, no device, no compiled kernels, or they do not run here; says how to mend it.
        BudgetError: a device has not as much memory as `config` asks for.
    """

    name = "cuda"
    samplers = SAMPLERS
    threads = 0

    def __init__(self, config: CudaConfig | None = None, *, on_lost: Callable[[UnavailableError], None] | None = None) -> None:
        self._config = config or CudaConfig()
        self._on_lost = on_lost
        self._losing = threading.Lock()
        self._lost = ""
        self._closed = False
        self._process = os.getpid()
        self._turn = itertools.count()
        self._fifos: list[CudaFifo] = []
        self._pinned = PinnedArrays(self._wake_keeper)
        kernels = fatbin.read(Path(self._config.fatbin) if self._config.fatbin else None)
        try:
            cuda.init()
            ordinals = _chosen_devices(self._config.devices, cuda.Device.count())
            self.device = ", ".join(f"{k} {cuda.Device(k).name()}" for k in ordinals)
            self.description = f"{self.name}, {self.device}"
        except cuda.Error as error:
            raise BackendError(f"backend 'cuda': the driver does not start ({error}); `nvidia-smi` shows whether it works") from error
        try:
            for ordinal in ordinals:
                fifo = CudaFifo(ordinal, kernels, self._config, on_lost=self._lose, pinned=self._pinned, keeper=not self._fifos)
                self._fifos.append(fifo)
        except BaseException:
            self.close()
            raise
        # The queue's threads do not keep a process alive that forgets to close; contexts must still be popped before it ends.
        _open_backends.add(self)

    @property
    def concurrency(self) -> int:
        """Batches that fill the slots of every device; batches of fewer samples than there are devices would need more."""
        return self._config.slots

    def augment(
        self,
        volumes: Sequence[Volume],
        params: Sequence[SampleParams],
        out_image: NDArray[Any],
        out_label: NDArray[np.uint8] | None = None,
        *,
        nearest: bool = False,
    ) -> None:
        """See Backend.augment. Output arrays must be of `allocate`, unless cuda.pageable is set.

        Raises:
            RequestError, GeometryError, RecipeError, BudgetError: before any work.
            BackendError: the driver refused; later batches are not affected.
            UnavailableError: a device is lost.
        """
        self._require_open()  # before memory is looked at, which is not pinned any more once this is closed
        batch = pack_batch(volumes, params, out_image, out_label, nearest=nearest)
        self._check_pinned(batch)
        tickets = []
        error: BaseException | None = None
        try:
            for fifo, part in self._spread(batch):
                tickets.append(fifo.submit(part))
        except BaseException as refused:
            error = refused
        # Every part must have ended before the caller has its arrays back, also after Ctrl-C.
        for ticket in tickets:
            try:
                ticket.wait()
            except BaseException as failed:
                error = error or failed
        if error is not None:
            raise error

    def allocate(self, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """A C-contiguous array of garbage in pinned memory: results go there, and volumes come from there, without a copy between."""
        self._require_open()
        return self._fifos[0].allocate(shape, dtype)

    def share(self, pages: mmap.mmap) -> NDArray[np.uint8]:
        """See Backend.share: the pages are pinned."""
        self._require_open()
        return self._fifos[0].share(pages)

    def statistics(self) -> tuple[FifoStatistics, ...]:
        """Numbers of each device's queue at this moment."""
        return tuple(fifo.statistics() for fifo in self._fifos)

    def devices(self) -> tuple[DeviceStatistics, ...]:
        """See Backend.devices."""
        return tuple(
            DeviceStatistics(
                name=fifo.name,
                waiting=each.waiting,
                in_flight=each.in_flight,
                uploaded_bytes=each.direct_bytes + each.staged_bytes,
                volume_bytes=each.volumes.used_bytes + each.textures.used_bytes,
                max_volume_bytes=each.volumes.max_bytes + each.textures.max_bytes,
            )
            for fifo, each in zip(self._fifos, self.statistics(), strict=True)
        )

    def close(self) -> None:
        """Finish what was submitted, end the threads, free the devices. May be called twice."""
        self._closed = True
        _open_backends.discard(self)
        if os.getpid() != self._process:
            return  # threads and contexts are the parent's
        for fifo in reversed(self._fifos):
            fifo.close()

    def _require_open(self) -> None:
        if os.getpid() != self._process:
            raise BackendError("backend 'cuda' was opened before this process was forked, and CUDA does not survive a fork; open it here")
        if self._lost:  # also where the next batch would run on another device: the whole process has to go
            raise UnavailableError(self._lost)
        if self._closed:
            raise BackendError("backend 'cuda' is closed; open another one")

    def _spread(self, batch: PackedBatch) -> list[tuple[CudaFifo, PackedBatch]]:
        """Parts of the batch whose sizes differ by at most one, on different devices; the first device changes with each batch."""
        fifos, count = self._fifos, len(batch.rows)
        if len(fifos) == 1:
            return [(fifos[0], batch)]
        first = next(self._turn)
        bounds = [count * k // len(fifos) for k in range(len(fifos) + 1)]
        return [(fifos[(first + k) % len(fifos)], batch.part(a, b)) for k, (a, b) in enumerate(itertools.pairwise(bounds)) if b > a]

    def _check_pinned(self, batch: PackedBatch) -> None:
        if self._config.pageable:
            return
        for name, array in (("out_image", batch.out_image), ("out_label", batch.out_label)):
            if array is not None and not self._pinned.is_pinned(array):
                raise RequestError(
                    f"{name} is not in pinned memory, so that copies to it would be slow and would not overlap; make it by "
                    f"backend.allocate(shape, dtype), or set cuda.pageable = true"
                )

    def _wake_keeper(self) -> None:
        if self._fifos:
            self._fifos[0].wake()

    def _lose(self, error: UnavailableError) -> None:
        with self._losing:
            first, self._lost = not self._lost, self._lost or str(error)
        if first and self._on_lost is not None:
            self._on_lost(error)


def open_cuda(settings: BackendSettings) -> CudaBackend:
    """The opener that augserver.backends names."""
    return CudaBackend(settings.cuda, on_lost=settings.on_lost)


_open_backends: set[CudaBackend] = set()


@atexit.register
def _close_open_backends() -> None:
    for backend in list(_open_backends):
        backend.close()


def _chosen_devices(text: str, count: int) -> list[int]:
    if count == 0:
        raise BackendError("backend 'cuda': the driver sees no device; check CUDA_VISIBLE_DEVICES, and `nvidia-smi`")
    if text == "all":
        return list(range(count))
    ordinals = [int(each) for each in text.split(",")]
    for ordinal in ordinals:
        if ordinal >= count:
            raise BackendError(f"backend 'cuda': cuda.devices names device {ordinal}; this process sees {count}, counted from 0")
    return ordinals
