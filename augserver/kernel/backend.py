"""What every backend of the kernel can do, and how one is chosen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from augserver.augment.sample import SampleParams
from augserver.errors import BackendError
from augserver.volume import Volume


class Backend(Protocol):
    """The fused kernel on one device.

    Attributes:
        name: "cpu".
        description: for people, such as "cpu, 2 threads, x86-64-v4".
    """

    @property
    def name(self) -> str: ...

    @property
    def description(self) -> str: ...

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

    def close(self) -> None:
        """End the backend's threads and free its memory; no call may be running or follow."""


def open_backend(name: str = "auto", *, threads: int | None = None, isa: str | None = None) -> Backend:
    """Open the kernel on a device.

    Args:
        name: "auto" (the best that works here), "cpu" or "cuda".
        threads: CPU threads, >= 1; None: one for each CPU this process may use.
        isa: CPU instruction set, one of augserver.kernel.cpu.instruction_sets(); None: the best. All give the same bits.
    Raises:
        BackendError: this machine cannot run it.
    """
    from augserver.kernel.cpu import CpuBackend

    if name in ("auto", "cpu"):
        return CpuBackend(threads=threads, isa=isa)
    if name == "cuda":
        raise BackendError("backend 'cuda' is not part of this version; use 'cpu' or 'auto'")
    raise BackendError(f"backend {name!r} does not exist; allowed: 'auto', 'cpu', 'cuda'")
