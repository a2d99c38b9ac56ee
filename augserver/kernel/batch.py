"""One batch as a backend takes it: checked, and packed into the structs that the kernel reads, without addresses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from augclient.contract import SAMPLERS
from numpy.typing import NDArray

from augserver.augment.sample import SampleParams
from augserver.errors import RecipeError, RequestError
from augserver.kernel import checks
from augserver.kernel.params import PARAMS_DTYPE, pack_sample
from augserver.kernel.programs import Programs
from augserver.volume import Volume

NO_ADDRESSES = (0, 0, 0, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedBatch:
    """A checked batch.

    Attributes:
        volumes: N volumes.
        rows: N elements of PARAMS_DTYPE; all addresses are 0, but those of programs, which lie in `ops` and `values`.
        out_image: (N, C, Z, Y, X).
        out_label: (N, Z, Y, X) or None.
        sampler: "exact" or "texture", of all samples.
        ops, values: the programs of all samples, C-contiguous; None: no sample has a program.
    """

    volumes: tuple[Volume, ...]
    rows: NDArray[np.void]
    out_image: NDArray[Any]
    out_label: NDArray[np.uint8] | None
    sampler: str = "exact"
    ops: NDArray[np.void] | None = None
    values: NDArray[np.float32] | None = None

    def part(self, first: int, last: int) -> PackedBatch:
        """Samples first .. last - 1, as views."""
        return PackedBatch(
            volumes=self.volumes[first:last],
            rows=self.rows[first:last],
            out_image=self.out_image[first:last],
            out_label=None if self.out_label is None else self.out_label[first:last],
            sampler=self.sampler,
            ops=self.ops,
            values=self.values,
        )


def pack_batch(
    volumes: Sequence[Volume],
    params: Sequence[SampleParams],
    out_image: NDArray[Any],
    out_label: NDArray[np.uint8] | None,
    *,
    nearest: bool = False,
) -> PackedBatch:
    """Check a batch and pack it; arguments as of Backend.augment.

    Raises:
        RequestError, GeometryError, RecipeError: nothing was written.
    """
    if len(volumes) != len(params) or not volumes:
        raise RequestError(f"{len(volumes)} volumes and {len(params)} params; allowed: as many of each, at least 1")
    channels = volumes[0].image.shape[0]
    checks.check_outputs(out_image, out_label, len(volumes), channels)
    patch: tuple[int, int, int] = out_image.shape[2:]
    rows = np.zeros(len(volumes), PARAMS_DTYPE)
    programs = Programs()
    for k, (volume, sample) in enumerate(zip(volumes, params, strict=True)):
        where = f"sample {k} (volume {volume.info.id!r})"
        checks.check_volume(volume, where)
        if volume.image.shape[0] != channels:
            raise RequestError(f"{where}: {volume.image.shape[0]} channels; the batch's first volume has {channels}")
        checks.check_params(sample, patch, out_image.dtype.name, where)
        checks.check_channels(sample, channels, where)
        if sample.sampler not in SAMPLERS or sample.sampler != params[0].sampler:
            raise RecipeError(f"{where}: sampler {sample.sampler!r}; allowed: one of {', '.join(SAMPLERS)}, the same for the whole batch")
        pack_sample(
            rows[k : k + 1],
            sample,
            in_shape=volume.image.shape[1:],
            in_dtype=volume.image.dtype.name,
            channels=channels,
            out_shape=patch,
            out_dtype=out_image.dtype.name,
            addresses=NO_ADDRESSES,
            nearest=nearest,
        )
        ends = programs.add(sample, channels)
        if ends is not None:
            rows["ops"][k], rows["op_ends"][k] = 1, ends
    ops, values = programs.arrays()
    if ops is not None and values is not None:
        programmed = rows["ops"] != 0
        rows["ops"][programmed], rows["values"][programmed] = ops.ctypes.data, values.ctypes.data
    return PackedBatch(
        volumes=tuple(volumes), rows=rows, out_image=out_image, out_label=out_label, sampler=params[0].sampler, ops=ops, values=values
    )
