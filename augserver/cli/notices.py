"""Lines for the operator, on stderr: a log that cannot be written, such as one on a full disk, must not end what is served."""

from __future__ import annotations

import contextlib

import click


def say(line: str) -> None:
    """Print `line` on stderr if that is possible."""
    with contextlib.suppress(OSError):
        click.echo(line, err=True)
