"""The folder of a run: held by one process at a time, and recognised as the same run's.

RUN/
    run.json            what the run is: dataset, recipe, network, ...; a checkpoint is of exactly this
    checkpoints/        see augtrain.fit.checkpoint
    model/              the network of the best validation, or the last one; see augtrain.artifact
    history.csv  validation.csv  result.json  curves.png  prediction.png
    tensorboard/
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from augclient.errors import StateError

from augtrain.fit.held_folder import LOCK, keep_others_out, not_writable, refuse_another
from augtrain.whole_file import write_text

_IDENTITY = "run.json"


@contextmanager
def hold_folder(out: Path) -> Iterator[Path]:
    """Make the folder and keep other runs out of it until the end of the block.

    Raises:
        StateError: as of keep_others_out(); or it holds something else.
    """
    with keep_others_out(out, "fit"):
        strangers = sorted(each.name for each in out.iterdir() if each.name != LOCK)
        if strangers and _IDENTITY not in strangers:
            raise StateError(f"{out} is no run folder, it holds {', '.join(strangers[:3])}; choose an empty one by --out")
        yield out


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
    refuse_another(theirs, identity, f"{out} is the folder of another run")


def write_identity(out: Path, identity: Mapping[str, Any]) -> None:
    """Write down what the run is, where it is not yet; StateError where the folder cannot be written to."""
    if (out / _IDENTITY).exists():
        return
    try:
        write_text(out / _IDENTITY, json.dumps(identity, indent=1))
    except OSError as error:
        raise not_writable(out, error) from error
