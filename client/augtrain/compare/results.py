"""What the cells came to, a line each: kept through any kill, and refused where it is of another comparison.

    OUT/results.jsonl       {"comparison": {...}}       what all cells have in common
                            {"loss": "iou", "augmented": true, "seed": 0, "mean_dice": 0.81, ...}
                            {"loss": "dice", ..., "undefined": "the loss of step 7 is nan: the training diverged; ..."}

A line is on the disk before its cell counts as done. A kill can leave half a line, at the end alone: the next session cuts it off.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from augclient.errors import StateError

from augtrain.compare.cells import Cell
from augtrain.fit.held_folder import keep_others_out, not_writable, refuse_another

FILE = "results.jsonl"


@dataclass(frozen=True, slots=True, kw_only=True)
class CellResult:
    """One line.

    Attributes:
        loss, augmented, seed: the cell's.
        seconds: of this cell's last session.
        steps: batches trained on; best_step: those that the scored network has seen.
        mean_dice: mean over the organs of `dice`, on the validation volumes; None: neither truth nor prediction has any.
        dice: organ -> mean over the volumes; None: none has it.
        training_loss: mean of the last steps.
        undefined: why the training diverged, in its own words: there is no scored network, and so none of the five before. Else None.
    """

    loss: str
    augmented: bool
    seed: int
    seconds: float
    steps: int | None = None
    best_step: int | None = None
    mean_dice: float | None = None
    dice: dict[str, float | None] = field(default_factory=dict)
    training_loss: float | None = None
    undefined: str | None = None

    @property
    def cell(self) -> Cell:
        return Cell(loss=self.loss, augmented=self.augmented, seed=self.seed)


class ResultFile:
    """The open file; see open_results."""

    def __init__(self, file: IO[str], results: dict[Cell, CellResult]) -> None:
        self._file = file
        self.results = results

    def add(self, result: CellResult) -> None:
        """Take a cell's result; on the disk when this returns."""
        self._write(dataclasses.asdict(result))
        self.results[result.cell] = result

    def _write(self, line: Mapping[str, Any]) -> None:
        self._file.write(json.dumps(line, allow_nan=False) + "\n")
        self._file.flush()
        os.fsync(self._file.fileno())


@contextmanager
def open_results(folder: Path, identity: Mapping[str, Any]) -> Iterator[ResultFile]:
    """Open a folder's results, or begin them; no other process can until the end of the block.

    Raises:
        StateError: the folder cannot be written to, or is in use; or the results are damaged, or of another comparison.
    """
    path = folder / FILE
    with keep_others_out(folder, "compare"), _open(path) as file:
        whole = _read_whole_lines(file)
        opened = ResultFile(file, {})
        if whole:
            opened.results.update(_read_results(path, whole, identity))
        else:
            opened._write({"comparison": identity})
        yield opened


def _open(path: Path) -> IO[str]:
    try:
        return path.open("a+", encoding="utf-8")
    except OSError as error:
        raise not_writable(path, error) from error


def _read_whole_lines(file: IO[str]) -> list[str]:
    """The lines, without a last one that a kill has cut; it is cut from the file, too."""
    file.seek(0)
    text = file.read()
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        file.truncate(len(whole.encode()))
    return whole.splitlines()


def _read_results(path: Path, lines: list[str], identity: Mapping[str, Any]) -> dict[Cell, CellResult]:
    try:
        theirs = json.loads(lines[0])["comparison"]
        results = [CellResult(**json.loads(line)) for line in lines[1:]]
    except (ValueError, KeyError, TypeError) as error:
        raise StateError(f"{path} is damaged or no file of results ({error}); choose another folder by --out") from error
    refuse_another(theirs, identity, f"{path} is of another comparison")
    return {each.cell: each for each in results}
