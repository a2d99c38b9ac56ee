"""What the candidates came to on each rung, in one file that is replaced whole after each of them.

OUT/calibration.json        {"calibration": {...}, "trials": [{"rung": 0, "fp": 0.5, "fn": 1.5, "score": 0.61, ...}, ...]}
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from augclient.errors import StateError

from augtrain.calibrate.candidates import Weights
from augtrain.fit.held_folder import keep_others_out, refuse_another
from augtrain.whole_file import write_text_to_disk

FILE = "calibration.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One candidate on one rung.

    Attributes:
        rung: from 0.
        fp, fn: its weights.
        steps: batches it has been trained on, in all.
        score: what is chosen by; None: neither truth nor prediction has such an organ, which is worse than any number.
        mean_dice, dice: of the best network of the run up to here, on the validation volumes; dice by organ.
        undefined: why there are no scores at all, in words: its training diverged. None: there are.
    """

    rung: int
    fp: float
    fn: float
    steps: int
    score: float | None
    mean_dice: float | None
    dice: dict[str, float | None]
    undefined: str | None = None

    @property
    def weights(self) -> Weights:
        return Weights(fp=self.fp, fn=self.fn)


def value(trial: Trial) -> float:
    """What trials are ranked by: the score; one without an organ comes behind all numbers, one that diverged behind that."""
    if trial.undefined is not None:
        return -2.0
    return -1.0 if trial.score is None else trial.score


class TrialFile:
    """The trials that are done; see hold_trials."""

    def __init__(self, path: Path, identity: Mapping[str, Any], trials: list[Trial]) -> None:
        self._path = path
        self._identity = identity
        self.trials = trials

    def find(self, rung: int, weights: Weights) -> Trial | None:
        """A trial that is done."""
        return next((each for each in self.trials if each.rung == rung and each.weights == weights), None)

    def add(self, trial: Trial) -> None:
        """Take one; on the disk when this returns."""
        self.trials.append(trial)
        document = {"calibration": self._identity, "trials": [dataclasses.asdict(each) for each in self.trials]}
        write_text_to_disk(self._path, json.dumps(document, indent=1, allow_nan=False))


@contextmanager
def hold_trials(folder: Path, identity: Mapping[str, Any]) -> Iterator[TrialFile]:
    """The trials of a folder; no other process has them until the end of the block.

    Raises:
        StateError: the folder cannot be written to, or is in use; or its trials are damaged, or of another calibration.
    """
    with keep_others_out(folder, "calibrate"):
        path = folder / FILE
        yield TrialFile(path, identity, _read(path, identity) if path.exists() else [])


def _read(path: Path, identity: Mapping[str, Any]) -> list[Trial]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        theirs, trials = document["calibration"], [Trial(**each) for each in document["trials"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StateError(f"{path} is damaged or no file of trials ({error}); choose another folder by --out") from error
    refuse_another(theirs, identity, f"{path} is of another calibration")
    return trials
