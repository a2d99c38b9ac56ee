"""Who failed a TLS handshake, and why, as one line of our log: gRPC hides it from Python and tells it only in its own trace.

    gRPC's C++ --fd 2--> pipe --> this thread --> handshakes that failed: `Refusals`
                                              --> warnings and errors, and what is not gRPC's: stderr, as before
                                              --> the rest of the trace: nowhere

Python's own stderr goes past the pipe, so that nothing of it can be lost here.
"""

from __future__ import annotations

import os
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from augserver.service.access import Refusals

_RECORD = re.compile(r"([IWEF])\d{4} [\d:.]+ +\d+ [\w./]+:\d+\] ")  # how a record of gRPC's log begins
_FAILED = re.compile(r"CallNextHandshakerLocked: error=(?!OK)(.*?) shutdown=.*endpoint_peer_address=([^,}]+)", re.DOTALL)
_REASONS = {
    "WRONG_VERSION_NUMBER": "it spoke plain text, and this server speaks TLS",
    "HTTP_REQUEST": "it spoke plain text, and this server speaks TLS",
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "it showed no certificate, and this server wants one of its authority",
    "CERTIFICATE_VERIFY_FAILED": "its certificate is not a valid one of this server's authority",
    "UNKNOWN_CA": "it does not trust this server's certificate",
    "CERTIFICATE_UNKNOWN": "it does not trust this server's certificate",
}
_MAX_RECORD = 64 * 1024  # characters; what is longer is cut


def ask_for_handshakes() -> bool:
    """Have gRPC trace its handshakes; False where it was imported before, or where the user asked for another trace.

    gRPC reads the variables when it is imported, so that they are gone again when this returns: child processes have no filter.
    """
    if "grpc" in sys.modules or "GRPC_TRACE" in os.environ:
        return False
    wanted = {"GRPC_TRACE": "handshaker", "GRPC_VERBOSITY": os.environ.get("GRPC_VERBOSITY", "INFO")}
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        import augclient  # noqa: F401  # and with it gRPC
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
    return True


@contextmanager
def refusals_logged(refusals: Refusals) -> Iterator[None]:
    """Read what gRPC writes to stderr, while the block runs."""
    reading, writing = os.pipe()
    kept, python_stderr = os.dup(2), sys.stderr
    sys.stderr.flush()
    sys.stderr = os.fdopen(os.dup(kept), "w", buffering=1, encoding="utf-8", errors="backslashreplace")
    os.dup2(writing, 2)
    os.close(writing)
    reader = threading.Thread(target=_read, args=(os.fdopen(reading, encoding="utf-8", errors="replace"), kept, refusals), daemon=True)
    reader.start()
    try:
        yield
    finally:
        os.dup2(kept, 2)  # the pipe's last writer is gone, and the reader ends
        reader.join()
        os.close(kept)
        sys.stderr.close()
        sys.stderr = python_stderr


def _read(pipe: TextIO, stderr: int, refusals: Refusals) -> None:
    record = ""  # of gRPC's log, over one or more lines
    with pipe:
        for line in pipe:
            # The status of a handshake brings lines of its own; any other line is whole.
            begun = _RECORD.match(line)
            record = (record + line)[:_MAX_RECORD] if record and begun is None else line
            if (begun is None and record is line) or (begun is not None and begun[1] != "I"):
                os.write(stderr, line.encode())
                record = ""
            elif (failed := _FAILED.search(record)) is not None:
                _note(failed[1], failed[2], refusals)
                record = ""
            elif "CallNextHandshakerLocked: error=" not in record or "exit_early=" in record:
                record = ""


def _note(error: str, peer: str, refusals: Refusals) -> None:
    from augserver.service.access import host_of

    why = next((reason for mark, reason in _REASONS.items() if mark in error), f"its TLS handshake failed: {error.splitlines()[0][:200]}")
    refusals.note(host_of(peer), why)
