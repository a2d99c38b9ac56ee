"""Files that are there whole or not at all, after a kill at any moment: written beside their place, and renamed to it."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any


def place(fresh: Path, target: Path) -> None:
    """Rename a file of the same file system to its place; its bytes and then its name are on the disk when this returns."""
    _flush(fresh)
    fresh.replace(target)
    _flush(target.parent)


def write_text(path: Path, text: str) -> None:
    """Write a file in UTF-8, or replace the one of before. What a power failure may take with it: nothing is flushed."""
    _write_beside(path, text).replace(path)


def write_text_to_disk(path: Path, text: str) -> None:
    """As write_text(); on the disk when this returns."""
    place(_write_beside(path, text), path)


def write_csv(path: Path, heading: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """A table as CSV, by write_text(); None is an empty cell."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(heading)
    writer.writerows(rows)
    write_text(path, text.getvalue())


def _write_beside(path: Path, text: str) -> Path:
    fresh = path.with_name(f".{path.name}")
    fresh.write_text(text, encoding="utf-8")
    return fresh


def _flush(path: Path) -> None:
    """fsync a file or a folder."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
