"""A server in a process of its own, for commands that show or measure one."""

from __future__ import annotations

import os
import re
import select
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from augserver.errors import UnavailableError

_READY = re.compile(r"serving on (\S+) \((.*)\)")
_STOP_S = 15.0


@contextmanager
def child_server(dataset: Path, log: Path, *, options: Sequence[str] = (), timeout_s: float = 60.0) -> Iterator[tuple[str, str]]:
    """Serve `dataset` on a free loopback port while the block runs.

    Args:
        dataset: a dataset's folder.
        log: file for what the server prints on stderr; overwritten.
        options: of `augserver serve`.
        timeout_s: until it must be ready.
    Yields:
        (address, description), such as ("127.0.0.1:40123", "cpu, 2 threads, 5 volumes").
    Raises:
        UnavailableError: it did not start; the message ends with its last words.

    However the block is left, the server gets SIGTERM, then time to drain, and is gone afterwards.
    """
    # -P: the installed package, whatever lies in the current folder
    command = [sys.executable, "-P", "-c", "from augserver.cli import main; main()", "serve", str(dataset), "--address", "127.0.0.1:0"]
    command += options
    with log.open("wb") as errors, subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors) as process:
        try:
            yield _wait_until_ready(process, log, timeout_s)
        finally:
            process.terminate()
            try:
                process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()


def _wait_until_ready(process: subprocess.Popen[bytes], log: Path, timeout_s: float) -> tuple[str, str]:
    stdout = process.stdout.fileno() if process.stdout else -1
    line, deadline = b"", time.monotonic() + timeout_s
    while not line.endswith(b"\n"):
        if not select.select([stdout], [], [], max(0.0, deadline - time.monotonic()))[0]:
            raise UnavailableError(f"the server was not ready after {timeout_s:g} s; see {log}")
        some = os.read(stdout, 4096)
        if not some:
            words = log.read_text(errors="replace").strip().splitlines()[-3:]
            raise UnavailableError(
                f"the server ended with code {process.wait()} before it was ready: {' '.join(words) or 'it said nothing'}"
            )
        line += some
    ready = _READY.match(line.decode(errors="replace"))
    if ready is None:
        raise UnavailableError(f"the server's first line was {line.decode(errors='replace').strip()!r}, not where it serves; see {log}")
    return ready[1], ready[2]
