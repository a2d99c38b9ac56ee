"""Tell whether the values of a CT can be Hounsfield units: air reads -1000, water 0, whatever the scanner and the patient.

Rules look at where many voxels lie and not at extremes, because scans are cropped to organs without air, padded with -2000 or -3024
outside the scanner's circle, hold metal, contrast, or nothing but lung. What they say is a guess: nothing is changed by it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

HIGHEST_GAS_HU = -500.0  # a CT of a body with lungs or air around it has voxels below

_AIR_HU = -1000.0
_PADDING_GAP = 100.0  # between a value that stands for "outside" and the next
_PADDING_SHARE = 1e-3
_NARROWEST = 50.0  # of all values; a crop of one organ spans more by its noise alone
_FAR = (4500.0, 0.03)  # beyond any tissue and what metal takes of a scan; share of voxels
_BELOW_GAS = (-1250.0, 0.10)  # share; the rim of padding that was resampled has less
_TISSUE = (-150.0, 150.0)
_RAISED_TISSUE = (774.0, 1274.0)  # soft tissue and fat, with 1024 or 1000 added
_DENSE = (300.0, 774.0)
_FAT = (-25.0, 0.002)  # share of voxels below
_LOWERED_TISSUE = (-1250.0, -850.0)
_LOWERED_BONE = (-700.0, -300.0)
_PEAKS = ((-780.0, -150.0, 40.0, 0.10), (-150.0, -60.0, 8.0, 0.25))  # from, to, width, share: sharp as air is, where air is not
_CLIPPED_SHARE = 0.05


def no_gas(lowest: float) -> str:
    """Why a search for gas finds none, by the lowest value; empty if it may."""
    if lowest <= HIGHEST_GAS_HU:
        return ""
    return f"no voxel below {HIGHEST_GAS_HU:.0f} HU (the lowest is {lowest:.0f}): not a CT in HU, or clipped"


def not_hounsfield(values: NDArray[Any]) -> str:
    """Why these values cannot be Hounsfield units, with the range that says so; empty if they may be.

    Args:
        values: of voxels all over a scan, of any real dtype and shape, finite.
    """
    found = np.sort(np.asarray(values), axis=None).astype(np.float64)  # integers sort far faster
    low, high, median = float(found[0]), float(found[-1]), float(np.median(found))
    reason = _objection(found)
    return f"values {low:.5g} to {high:.5g}, median {median:.5g}: {reason}: not a CT in HU" if reason else ""


def _objection(found: NDArray[np.float64]) -> str:
    """What speaks against the sorted values."""
    if found[0] == found[-1]:
        return "every voxel has the same value"
    seen = found[np.searchsorted(found, _BELOW_GAS[0]) :] if _is_padded(found) else found
    if seen.size < 0.01 * found.size:
        return f"hardly any is above {_BELOW_GAS[0]:g}"
    low = float(seen[0])
    if seen[-1] - low < _NARROWEST:
        return "they span less than the noise of a scan, as scaled or normalised ones do"
    bare = low >= 0 or (_share(seen, -np.inf, _FAT[0]) < _FAT[1] and float(np.median(seen)) > _TISSUE[1])
    if bare and float(np.percentile(seen, 99)) > _DENSE[0]:  # a crop of one organ may have neither air nor fat, nor anything dense
        few = "none" if low >= 0 else "hardly any"
        return f"{few} is below 0, where fat and air are, as if no rescale intercept was applied"
    if 1 - _share(seen, -_FAR[0], _FAR[0]) > _FAR[1]:
        return f"many are beyond {_FAR[0]:g}, as after a swap of bytes or a wrong slope"
    if _share(seen, -np.inf, _BELOW_GAS[0]) > _BELOW_GAS[1]:
        return f"many are below {_BELOW_GAS[0]:g}, where nothing is"
    inside = _without_lowest(seen)
    raised, dense = _share(inside, *_RAISED_TISSUE), _share(inside, *_DENSE)
    if raised > (0.05 if inside[int(0.001 * inside.size)] > -250 else 0.2) and raised > 2 * dense:
        return "more voxels lie near 1000 than between fat and bone, as if no rescale intercept was applied"
    tissue = _share(seen, *_TISSUE)
    if tissue < 0.02 and _share(seen, *_LOWERED_TISSUE) > 0.5 and tissue < 0.5 * _share(seen, *_LOWERED_BONE):
        return "soft tissue lies near -1000, as if the rescale intercept was applied twice"
    return _wrong_air(seen)


def _wrong_air(seen: NDArray[np.float64]) -> str:
    """A sharp peak at the low end is air: it must lie at -1000."""
    low = float(seen[0])
    if low > -900 and float(np.searchsorted(seen, low, "right")) / seen.size >= _CLIPPED_SHARE:
        return f"many are {low:.5g} and none is below, as if air was clipped or scaled away from {_AIR_HU:g}"
    for begin, end, width, least in _PEAKS:
        starts = np.arange(begin, end - width + 1, width / 4)
        shares = np.array([_share(seen, start, start + width) for start in starts])
        peak = float(starts[shares.argmax()])
        if shares.max() > least and _share(seen, -np.inf, peak - 1.5 * width) < 0.01:
            middle = peak + width / 2
            return f"many are near {middle:.0f} and few below, where air would be {_AIR_HU:g}, as after a wrong slope or intercept"
    return ""


def _is_padded(found: NDArray[np.float64]) -> bool:
    """Whether most of what is below any gas is one value, such as -3024, perhaps with a rim where the scan was resampled."""
    below = np.rint(found[: np.searchsorted(found, _BELOW_GAS[0])])
    if not below.size:
        return False
    return bool(np.unique(below, return_counts=True)[1].max() >= 0.5 * below.size)


def _without_lowest(found: NDArray[np.float64]) -> NDArray[np.float64]:
    """The sorted values without the lowest, if many voxels have it and none is near."""
    same = int(np.searchsorted(found, found[0], "right"))
    alone = _PADDING_SHARE * found.size <= same < found.size and found[same] - found[0] >= _PADDING_GAP
    return found[same:] if alone else found


def _share(found: NDArray[np.float64], low: float, high: float) -> float:
    """The share of sorted values in [low, high)."""
    begin, end = np.searchsorted(found, (low, high))
    return float(end - begin) / found.size
