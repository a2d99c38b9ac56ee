"""Tell glibc to keep large freed blocks instead of giving them back to the system.

Every message of a stream is a block of about 2 MB that lives for a moment. By default malloc maps and unmaps each of them, and
the page faults cost more than the copy into it. For a whole process, so only an entry point calls this.
"""

from __future__ import annotations

import ctypes
import sys

# <malloc.h>; not in any Python module
_M_TRIM_THRESHOLD = -1
_M_TOP_PAD = -2
_M_MMAP_THRESHOLD = -3

_MMAP_THRESHOLD = 32 << 20  # the largest that mallopt takes (HEAP_MAX_SIZE / 2); arrays above it are mapped as before
_TRIM_THRESHOLD = 256 << 20  # free memory at the top of the heap beyond this goes back to the system
_TOP_PAD = 16 << 20  # the heap grows by a few messages at a time


def keep_heap() -> bool:
    """Set the thresholds of this process's malloc; False where there is no glibc, and nothing changes."""
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:  # musl
        return False
    mallopt.argtypes = (ctypes.c_int, ctypes.c_int)
    mallopt.restype = ctypes.c_int
    settings = ((_M_MMAP_THRESHOLD, _MMAP_THRESHOLD), (_M_TRIM_THRESHOLD, _TRIM_THRESHOLD), (_M_TOP_PAD, _TOP_PAD))
    return all(mallopt(name, value) == 1 for name, value in settings)
