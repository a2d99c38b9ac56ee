"""One picture per segmented scan: three planes through the middle of what was found, with its outlines filled in colour."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from augclient.errors import StateError
from numpy.typing import NDArray

_PLANES = ("axial", "coronal", "sagittal")
_RANGE = (1.0, 99.0)  # percentiles of the image that become black and white where no window is known
_COLOURS = "tab10"
_MANY_COLOURS = "tab20"
_OPACITY = 0.55


def save_picture(
    path: Path,
    image: NDArray[Any],
    label: NDArray[np.uint8],
    spacing_mm: Sequence[float],
    classes: Mapping[int, str],
    *,
    title: str,
    window: tuple[float, float] | None,
) -> None:
    """Draw three planes of a volume with its classes.

    Args:
        path: of the PNG; its folder is made if absent.
        image: (Z, Y, X), axes to Superior, Posterior, Left, as a server has volumes.
        label: uint8 (Z, Y, X) on the same grid.
        spacing_mm: zyx.
        classes: id -> name; the legend names those that occur.
        title: above the planes.
        window: (low, high) of grey, in the image's unit; None: by percentiles.
    Raises:
        StateError: the file cannot be written.
    """
    from matplotlib import colormaps
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    low, high = window or (float(value) for value in np.percentile(image, _RANGE))
    present = [id for id in np.unique(label).tolist() if id]
    colours = colormaps[_COLOURS if max(classes) <= 10 else _MANY_COLOURS].colors  # type: ignore[attr-defined]
    colour = {id: colours[(id - 1) % len(colours)] for id in present}
    figure = Figure(figsize=(12, 4.6), dpi=100, layout="constrained")
    figure.suptitle(title)
    for axis, (name, axes) in enumerate(zip(_PLANES, figure.subplots(1, 3), strict=True)):
        place = _busiest(label, axis)
        grey, ids = (np.take(array, place, axis) for array in (image, label))
        down, across = (step for number, step in enumerate(spacing_mm) if number != axis)
        if axis:  # Superior is drawn at the top
            grey, ids = grey[::-1], ids[::-1]
        shade = np.clip((grey.astype(np.float32) - low) / max(high - low, 1e-6), 0, 1)
        drawn = np.repeat(shade[..., None], 3, axis=-1)
        for id in present:
            here = ids == id
            drawn[here] = (1 - _OPACITY) * drawn[here] + _OPACITY * np.asarray(colour[id])
        axes.imshow(drawn, aspect=down / across, interpolation="nearest")
        axes.set_title(f"{name}, plane {place}", fontsize=9)
        axes.set_axis_off()
    if present:
        handles = [Patch(color=colour[id], label=classes.get(id, str(id))) for id in present]
        figure.legend(handles=handles, loc="outside lower center", ncols=min(len(present), 8), fontsize=8)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path)
    except OSError as error:
        raise StateError(f"{path} cannot be written ({error}); choose another folder for the pictures") from error


def _busiest(label: NDArray[np.uint8], axis: int) -> int:
    """The middle one of the planes that show most classes; of the volume where nothing is labelled."""
    counts = np.array([len(np.unique(plane)) for plane in np.moveaxis(label, axis, 0)])
    best = np.flatnonzero(counts == counts.max())
    return int(best[best.size // 2])
