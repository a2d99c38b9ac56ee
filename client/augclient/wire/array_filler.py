"""Copy the parts of one image and label into whole arrays, each byte where the last one ended; both ends of the wire do.

Buffers may be reused, so a byte that never came would be a byte of an older array: the last part is refused unless all have come.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from augclient.errors import WireError
from augclient.wire.parts import Part


class ArrayFiller:
    """Copies the stretches of an image and a label into flat byte arrays."""

    def __init__(self, image: NDArray[np.uint8], label: NDArray[np.uint8] | None, what: str) -> None:
        """`what` names the batch or volume in errors."""
        self._image = image.data
        self._label = memoryview(b"") if label is None else label.data
        self._image_at = self._label_at = 0
        self._what = what

    def add(self, part: Part) -> None:
        """Copy the part's payload; WireError where it leaves a gap, overlaps, or exceeds the array, or is the last of too few."""
        if part.image is not None:
            self._image_at = self._copy("image", self._image, self._image_at, part.image_offset, part.image)
        if part.label is not None:
            self._label_at = self._copy("label", self._label, self._label_at, part.label_offset, part.label)
        if part.last and (self._image_at, self._label_at) != (len(self._image), len(self._label)):
            raise WireError(
                f"{self._what} ended after {self._image_at} of {len(self._image)} image bytes"
                f" and {self._label_at} of {len(self._label)} label bytes"
            )

    def _copy(self, name: str, target: memoryview, at: int, offset: int, payload: memoryview) -> int:
        end = at + len(payload)
        if not len(payload):
            return at
        if offset != at or end > len(target):
            raise WireError(
                f"{self._what}: {name} bytes [{offset}, {offset + len(payload)}) came where {at} of {len(target)} were received;"
                " parts must follow each other without gap or overlap"
            )
        target[at:end] = payload
        return end
