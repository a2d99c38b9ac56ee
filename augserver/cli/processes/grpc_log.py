"""Who failed a TLS handshake, and why, as one line of our log: gRPC hides it from Python and tells it only in its own trace.

    gRPC's C++ --fd 2--> pipe --> this thread --> handshakes that failed: `Refusals`
                                              --> warnings and errors, and what is not gRPC's: stderr, as before
                                              --> the rest of the trace: nowhere

Python's own stderr goes past the pipe, so that nothing of it can be lost here.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import sys
import threading
from types import TracebackType
from typing import TYPE_CHECKING, TextIO
from urllib.parse import unquote

if TYPE_CHECKING:  # importing them imports gRPC, which is to be imported by ask_for_handshakes() alone
    from augserver.service.access import Refusals
    from augserver.service.address import Address

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


class HandshakeLog:
    """Reads what gRPC writes to stderr, while entered; handshakes that failed go to `refusals`."""

    def __init__(self, refusals: Refusals) -> None:
        self._refusals = refusals
        self._probes: set[str] = set()  # peers of our own, which are not refusals
        self._heard = threading.Event()

    def __enter__(self) -> HandshakeLog:
        reading, writing = os.pipe()
        self._kept, self._python_stderr = os.dup(2), sys.stderr
        sys.stderr.flush()
        sys.stderr = os.fdopen(os.dup(self._kept), "w", buffering=1, encoding="utf-8", errors="backslashreplace")
        os.dup2(writing, 2)
        os.close(writing)
        self._reader = threading.Thread(target=self._read, args=(os.fdopen(reading, encoding="utf-8", errors="replace"),), daemon=True)
        self._reader.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        os.dup2(self._kept, 2)  # the pipe's last writer is gone, and the reader ends
        self._reader.join()
        os.close(self._kept)
        with contextlib.suppress(OSError):  # its reader has ended
            sys.stderr.close()
        sys.stderr = self._python_stderr

    def is_told(self, address: Address, timeout_s: float = 5.0) -> bool:
        """Fail a handshake with the server at `address`, and wait for gRPC to tell: no text of its trace is promised."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(address.host, address.host)
        with contextlib.suppress(OSError), socket.create_connection((host, address.port), timeout_s) as probe:
            self._probes.add(str(type(address)(*probe.getsockname()[:2])))
            probe.sendall(b"GET / HTTP/1.0\r\n\r\n")
            return self._heard.wait(timeout_s)
        return False

    def _read(self, pipe: TextIO) -> None:
        record = ""  # of gRPC's log, over one or more lines
        with pipe:
            for line in pipe:
                # The status of a handshake brings lines of its own; any other line is whole.
                begun = _RECORD.match(line)
                record = (record + line)[:_MAX_RECORD] if record and begun is None else line
                if (begun is None and record is line) or (begun is not None and begun[1] != "I"):
                    with contextlib.suppress(OSError):  # were nobody to read on, gRPC would wait for room in the pipe
                        os.write(self._kept, line.encode())
                    record = ""
                elif (failed := _FAILED.search(record)) is not None:
                    self._note(failed[1], failed[2])
                    record = ""
                elif "CallNextHandshakerLocked: error=" not in record or "exit_early=" in record:
                    record = ""

    def _note(self, error: str, peer: str) -> None:
        from augserver.service.access import host_of

        if unquote(peer).partition(":")[2] in self._probes:
            self._heard.set()
            return
        why = next(
            (reason for mark, reason in _REASONS.items() if mark in error), f"its TLS handshake failed: {error.splitlines()[0][:200]}"
        )
        self._refusals.note(host_of(peer), why)
