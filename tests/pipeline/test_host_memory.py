"""Memory that may be taken: the machine's, or what a container's limit leaves."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from augserver.pipeline.host_memory import read_available_bytes

MEMINFO = "MemTotal:       16000000 kB\nMemFree:         1000000 kB\nMemAvailable:    8000000 kB\n"


@pytest.mark.parametrize(
    ("limit", "used", "available"),
    [
        ("max", "123", 8000000 * 1024),  # no limit
        (None, None, 8000000 * 1024),  # no such files
        ("1000000", "400000", 600000),
        ("1000000", "2000000", 0),  # over its limit already
        ("99999999999999", "0", 8000000 * 1024),  # a limit above what the machine has
    ],
)
def test_the_smaller_of_machine_and_container_counts(tmp_path: Path, limit: str | None, used: str | None, available: int) -> None:
    (tmp_path / "meminfo").write_text(MEMINFO)
    if limit is not None and used is not None:
        (tmp_path / "memory.max").write_text(limit + "\n")
        (tmp_path / "memory.current").write_text(used + "\n")
    assert read_available_bytes(tmp_path / "meminfo", tmp_path) == available


def test_without_a_word_from_the_system_the_whole_memory_counts(tmp_path: Path) -> None:
    assert read_available_bytes(tmp_path / "nothing", tmp_path) == psutil.virtual_memory().total
