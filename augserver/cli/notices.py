"""Lines for the operator: an output that cannot be written, such as a full disk or a reader that ended, must not end what is served."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import sys

import click

from augserver.cli.logs import NOTICES


def say(line: str) -> None:
    """Put `line` into the log where there is one, else on stderr, if that is possible."""
    if logging.getLogger().handlers:
        logging.getLogger(NOTICES).info("%s", line)
        return
    with contextlib.suppress(OSError):
        click.echo(line, err=True)


def print_line(line: str) -> None:
    """Print `line` on stdout; where that cannot be written, say so and say the line on stderr."""
    try:
        if sys.stdout is None:  # closed before this process began
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        click.echo(line)
    except OSError as error:
        say(f"augserver: stdout cannot be written ({error.strerror}), so it stands here: {line}")
        _drop_stdout()


def _drop_stdout() -> None:
    """Let what is still to be written to stdout go nowhere, or Python would fail to write it once more when it ends."""
    with contextlib.suppress(AttributeError, OSError, ValueError):
        descriptor = sys.stdout.fileno()
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, descriptor)
        os.close(nowhere)
