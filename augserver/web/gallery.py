"""Volumes as ingested, for a person to look at: a small picture of each, and planes of raw voxels."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from augserver.errors import RequestError
from augserver.volume import Volume
from augserver.web.patches import PatchMaker
from augserver.web.png import encode_png
from augserver.web.sheet import Plane, choose_planes, draw_plane
from augserver.web.studio import shown_range

AXES = ("z", "y", "x")
_THUMBNAIL = 208  # pixels of the longer side
_THUMBNAILS_BYTES = 64 << 20
_WINDOW_HU = (-350.0, 450.0)  # organs, with lungs dark and bone bright


@dataclass(frozen=True, slots=True, kw_only=True)
class RawPlane:
    """A plane across one axis.

    Attributes:
        image: int16 or float32 (rows, columns), C-contiguous.
        label: uint8 of that shape, or None.
    """

    image: NDArray[Any]
    label: NDArray[np.uint8] | None


class Gallery:
    """Pictures and planes of the volumes of a PatchMaker; thread-safe."""

    def __init__(self, maker: PatchMaker) -> None:
        self._maker = maker
        self._lock = threading.Lock()
        self._thumbnails: dict[str, bytes] = {}  # oldest first
        self._thumbnails_bytes = 0

    def thumbnail(self, volume_id: str) -> bytes:
        """A PNG of the axial plane that shows most classes, labels overlaid.

        Raises:
            NotFoundError, VolumeError, UnavailableError, BudgetError: as reading the volume.
        """
        with self._lock:
            known = self._thumbnails.get(volume_id)
        if known is not None:
            return known
        with self._maker.volumes.lease(volume_id) as volume:
            png = self._draw(volume)
        with self._lock:
            if volume_id not in self._thumbnails:
                self._thumbnails[volume_id] = png
                self._thumbnails_bytes += len(png)
            while self._thumbnails_bytes > _THUMBNAILS_BYTES:
                self._thumbnails_bytes -= len(self._thumbnails.pop(next(iter(self._thumbnails))))
        return png

    def shown_range(self, volume_id: str, channel: int) -> tuple[float, float]:
        """Values to show as black and as white where no window is known, as in MR; errors as for `plane`."""
        with self._maker.volumes.lease(volume_id) as volume:
            return shown_range(volume.image[_check(volume, "channel", channel, volume.image.shape[0])])

    def plane(self, volume_id: str, axis: int, index: int, channel: int) -> RawPlane:
        """A copy of one plane.

        Args:
            axis: 0, 1, 2 for z, y, x.
        Raises:
            RequestError: axis, index or channel outside the volume. The rest as `thumbnail`.
        """
        with self._maker.volumes.lease(volume_id) as volume:
            _check(volume, "axis", axis, 3)
            _check(volume, "index", index, volume.image.shape[1 + axis])
            image = np.take(volume.image[_check(volume, "channel", channel, volume.image.shape[0])], index, axis=axis)
            label = None if volume.label is None else np.take(volume.label, index, axis=axis)
        return RawPlane(image=image, label=label)

    def _draw(self, volume: Volume) -> bytes:
        image, label = volume.image[0], volume.label
        low, high = _WINDOW_HU if self._maker.dataset.modality == "ct" else shown_range(image)
        z = choose_planes(image.shape, label)[0]
        grey = (image[z].astype(np.float32) - low) / (high - low)
        sides_mm = [n * mm for n, mm in zip(grey.shape, volume.info.spacing_mm[1:], strict=True)]
        height, width = (max(1, round(_THUMBNAIL * side / max(sides_mm))) for side in sides_mm)
        return encode_png(np.asarray(draw_plane(Plane(grey, None if label is None else label[z]), (width, height), axis=0)))


def _check(volume: Volume, what: str, got: int, size: int) -> int:
    if not 0 <= got < size:
        raise RequestError(f"{what}: got {got}; allowed for volume {volume.info.id!r}: 0 to {size - 1}")
    return got
