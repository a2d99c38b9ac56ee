"""What the public contract says in numbers and names, once: the server, the client and the commands take it from here."""

from __future__ import annotations

from collections.abc import Mapping

MAX_CHANNELS = 8
"""Of an image; cuda/params.h has it once more."""

MAX_LEASES = 64
"""Slots of shared memory that a client may hold at once; their returns fit the socket's buffer, so that it never waits to send them."""

SAMPLERS = ("exact", "texture")
"""How a recipe may take an image's values; whether a backend has the second is for its server to say."""

LABEL_RULES = ("nearest", "linear")
"""How a label is taken where the place lies between voxels; the first is the default."""

BORDERS = ("fill", "edge")
"""What lies outside a volume: a fill, or its nearest voxel; the first is the default."""

IGNORE_CLASS = "ignore"
"""Name of the class whose voxels have no say: no foreground, no part of a loss; an occluded slab and labels.keep leave it as it is."""

DEFAULT_FILL = {"ct": -1000.0, "mr": 0.0}
"""By modality: what lies outside of a volume, unless the recipe says otherwise."""

EXIT_NOTHING_USABLE = 2
"""A command that reports on many scans took none of them."""

EXIT_SOME_REFUSED = 3
"""A command that reports on many scans took some of them, and says why it refused the others."""


def ignored_label(classes: Mapping[int, str]) -> int | None:
    """The id of the class that has no say; None where no class (id -> name) is called so."""
    return next((label for label, name in classes.items() if name == IGNORE_CLASS), None)
