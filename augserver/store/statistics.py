"""Statistics of a volume's voxels, kept beside the dataset, and of the foreground of all its volumes.

They follow from the voxels, so they are outside the fingerprint, and in a file of their own, so that a dataset that was made before there
were any has the same bytes with them: DS.zarr/.statistics/<id>.json names the hashes of the voxels that it was computed of. A volume
whose label was replaced since has none until they are computed again.

int16 goes through a histogram of every value, float32 through a sort; neither depends on the order of the voxels. Everything of one volume
is exact. Of the dataset, count, mean and std are exact; percentiles are exact over int16 volumes, and over float32 volumes each volume
stands for its foreground by at most _POINTS order statistics, which moves a percentile by less than 0.03 % of the voxels.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from augserver.errors import StoreError
from augserver.store import layout
from augserver.store.percentiles import percentile_at

FOLDER = ".statistics"
PERCENTILES = (0.5, 1.0, 5.0, 50.0, 95.0, 99.0, 99.5)
_FORMAT = 1
_POINTS = 2048
_BLOCK = 1 << 20  # voxels that are widened to float64 at once
_OFFSET = 1 << 15


@dataclass(frozen=True, slots=True, kw_only=True)
class Distribution:
    """Voxels of one channel, in the volume's own unit.

    Attributes:
        count: number of voxels.
        mean: their mean.
        std: their population standard deviation (ddof 0, as numpy's default and nnU-Net's).
        min, max: the least and the largest.
        percentiles: those of PERCENTILES, in that order, interpolated linearly between voxels as numpy does by default.
    """

    count: int
    mean: float
    std: float
    min: float
    max: float
    percentiles: tuple[float, ...]

    def percentile(self, of: float) -> float:
        """One of PERCENTILES, such as 99.5."""
        return self.percentiles[PERCENTILES.index(of)]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelStatistics:
    """One channel of a volume.

    Attributes:
        all: over every voxel.
        nonzero: over voxels other than 0; None if there is none.
        foreground: over voxels with a label that is neither background nor the ignore label; None without a label or such a voxel.
    """

    all: Distribution
    nonzero: Distribution | None
    foreground: Distribution | None


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeStatistics:
    """One volume.

    Attributes:
        channels: each channel's.
        nonzero_box_share: voxels in the bounding box of those other than 0 in any channel, over all voxels; 0 to 1.
        foreground_counts: of each channel with foreground, ascending values and how many voxels each stands for; to be merged.
    """

    channels: tuple[ChannelStatistics, ...]
    nonzero_box_share: float
    foreground_counts: tuple[tuple[tuple[float, ...], tuple[int, ...]], ...]


def statistics_of(image: NDArray[Any], label: NDArray[np.uint8] | None, ignore_label: int | None) -> VolumeStatistics:
    """Compute them.

    Args:
        image: int16 or float32 (C, Z, Y, X), finite.
        label: uint8 (Z, Y, X), or None.
        ignore_label: label id that is no foreground; None if there is none.
    """
    mask = None if label is None else label != 0
    if mask is not None and ignore_label is not None:
        mask &= label != ignore_label
    if mask is not None and not mask.any():
        mask = None
    channels, counts = [], []
    for channel in image:
        values, numbers = _counted(channel)
        keep = values != 0
        foreground = None
        if mask is not None:
            chosen = _counted(channel[mask])
            foreground = _distribution(*chosen)
            points, weights = _thinned(*chosen)
            counts.append((tuple(points.tolist()), tuple(weights.tolist())))
        whole = _distribution(values, numbers)
        nonzero: Distribution | None = whole
        if not keep.all():
            nonzero = _distribution(values[keep], None if numbers is None else numbers[keep]) if keep.any() else None
        channels.append(ChannelStatistics(all=whole, nonzero=nonzero, foreground=foreground))
    return VolumeStatistics(channels=tuple(channels), nonzero_box_share=_box_share(image), foreground_counts=tuple(counts))


def merged_foreground(volumes: Iterable[VolumeStatistics]) -> tuple[Distribution | None, ...]:
    """The foreground of all volumes together, a channel at a time; None where no volume has any."""
    volumes = list(volumes)
    result: list[Distribution | None] = []
    for index in range(max((len(volume.channels) for volume in volumes), default=0)):
        parts, points, weights = [], [], []
        for volume in volumes:
            if index < len(volume.foreground_counts) and (part := volume.channels[index].foreground) is not None:
                parts.append(part)
                points.append(np.array(volume.foreground_counts[index][0], np.float64))
                weights.append(np.array(volume.foreground_counts[index][1], np.int64))
        result.append(_merged(parts, np.concatenate(points), np.concatenate(weights)) if parts else None)
    return tuple(result)


def write_statistics(dataset: Path, volume_id: str, record: Mapping[str, Any], ignore_label: int | None, found: VolumeStatistics) -> None:
    """Keep them beside the volume of this record: a reader sees the old file or the new one, never a part.

    Raises:
        OSError: the file cannot be written.
    """
    file = dataset / FOLDER / f"{volume_id}.json"
    file.parent.mkdir(exist_ok=True)
    content = {"format": _FORMAT, "of": _named(record, ignore_label), "statistics": asdict(found)}
    temporary = file.with_suffix(".new")
    temporary.write_text(json.dumps(content | {"sha256": layout.canonical_digest(content)}, allow_nan=False))
    layout.flush_to_disk(temporary)
    temporary.replace(file)
    layout.flush_to_disk(file.parent)


def read_statistics(dataset: Path, volume_id: str, record: Mapping[str, Any], ignore_label: int | None) -> VolumeStatistics | None:
    """What was kept; None if nothing was, or it is of other voxels than the record's.

    Raises:
        StoreError: the file is damaged.
    """
    file = dataset / FOLDER / f"{volume_id}.json"
    try:
        content = json.loads(file.read_bytes())
        digest = content.pop("sha256")
        if layout.canonical_digest(content) != digest:
            raise ValueError("its digest does not match")
        if content["format"] != _FORMAT or content["of"] != _named(record, ignore_label):
            return None
        return _understood(content["statistics"])
    except FileNotFoundError:
        return None
    except (OSError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise StoreError(
            f"{file} cannot be read or is damaged ({error}); remove it and run `augserver info {dataset} --statistics --write`"
        ) from error


def _named(record: Mapping[str, Any], ignore_label: int | None) -> dict[str, Any]:
    return {"image_sha256": record["image_sha256"], "label_sha256": record["label_sha256"], "ignore_label": ignore_label}


def _understood(kept: Mapping[str, Any]) -> VolumeStatistics:
    def distribution(of: Mapping[str, Any] | None) -> Distribution | None:
        return None if of is None else Distribution(**{**of, "percentiles": tuple(of["percentiles"])})

    channels = []
    for each in kept["channels"]:
        whole = distribution(each["all"])
        if whole is None:
            raise ValueError("a channel without voxels")
        channels.append(ChannelStatistics(all=whole, nonzero=distribution(each["nonzero"]), foreground=distribution(each["foreground"])))
    counts = tuple((tuple(values), tuple(numbers)) for values, numbers in kept["foreground_counts"])
    return VolumeStatistics(channels=tuple(channels), nonzero_box_share=kept["nonzero_box_share"], foreground_counts=counts)


def _counted(voxels: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.int64] | None]:
    """Ascending values and how often each occurs; None: once each."""
    if voxels.dtype != np.int16:
        return np.sort(voxels, axis=None), None
    flat = voxels.reshape(-1)
    counts = np.zeros(2 * _OFFSET, np.int64)
    for start in range(0, flat.size, _BLOCK):
        counts += np.bincount(flat[start : start + _BLOCK].view(np.uint16), minlength=2 * _OFFSET)
    counts = np.roll(counts, _OFFSET)  # the bits of -1 are those of 65535
    present = np.flatnonzero(counts)
    return present - _OFFSET, counts[present]


def _distribution(values: NDArray[Any], counts: NDArray[np.int64] | None) -> Distribution:
    if counts is None:
        count = values.size
        blocks = [slice(start, start + _BLOCK) for start in range(0, count, _BLOCK)]
        mean = math.fsum(float(values[block].sum(dtype=np.float64)) for block in blocks) / count
        square = math.fsum(float(np.square(values[block].astype(np.float64) - mean).sum()) for block in blocks)
        std = math.sqrt(square / count)
    else:  # whole numbers: no rounding but the last
        count, total, square = int(counts.sum()), int((counts * values).sum()), int((counts * values * values).sum())
        mean, std = total / count, math.sqrt(Fraction(count * square - total * total, count * count))
    low, high = float(values[0]), float(values[-1])
    if low == high:  # no trace of rounding that somebody would divide by
        mean, std = low, 0.0
    return Distribution(count=count, mean=mean, std=std, min=low, max=high, percentiles=_percentiles(values, counts, count))


def _percentiles(values: NDArray[Any], counts: NDArray[np.int64] | None, count: int) -> tuple[float, ...]:
    ends = None if counts is None else np.cumsum(counts)

    def voxel(rank: int) -> float:
        return float(values[rank if ends is None else int(np.searchsorted(ends, rank, side="right"))])

    return tuple(percentile_at(voxel, count, percent) for percent in PERCENTILES)


def _thinned(values: NDArray[Any], counts: NDArray[np.int64] | None) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """What is kept for merging: all of a histogram; of sorted voxels, the middle one of each of _POINTS even parts."""
    if counts is not None:
        return values, counts
    ends = np.linspace(0, values.size, min(values.size, _POINTS) + 1).astype(np.int64)
    return values[(ends[:-1] + ends[1:] - 1) // 2], np.diff(ends)


def _merged(parts: Sequence[Distribution], points: NDArray[np.float64], weights: NDArray[np.int64]) -> Distribution:
    count = sum(part.count for part in parts)
    mean = math.fsum(part.count * part.mean for part in parts) / count
    square = math.fsum(part.count * (part.std**2 + (part.mean - mean) ** 2) for part in parts)
    order = np.argsort(points, kind="stable")
    return Distribution(
        count=count,
        mean=mean,
        std=math.sqrt(square / count),
        min=min(part.min for part in parts),
        max=max(part.max for part in parts),
        percentiles=_percentiles(points[order], weights[order], count),
    )


def _box_share(image: NDArray[Any]) -> float:
    """Voxels in the bounding box of those other than 0 in any channel, over all voxels."""
    _, depth, height, width = image.shape
    rows, columns = np.zeros(height, np.bool_), np.zeros(width, np.bool_)
    planes = np.zeros(depth, np.bool_)
    for index in range(depth):
        for channel in image:
            plane = channel[index]
            if rows.all() and columns.all():
                planes[index] |= bool(plane[0, 0]) or plane.any()
                continue
            found = plane.any(axis=1)
            rows |= found
            columns |= plane.any(axis=0)
            planes[index] |= found.any()
    return math.prod(_extent(axis) / axis.size for axis in (planes, rows, columns))


def _extent(found: NDArray[np.bool_]) -> int:
    places = np.flatnonzero(found)
    return int(places[-1] - places[0] + 1) if places.size else 0
