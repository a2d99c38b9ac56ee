"""A folder that one process at a time works in, and that is recognised as that of the same work."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from augclient.errors import StateError

LOCK = ".lock"


@contextmanager
def keep_others_out(folder: Path, command: str) -> Iterator[None]:
    """Make the folder and keep others out of it until the end of the block; the lock ends with the process, however it ends.

    Args:
        command: of augtrain, for the message to those who are kept out.
    Raises:
        StateError: it cannot be made or written to, or is in use.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise not_writable(folder, error) from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        raise StateError(f"{folder} is in use by another augtrain {command}; wait for it, or choose another folder by --out") from None
    try:
        yield
    finally:
        os.close(handle)


def not_writable(path: Path, error: OSError) -> StateError:
    """The error of a folder, or of a file in it, that cannot be written."""
    return StateError(f"{path} cannot be written to ({error.strerror}); choose another folder by --out")


def refuse_another(theirs: object, ours: Mapping[str, Any], found: str) -> None:
    """Make sure that what a folder holds is of the same work.

    Args:
        theirs: as read from JSON. ours: JSON-able; what it does not name may differ.
        found: for the message, such as "OUT/results.jsonl is of another comparison".
    Raises:
        StateError: they differ; it says in what.
    """
    before = theirs if isinstance(theirs, dict) else {}
    now = json.loads(json.dumps(ours))
    differing = [key for key in now if before.get(key) != now[key]]
    if differing:
        key, *more = differing
        also = f" ({','.join(more)} differ too)" if more else ""
        raise StateError(
            f"{found}: {key} was {_short(before.get(key))}, and is {_short(now[key])} now"
            f"{also}; take what it was, or another folder by --out"
        )


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 120 else f"{text[:117]}..."
