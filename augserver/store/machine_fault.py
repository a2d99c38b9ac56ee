"""Tell damage, a fact of the files that every reader finds, from trouble of this machine or its network, which may pass.

The difference matters: a damaged volume is replaced in everyone's samples, so what another server would not find must not count as one.

    damage     everything a codec or parser objects to; a file that is missing, a folder, or has no byte where its index points
    machine    an OSError of any other number (EIO, EMFILE, ENFILE, ENOMEM, EACCES, ESTALE, ETIMEDOUT ...), no memory, no thread
"""

from __future__ import annotations

import errno

# What the content of a dataset's folder can cause by itself; EINVAL: an offset out of a broken index.
_CONTENT_ERRNOS = frozenset({errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EINVAL})


def is_machine_fault(error: BaseException) -> bool:
    """Whether an exception of reading says nothing about the content. An OSError without number is a codec's own: damage."""
    if isinstance(error, OSError):
        return error.errno is not None and error.errno not in _CONTENT_ERRNOS
    # CPython has no class of its own for a thread that cannot be started, and zarr reads on threads.
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and "can't start new thread" in str(error))
