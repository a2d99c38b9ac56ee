"""What every backend of the kernel can do, and how one is chosen."""

from __future__ import annotations

import logging
import mmap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import DTypeLike, NDArray

from augserver.augment.sample import SampleParams
from augserver.backends import BACKEND_CHOICES, BACKENDS
from augserver.config import CudaConfig
from augserver.errors import BackendError, UnavailableError
from augserver.kernel.device_statistics import DeviceStatistics
from augserver.volume import Volume

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendSettings:
    """What `open_backend` was asked for; a backend reads those that are its own."""

    threads: int | None
    isa: str | None
    cuda: CudaConfig | None
    on_lost: Callable[[UnavailableError], None] | None


class Backend(Protocol):
    """The fused kernel on one device.

    Attributes:
        name: as in augserver.backends.
        description: for people, such as "cpu, 2 threads, x86-64-v4".
        device: what computes, such as "0 NVIDIA H200"; "cpu" on the CPU.
        threads: of the CPU that compute; 0 where a device does.
        samplers: that SampleParams.sampler may name.
        concurrency: calls of `augment` at once that keep the device busy; more of them gain nothing.
    """

    @property
    def name(self) -> str: ...

    @property
    def description(self) -> str: ...

    @property
    def device(self) -> str: ...

    @property
    def threads(self) -> int: ...

    @property
    def samplers(self) -> tuple[str, ...]: ...

    @property
    def concurrency(self) -> int: ...

    def augment(
        self,
        volumes: Sequence[Volume],
        params: Sequence[SampleParams],
        out_image: NDArray[Any],
        out_label: NDArray[np.uint8] | None = None,
        *,
        nearest: bool = False,
    ) -> None:
        """Augment one sample of each volume, in order, and return when all are written.

        Args:
            volumes: N volumes with the same number of channels; one may occur several times.
            params: N parameters.
            out_image: (N, C, Z, Y, X) float32, float16 or uint8, C-contiguous; written.
            out_label: (N, Z, Y, X) uint8, C-contiguous, or None; written. A volume without a label gives 0.
            nearest: take the image's nearest voxel instead of the trilinear value.
        Raises:
            RequestError, GeometryError, RecipeError: before any work; nothing is written then.
        """

    def allocate(self, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """A C-contiguous array, of unspecified content, that `augment` writes to, and reads volumes from, fastest; its memory goes
        back with its last view."""

    def share(self, pages: mmap.mmap) -> NDArray[np.uint8]:
        """All bytes of mapped pages, such as shared memory, as an array that `augment` writes to as to one of `allocate`.

        The backend keeps the pages mapped, and pinned where it pins, until the array's last view is gone.
        """

    def devices(self) -> tuple[DeviceStatistics, ...]:
        """Each device with a queue and memory of its own; none for the CPU."""

    def close(self) -> None:
        """End the backend's threads and free its memory; no call may be running or follow."""


def open_backend(
    name: str = "auto",
    *,
    threads: int | None = None,
    isa: str | None = None,
    cuda: CudaConfig | None = None,
    on_lost: Callable[[UnavailableError], None] | None = None,
) -> Backend:
    """Open the kernel on a device.

    Args:
        name: of augserver.backends, or "auto": the first of them that opens; the reason is logged.
        threads: CPU threads, >= 1; None: one for each CPU this process may use.
        isa: CPU instruction set, one of augserver.kernel.cpu.instruction_sets(); None: the best. All give the same bits.
        cuda: settings of the GPUs; None: the defaults.
        on_lost: called once if a GPU is lost to this process; see CudaBackend.
    Raises:
        BackendError: this machine cannot run it; says what is missing.
        BudgetError: a GPU has not as much memory as `cuda` asks for.
    """
    if name not in BACKEND_CHOICES:
        raise BackendError(f"backend {name!r} does not exist; allowed: {', '.join(map(repr, BACKEND_CHOICES))}")
    *preferred, last = BACKENDS.values() if name == "auto" else [BACKENDS[name]]
    settings = BackendSettings(threads=threads, isa=isa, cuda=cuda, on_lost=on_lost)
    for entry in preferred:
        try:
            backend: Backend = entry.open(settings)
            return backend
        except BackendError as error:
            _log.info("backend 'auto' takes the %s: %s", last.name, error)
    opened: Backend = last.open(settings)
    return opened
