"""The `augserver` command. Each subcommand is a module here with a click command of its own name, imported when it is used.

Errors of augserver.errors become one line on stderr and the exit code of their class; anything else is a bug and keeps its traceback.
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import os
import sys
from collections.abc import Sequence

import click

_COMMANDS = {
    "bench": "How fast this machine is, stage by stage, and what limits it.",
    "build-kernels": "Compile the CUDA kernels, for a GPU.",
    "demo": "See the whole thing work: synthetic torsos, stored, served, streamed, trained on.",
    "doctor": "What works here, and what would mend what does not.",
    "info": "What a dataset holds.",
    "ingest": "Read scans into a dataset.",
    "label": "Label lungs and bones in a dataset, without annotators.",
    "preview": "Draw what a recipe does to a patch.",
    "ray": "Serve a dataset from several servers on a Ray cluster.",
    "serve": "Serve augmented batches of a dataset.",
    "token": "Make a token for a caller.",
}


_SHORT = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOSPC, errno.EDQUOT, errno.EAGAIN)


class _LazyGroup(click.Group):
    """Knows its commands by name and imports a module only to run it or to show its own help."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        name = cmd_name.replace("-", "_")
        command = getattr(importlib.import_module(f"augserver.cli.{name}"), name)
        return command if isinstance(command, click.Command) else None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="augserver", message="%(version)s")
def augserver() -> None:
    """Keep 3-D scans in memory, augment them in one fused kernel, stream batches to training loops."""


def main(args: Sequence[str] | None = None) -> None:
    """Run the command line and leave the process with its exit code.

    Args:
        args: without the program's name; None: those of the process.
    """
    _fill_standard_descriptors()
    try:
        code = augserver.main(args, prog_name="augserver", standalone_mode=False)
    except click.UsageError as error:
        from augserver.errors import RequestError

        error.show()
        code = RequestError.exit_code
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except click.Abort:
        code = 130  # 128 + SIGINT, as shells have it
    except Exception as error:
        code = _report(error)
    sys.exit(code if isinstance(code, int) else 0)


def _report(error: Exception) -> int:
    """Say an error of ours, or of a machine that is short, in one line and return its exit code; raise any other."""
    from augserver.errors import AugError, UnavailableError  # brings gRPC and numpy along, which --help has no use for

    if (isinstance(error, OSError) and error.errno in _SHORT) or (isinstance(error, RuntimeError) and "start new thread" in str(error)):
        click.echo(f"augserver: this machine is short: {error}; see to its limits (ulimit -a), memory and disks", err=True)
        return UnavailableError.exit_code
    if not isinstance(error, AugError):
        raise error
    click.echo(f"augserver: {' '.join(str(error).split())}", err=True)
    return error.exit_code


def _fill_standard_descriptors() -> None:
    """Open /dev/null for each of 0, 1, 2 that is closed: the next file or socket would get its number, and what is printed with it."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            with contextlib.suppress(OSError):
                os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free, which is this one
    if sys.stderr is None:
        sys.stderr = os.fdopen(2, "w", closefd=False)
