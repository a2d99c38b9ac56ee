"""The `augtrain` command. Each subcommand is a module here with a click command of its own name, imported when it is used.

Errors of augclient.errors become one line on stderr and the exit code of their class; anything else is a bug and keeps its traceback.

The frame is that of augserver.cli once more: augtrain never imports augserver, and whatever lies in augclient brings gRPC along.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

import click

_COMMANDS = {
    "calibrate": "Tune the weights of the IoU loss on a server's volumes.",
    "compare": "Repeat the papers' comparisons: losses with and without augmentation.",
    "evaluate": "Score predicted label maps against true ones.",
    "fit": "Train a network on batches from a server.",
    "predict": "Segment scans with a trained network.",
}


class _LazyGroup(click.Group):
    """Knows its commands by name and imports a module only to run it or to show its own help."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        name = cmd_name.replace("-", "_")
        command = getattr(importlib.import_module(f"augtrain.cli.{name}"), name)
        return command if isinstance(command, click.Command) else None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="augserver-client", message="%(version)s")
def augtrain() -> None:
    """Train segmentation networks from an augserver, segment scans with them, score the result."""


def main(args: Sequence[str] | None = None) -> None:
    """Run the command line and leave the process with its exit code.

    Args:
        args: without the program's name; None: those of the process.
    """
    try:
        code = augtrain.main(args, prog_name="augtrain", standalone_mode=False)
    except click.UsageError as error:
        from augclient.errors import RequestError

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
    """Say an error of ours in one line and return its exit code; raise any other."""
    from augclient.errors import AugError  # brings gRPC and numpy along, which --help has no use for

    if not isinstance(error, AugError):
        raise error
    click.echo(f"augtrain: {' '.join(str(error).split())}", err=True)
    return error.exit_code
