"""The organs that can be labelled without an annotator, by the names that users give."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from numpy.typing import NDArray

from augserver.labels.finding import Finding
from augserver.labels.lungs import find_lungs
from augserver.labels.skeleton import find_bones

ORGANS: dict[str, Callable[[NDArray[Any], Sequence[float]], Finding]] = {"lungs": find_lungs, "bone": find_bones}
"""Name -> its finder."""

ALIASES = {"lungs": ("lungs", "lung"), "bone": ("bone", "bones", "skeleton")}
"""Names by which a dataset may already know the class."""
