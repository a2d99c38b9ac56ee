"""Options of commands that hold several values, separated by commas."""

from __future__ import annotations

import click


def read_ids(ctx: click.Context, param: click.Parameter, value: str | None) -> list[str] | None:
    """Callback of an option "a,b,..."."""
    return None if value is None else [each.strip() for each in value.split(",") if each.strip()]


def read_sizes(ctx: click.Context, param: click.Parameter, value: str | None) -> list[int] | None:
    """Callback of an option "Z,Y,X", also written ZxYxX."""
    try:
        return None if value is None else [int(each) for each in value.replace("x", ",").split(",")]
    except ValueError:
        raise click.BadParameter(f"got {value!r}; allowed: three whole numbers Z,Y,X such as 64,64,64") from None


def read_numbers(ctx: click.Context, param: click.Parameter, value: str | None) -> list[float] | None:
    """Callback of an option "0.5,1,..."."""
    try:
        return None if value is None else [float(each) for each in value.split(",")]
    except ValueError:
        raise click.BadParameter(f"got {value!r}; allowed: numbers, separated by commas, such as 0.5,1,1.5") from None


def read_seeds(ctx: click.Context, param: click.Parameter, value: str | None) -> list[int] | None:
    """Callback of an option "0,1,..."."""
    try:
        return None if value is None else [int(each) for each in value.split(",")]
    except ValueError:
        raise click.BadParameter(f"got {value!r}; allowed: whole numbers, separated by commas, such as 0,1,2") from None
