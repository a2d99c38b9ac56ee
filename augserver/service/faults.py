"""Errors as a client sees them: a status, one message, the name of the class; never a path, a traceback or a line of code."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from augclient.wire.status import abort_call

from augserver.errors import AugError, VolumeError

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
            abort_call(context, type(error)(self.public_message(error)))
        except Exception as error:
            incident = uuid.uuid4().hex[:12]
            _log.error("incident %s", incident, exc_info=error)
            message = f"unexpected error in the server, incident {incident}; the server's log has the details, please report them"
            abort_call(context, AugError(message))

    def public_message(self, error: AugError) -> str:
        """The message of `error` without the folder in which the dataset lies."""
        message = str(error)
        for path in self._paths:
            message = message.replace(path, self._name)
        return message
