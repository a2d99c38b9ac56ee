"""All that a run has reached, in one file: written whole or not at all, and refused where it does not fit.

    RUN/checkpoints/step_000000600.npz      arrays by name, and `document`, JSON as bytes

An .npz is a zip of .npy files with a CRC each, so damage is noticed. A new file is flushed to the disk under another name before it takes
its own; a kill at any moment leaves the checkpoints of before.
"""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from augclient.errors import StateError
from numpy.typing import NDArray

from augtrain.whole_file import place

VERSION = 1

_NAME = re.compile(r"step_(\d{9,})\.npz")
_SCRATCH = ".writing.npz"
_DOCUMENT = "document"


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint:
    """What was written.

    Attributes:
        step: batches trained on.
        arrays: by name.
        document: JSON-able.
    """

    step: int
    arrays: Mapping[str, NDArray[Any]]
    document: Mapping[str, Any]


def write_checkpoint(folder: Path, checkpoint: Checkpoint, *, keep: int) -> Path:
    """Write a checkpoint, then remove all but the last `keep`. On the disk when this returns.

    Raises:
        StateError: the folder cannot be written to.
    """
    target = folder / f"step_{checkpoint.step:09d}.npz"
    document = json.dumps({"version": VERSION, "step": checkpoint.step, **checkpoint.document}, allow_nan=False)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / _SCRATCH).open("wb") as file:
            arrays: dict[str, Any] = {_DOCUMENT: np.frombuffer(document.encode(), np.uint8), **checkpoint.arrays}
            np.savez(file, **arrays)
        place(folder / _SCRATCH, target)
        for old in _checkpoints(folder)[:-keep]:
            if old != target:
                old.unlink()
    except OSError as error:
        raise StateError(
            f"checkpoint {target} cannot be written ({error.strerror}); free space, then run the same command again"
        ) from error
    return target


def read_last(folder: Path) -> Checkpoint | None:
    """The last checkpoint; None where there is none.

    Raises:
        StateError: it is damaged, or of another version.
    """
    files = _checkpoints(folder)
    if not files:
        return None
    last = files[-1]
    way_out = f"delete it to go on from {files[-2].name}" if len(files) > 1 else "delete it to begin anew"
    try:
        with last.open("rb") as file, np.load(file, allow_pickle=False) as content:
            arrays = {name: content[name] for name in content.files}
        document = json.loads(arrays.pop(_DOCUMENT).tobytes())
        version, step = document["version"], document["step"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise StateError(f"checkpoint {last} is damaged ({error}); {way_out}") from error
    if version != VERSION:
        raise StateError(
            f"checkpoint {last} is of version {version!r}, this program reads {VERSION}: use the one that wrote it, or {way_out}"
        )
    return Checkpoint(step, arrays, document)


def _checkpoints(folder: Path) -> list[Path]:
    """Oldest first."""
    if not folder.is_dir():
        return []
    found = [(int(match[1]), path) for path in folder.iterdir() if (match := _NAME.fullmatch(path.name))]
    return [path for _, path in sorted(found)]
