"""How much memory this process may still take: what the machine has free, or what is left of a container's limit."""

from __future__ import annotations

import os
from pathlib import Path

_MEMINFO = Path("/proc/meminfo")
_CGROUP_V2 = Path("/sys/fs/cgroup")


def read_available_bytes(meminfo: Path = _MEMINFO, cgroup: Path = _CGROUP_V2) -> int:
    """Bytes that can be taken without swapping; all physical memory where the system does not say."""
    available = _read_meminfo(meminfo)
    limit, used = _read_number(cgroup / "memory.max"), _read_number(cgroup / "memory.current")
    # Without a limit memory.max is "max", and the root group has no such file.
    return available if limit is None or used is None else min(available, max(limit - used, 0))


def _read_meminfo(path: Path) -> int:
    try:
        for line in path.read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass  # not Linux, or a sandbox without /proc: sysconf knows the size at least
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _read_number(path: Path) -> int | None:
    try:
        return int(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None
