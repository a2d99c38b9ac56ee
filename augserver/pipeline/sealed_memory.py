"""Memory without a name that another process can map to read and can neither resize nor write: a sealed memfd.

The memory lives as long as somebody maps it, holds its descriptor, or has it in a message on the way: nothing is left behind by any kill.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os

from augclient.local.protocol import SEALS

from augserver.errors import BudgetError

_NAME = "augserver-ring"  # what /proc/PID/maps shows; it is no path


class SealedMemory:
    """Zeros, `size_bytes` of them, taken from the system page by page as they are first written.

    Args:
        size_bytes: a multiple of the page size, above 0.
    Raises:
        MemoryError: the system has no memory for it.
        BudgetError: the system makes no memory of this kind now, or never: its limits, or a sandbox, refuse a call that it takes.

    Attributes:
        descriptor: for another process; `close` closes it.
        pages: this process' mapping, the only writable one there is and ever will be.
    """

    def __init__(self, size_bytes: int) -> None:
        self.size_bytes = size_bytes
        try:
            self.descriptor = os.memfd_create(_NAME, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        except OSError as error:
            raise _refusal("memfd_create", size_bytes, error) from error
        try:
            os.ftruncate(self.descriptor, size_bytes)
            self.pages = mmap.mmap(self.descriptor, size_bytes)
            # after our own mapping: F_SEAL_FUTURE_WRITE refuses those that come later
            fcntl.fcntl(self.descriptor, fcntl.F_ADD_SEALS, SEALS)
        except OSError as error:
            os.close(self.descriptor)
            raise _refusal("mapping or sealing a memfd", size_bytes, error) from error
        except BaseException:
            os.close(self.descriptor)
            raise

    def close(self) -> None:
        """Close the descriptor and let go of the pages, which live until the last array on them, here and elsewhere, is gone."""
        os.close(self.descriptor)
        del self.pages  # who still holds this object must not hold a gigabyte that the budget counts as free


def _refusal(what: str, size_bytes: int, error: OSError) -> Exception:
    if error.errno == errno.ENOMEM:
        return MemoryError(f"no shared memory of {size_bytes} bytes: {error.strerror}")
    used_up = error.errno in (errno.EMFILE, errno.ENFILE)
    step = "raise the limit of the server's descriptors (ulimit -n)" if used_up else "allow that call in the server's sandbox"
    return BudgetError(
        f"the server's system gives no memory that can be shared ({what}: {error.strerror}); {step}, or use transport='grpc', "
        "which takes none"
    )
