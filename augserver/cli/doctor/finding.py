"""One thing that `augserver doctor` looked at."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What was found, and where it is not well, why and what to do.

    Attributes:
        check: what was looked at.
        well: whether it is as it should be.
        found: what is there, in a few words.
        cause: why it is not well; "" where it is.
        next_step: what mends it; "" where nothing needs mending.
    """

    check: str
    well: bool
    found: str
    cause: str = ""
    next_step: str = ""


def good(check: str, found: str) -> Finding:
    """A finding that needs nothing."""
    return Finding(check=check, well=True, found=found)


def bad(check: str, found: str, *, cause: str, next_step: str) -> Finding:
    """A finding that needs mending."""
    return Finding(check=check, well=False, found=found, cause=cause, next_step=next_step)
