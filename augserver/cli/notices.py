"""Lines for the operator, on stderr: a log that cannot be written, such as one on a full disk, must not end what is served."""

from __future__ import annotations

import contextlib
import logging

import click

from augserver.cli.logs import NOTICES


def say(line: str) -> None:
    """Put `line` into the log where there is one, else on stderr, if that is possible."""
    if logging.getLogger().handlers:
        logging.getLogger(NOTICES).info("%s", line)
        return
    with contextlib.suppress(OSError):
        click.echo(line, err=True)
