"""A server in a child process: started, waited for, and ended when the block is left.

parent                                       child: augserver serve DS --ready-fd N
  pipe, whose writing end is N   --------->    serves, then writes one line to N: a Ready as JSON
  Ready, or the child's end      <---------    N stays open until the child ends
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import select
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from augclient.errors import UnavailableError, WireError

_STOP_S = 15.0
_LAST_LINES = 3  # of the log, in errors


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """What `augserver serve --ready-fd` says of itself once it serves; str() is the sentence for people.

    Attributes:
        address: for augclient.connect.
        backend: "cpu", "cuda", ...; with --devices those of all workers, with commas between.
        device: what computes, such as "0 NVIDIA H200"; "cpu" on the CPU.
        threads: of the CPU that compute; 0 where a device does.
        volumes: how many the dataset has.
        http, metrics: URLs of the page and of the metrics; None without.
    """

    address: str
    backend: str
    device: str
    threads: int
    volumes: int
    http: str | None = None
    metrics: str | None = None

    @classmethod
    def from_line(cls, line: str) -> Ready:
        """Read what to_line() wrote, in this release or a later one.

        Raises:
            WireError: it is none.
        """
        try:
            told = json.loads(line)
            return cls(**{each.name: told[each.name] for each in dataclasses.fields(cls)})
        except (KeyError, TypeError, ValueError) as error:
            raise WireError(f"a server said {line!r} where it was to say that it is ready; is augserver of another version?") from error

    def to_line(self) -> str:
        """One line of JSON, with its newline."""
        return json.dumps(dataclasses.asdict(self)) + "\n"

    @property
    def computes_on(self) -> str:
        """Such as "cpu, 2 threads" or "cuda, 0 NVIDIA H200"."""
        return f"{self.backend}, {count_of(self.threads, 'thread') if self.threads else self.device}"

    def __str__(self) -> str:
        return f"serving on {self.address} ({self.computes_on}, {count_of(self.volumes, 'volume')})"


def count_of(number: int, noun: str) -> str:
    """ "1 volume", "2 volumes"."""
    return f"{number} {noun}{'s' if number != 1 else ''}"


@contextmanager
def serving_child(command: Sequence[str], log: Path, *, timeout_s: float) -> Iterator[Ready]:
    """Run a server while the block runs.

    Args:
        command: `augserver serve ...`, without --ready-fd.
        log: file for what it prints on stderr; overwritten.
        timeout_s: until it must be ready.
    Raises:
        UnavailableError: it did not start; the message ends with its last words.
        WireError: it is of another version.

    However the block is left, the server gets SIGTERM, then time to drain, and has ended afterwards.
    """
    reading, writing = os.pipe()
    with contextlib.ExitStack() as stack:
        stack.callback(os.close, reading)
        try:
            process = stack.enter_context(
                subprocess.Popen(
                    [*command, "--ready-fd", str(writing)],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=stack.enter_context(log.open("wb")),
                    pass_fds=(writing,),
                )
            )
        finally:
            os.close(writing)
        with ending(process):
            yield _wait_until_ready(process, reading, log, timeout_s)


@contextmanager
def ending(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """End a process when the block is left: by SIGTERM, and by SIGKILL where that does not help in time."""
    try:
        yield
    finally:
        process.terminate()  # no-op where it has ended
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()


def _wait_until_ready(process: subprocess.Popen[bytes], reading: int, log: Path, timeout_s: float) -> Ready:
    line, deadline = b"", time.monotonic() + timeout_s
    while not line.endswith(b"\n"):
        if not select.select([reading], [], [], max(0.0, deadline - time.monotonic()))[0]:
            raise UnavailableError(f"the server was not ready after {timeout_s:g} s; see {log}: {_last_words(log)}")
        some = os.read(reading, 4096)
        if not some:
            raise UnavailableError(f"the server ended with code {process.wait()} before it was ready: {_last_words(log)}")
        line += some
    return Ready.from_line(line.decode(errors="replace"))


def _last_words(log: Path) -> str:
    return " ".join(log.read_text(errors="replace").strip().splitlines()[-_LAST_LINES:]) or "it said nothing"
