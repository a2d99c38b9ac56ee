"""What a search for an organ ended in."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """An organ's mask, or why there is none.

    Attributes:
        mask: bool (Z, Y, X) on the scan's grid; None: the organ is not labelled.
        reason: why it is not labelled, for a person; else empty.
    """

    mask: NDArray[np.bool_] | None = None
    reason: str = ""
