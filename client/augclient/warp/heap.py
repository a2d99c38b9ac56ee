"""Let malloc settle before the first message.

Every part of a stream is received into a block of a MiB or more that lives for a moment. glibc maps and unmaps such blocks, which costs
more in page faults than the copy into them, until the process has freed one large block: then it adapts its thresholds by itself and
keeps blocks of up to that size on its heap. Any program that frees a large array gets there; a trainer may not have yet. No setting is
changed here (mallopt would switch the adaptation off for the whole process).
"""

from __future__ import annotations

import numpy as np

# The largest block that glibc adapts to is DEFAULT_MMAP_THRESHOLD_MAX, 32 MiB, with malloc's own header and rounding inside.
_BLOCK_BYTES = (32 << 20) - (8 << 10)


def settle_heap() -> None:
    """Allocate and free one large block, untouched: two system calls, no memory. Client CPU 0.74 -> 0.55 s/GB (bench_wire.py)."""
    np.empty(_BLOCK_BYTES, np.uint8)
