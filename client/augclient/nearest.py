"""The name that was probably meant, for messages about a name that does not exist."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(got: str, known: Iterable[str], *, least: float = 0.5) -> str | None:
    """The known name that is most like this one; None if none is.

    Args:
        least: how like it must be, 0 (anything is) to 1.
    """
    found = difflib.get_close_matches(got, list(known), n=1, cutoff=least)
    return found[0] if found else None


def did_you_mean(got: str, known: Iterable[str]) -> str:
    """The question for a message, with a space behind it; empty where no name is like this one."""
    near = nearest(got, known)
    return f"did you mean {near!r}? " if near else ""
