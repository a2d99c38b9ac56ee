"""One writer per dataset, enforced by the kernel: the lock of a killed writer is gone with its process."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from augserver.errors import StoreError


class WriterLock:
    """Exclusive lock on a lock file, held from construction to `release`, which removes the file.

    Raises:
        StoreError: another process (or another writer of this one) holds it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        while True:
            self._handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(self._handle)
                raise StoreError(
                    f"another process is writing {path.parent}; wait until it ends: a dataset has one writer at a time"
                ) from None
            except OSError:
                os.close(self._handle)
                raise
            if self._is_current():
                return
            os.close(self._handle)  # the former owner removed this file between our open and our lock: try the new one

    def _is_current(self) -> bool:
        try:
            return os.path.samestat(os.fstat(self._handle), self._path.stat())
        except FileNotFoundError:
            return False

    def release(self) -> None:
        """Remove the lock file while it is still locked, then unlock."""
        self._path.unlink(missing_ok=True)
        os.close(self._handle)
