"""The folder of a run: made, held by one process at a time, and recognised as the same run's.

RUN/
    run.json            what the run is: dataset, recipe, network, ...; a checkpoint is of exactly this
    checkpoints/        see augtrain.fit.checkpoint
    model/              the network of the best validation, or the last one; see augtrain.artifact
    history.csv  validation.csv  result.json  curves.png  prediction.png
    tensorboard/
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from augclient.errors import StateError

from augtrain.whole_file import write_text

_IDENTITY = "run.json"
_LOCK = ".lock"


@contextmanager
def hold_folder(out: Path) -> Iterator[Path]:
    """Make the folder and keep other runs out of it until the end of the block; the lock ends with the process, however it ends.

    Raises:
        StateError: it cannot be made or written to, is in use, or holds something else.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        strangers = sorted(each.name for each in out.iterdir() if each.name != _LOCK)
        handle = os.open(out / _LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise StateError(f"run folder {out} cannot be written to ({error.strerror}); choose another by --out") from error
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise StateError(f"run folder {out} is in use by another augtrain fit; wait for it, or choose another by --out") from None
        if strangers and _IDENTITY not in strangers:
            raise StateError(f"{out} is no run folder, it holds {', '.join(strangers[:3])}; choose an empty one by --out")
        yield out
    finally:
        os.close(handle)


def check_identity(out: Path, identity: Mapping[str, Any]) -> None:
    """Make sure that the folder is new, or that of the same run.

    Args:
        identity: JSON-able.
    Raises:
        StateError: it is another run's, naming what differs; or cannot be read.
    """
    path = out / _IDENTITY
    try:
        theirs = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return
    except (OSError, ValueError) as error:
        raise StateError(f"{path} cannot be read ({error}); choose another folder by --out") from error
    ours = json.loads(json.dumps(identity))
    differing = [key for key in ours if not isinstance(theirs, dict) or theirs.get(key) != ours[key]]
    if differing:
        key, *more = differing
        got = theirs.get(key) if isinstance(theirs, dict) else None
        raise StateError(
            f"{out} is the folder of another run: {key} was {_short(got)}, and is {_short(ours[key])} now"
            f"{f' ({chr(44).join(more)} differ too)' if more else ''}; take the run's own config, or another folder by --out"
        )


def write_identity(out: Path, identity: Mapping[str, Any]) -> None:
    """Write down what the run is, where it is not yet; StateError where the folder cannot be written to."""
    if (out / _IDENTITY).exists():
        return
    try:
        write_text(out / _IDENTITY, json.dumps(identity, indent=1))
    except OSError as error:
        raise StateError(f"run folder {out} cannot be written to ({error.strerror}); choose another by --out") from error


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 120 else f"{text[:117]}..."
