"""Errors as a client sees them: a status, one message, the name of the class; never a path, a traceback or a line of code."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from augclient.wire.status import abort_call

from augserver.errors import AugError, BudgetError, UnavailableError, VolumeError
from augserver.store.machine_fault import is_machine_fault

_log = logging.getLogger("augserver.service")


class Faults:
    """Turns exceptions of a handler into gRPC statuses.

    Args:
        dataset_path: hidden in messages behind the folder's name: where a server keeps its data is not a client's business.
    """

    def __init__(self, dataset_path: Path) -> None:
        spellings = {str(dataset_path), str(dataset_path.absolute()), str(dataset_path.resolve())}
        # the longest first, so that no rest of it stays behind; a bare name hides nothing
        self._paths = sorted((path for path in spellings if "/" in path), key=len, reverse=True)
        self._name = dataset_path.resolve().name

    @contextmanager
    def mapped(self, context: Any) -> Iterator[None]:
        """Abort the call with the right status when the block raises; do not call `context.abort` in the block."""
        try:
            yield
        except AugError as error:
            # Damage, or a disk that fails, is not the caller's doing: who keeps the dataset has to know, and where it lies.
            if isinstance(error, VolumeError) or isinstance(error.__cause__, OSError):
                _log.error("%s", error)
            abort_call(context, type(error)(self.public_message(str(error))))
        except MemoryError as error:
            _log.error("a call found no memory: %s", error or "MemoryError")
            abort_call(context, BudgetError("the server's machine has no memory left for this call; ask for less, or try again later"))
        except Exception as error:
            if is_machine_fault(error):
                # The client may try again: what the machine lacks now (a descriptor, a thread) another call gives back when it ends.
                reason = error.strerror if isinstance(error, OSError) else error
                _log.error("a call found this machine short: %s; raise the limits of the server's process (ulimit -n, ulimit -u)", error)
                abort_call(context, UnavailableError(f"the server's machine lacks what this call takes now ({reason}); try again"))
            incident = uuid.uuid4().hex[:12]
            _log.error("incident %s", incident, exc_info=error)
            message = f"unexpected error in the server, incident {incident}; the server's log has the details, please report them"
            abort_call(context, AugError(message))

    def public_message(self, message: str) -> str:
        """A message without the folder in which the dataset lies."""
        for path in self._paths:
            message = message.replace(path, self._name)
        return message
