"""A server in a process of its own, for commands that show or measure one."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from augclient.serving_child import Ready, serving_child


@contextmanager
def child_server(dataset: Path, log: Path, *, options: Sequence[str] = (), timeout_s: float = 60.0) -> Iterator[Ready]:
    """Serve `dataset` on a free loopback port while the block runs.

    Args:
        dataset: a dataset's folder.
        log: file for what the server prints on stderr; overwritten.
        options: of `augserver serve`.
        timeout_s: until it must be ready.
    Raises:
        UnavailableError: it did not start; the message ends with its last words.

    However the block is left, the server gets SIGTERM, then time to drain, and is gone afterwards.
    """
    # -P: the installed package, whatever lies in the current folder
    command = [sys.executable, "-P", "-c", "from augserver.cli import main; main()", "serve", str(dataset), "--address", "127.0.0.1:0"]
    with serving_child([*command, *options], log, timeout_s=timeout_s) as ready:
        yield ready
