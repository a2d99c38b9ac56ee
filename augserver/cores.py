"""How many cores this process may use."""

from __future__ import annotations

import os


def count_cores() -> int:
    """Those of its affinity, as cpusets and taskset set it; all that the machine has where the system does not tell."""
    try:
        return len(os.sched_getaffinity(0))
    except OSError:  # a sandbox refuses the call
        return os.cpu_count() or 1
