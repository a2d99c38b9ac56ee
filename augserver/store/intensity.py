"""The range of a volume's values and where most of them lie."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from augserver.store.percentiles import percentile_at
from augserver.volume import Intensity

_SAMPLES = 1 << 17  # voxels that percentiles are taken of, 0.3 ms; their error is below 0.1 % of the voxels


def intensity_of(image: NDArray[Any]) -> tuple[Intensity, ...]:
    """Of each channel of (C, Z, Y, X): the least and largest value of all voxels, and percentiles of a regular sample of them."""
    return tuple(_of_channel(channel) for channel in image)


def sample_of(channel: NDArray[Any]) -> NDArray[Any]:
    """Voxels of (Z, Y, X) on a regular grid all over it, flat; all of a small volume."""
    step = max(1.0, (channel.size / _SAMPLES) ** (1 / 3))
    z, y, x = (np.unique(np.arange(0, size, step).astype(np.intp)) for size in channel.shape)
    return channel[z[:, None], y].take(x, axis=2).ravel()  # whole rows first: in a quarter of the time of np.ix_


def _of_channel(channel: NDArray[Any]) -> Intensity:
    p1, p50, p99 = _percentiles(sample_of(channel), (1, 50, 99))
    return Intensity(low=float(channel.min()), p1=p1, p50=p50, p99=p99, high=float(channel.max()))


def _percentiles(values: NDArray[Any], percents: tuple[float, ...]) -> list[float]:
    """np.percentile of flat values, to the bit, in a quarter of its time."""
    found = np.sort(values)

    def voxel(rank: int) -> Any:
        return found[rank] if found.dtype.kind == "f" else float(found[rank])  # NumPy subtracts fractions in their own type

    return [percentile_at(voxel, found.size, percent) for percent in percents]
