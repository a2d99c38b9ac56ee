"""What was measured of a run, step by step and validation by validation; as arrays for a checkpoint and as CSV for a reader."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from augtrain.whole_file import write_csv

_COLUMNS = ("loss", "learning_rate", "step_s", "wait_s", "first")


@dataclass(frozen=True, slots=True, kw_only=True)
class Validation:
    """Scores of the validation volumes, at the network's spacing.

    Attributes:
        step: batches trained on by then.
        loss: mean over the volumes, each as a whole.
        mean_dice: mean of `dice` over the organs that any volume or prediction has; None: there is none.
        dice: class name -> mean over the volumes whose truth or prediction has the class; None: none has.
        volumes: id -> class name -> Dice, None where neither truth nor prediction has it.
    """

    step: int
    loss: float
    mean_dice: float | None
    dice: dict[str, float | None]
    volumes: dict[str, dict[str, float | None]]


class History:
    """One row per step, the n-th of batch n, and the validations."""

    def __init__(self) -> None:
        self._rows: list[tuple[float, ...]] = []
        self.validations: list[Validation] = []

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, *, loss: float, learning_rate: float, step_s: float, wait_s: float, first: bool) -> None:
        """Take the measurements of the next step; `step_s` is all of it, `wait_s` what of it was spent waiting for the batch."""
        self._rows.append((loss, learning_rate, step_s, wait_s, float(first)))

    def column(self, name: str) -> NDArray[np.float64]:
        """One value per step: "loss", "learning_rate", "step_s", "wait_s", or "first" (1.0 for the first batch of a stream)."""
        return np.array([row[_COLUMNS.index(name)] for row in self._rows], np.float64)

    def mean_loss(self, window: int) -> float:
        """Of the last `window` steps."""
        return float(np.mean([row[0] for row in self._rows[-window:]]))

    def wait_share(self, last: int | None = None) -> float | None:
        """Share of the step time that was spent waiting for data, over the last steps or all; None before there is any.

        The first batch of a stream is left out: nothing can be fetched before it is asked for, and its step compiles the network.
        """
        rows = [row for row in self._rows[-last if last else None :] if not row[4]]
        seconds = sum(row[2] for row in rows)
        return sum(row[3] for row in rows) / seconds if seconds else None

    def best(self) -> Validation | None:
        """The validation of the highest mean Dice, the first of several; None without any."""
        return max(self.validations, key=lambda each: each.mean_dice or 0.0, default=None)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The rows, for a checkpoint."""
        return {"history": np.array(self._rows, np.float64).reshape(-1, len(_COLUMNS))}

    def document(self) -> list[dict[str, Any]]:
        """The validations, JSON-able."""
        return [asdict(each) for each in self.validations]

    def restore(self, arrays: Mapping[str, NDArray[Any]], document: Sequence[Mapping[str, Any]]) -> None:
        """Take over what `arrays` and `document` gave."""
        self._rows = [tuple(row) for row in arrays["history"].tolist()]
        self.validations = [Validation(**each) for each in document]

    def write_csv(self, folder: Path) -> None:
        """history.csv, a line per step, and validation.csv, a line per validation; both replaced at once."""
        write_csv(folder / "history.csv", ["step", *_COLUMNS[:-1]], [[step, *row[:-1]] for step, row in enumerate(self._rows)])
        names = list(self.validations[0].dice) if self.validations else []
        rows = [[each.step, each.loss, each.mean_dice, *(each.dice[name] for name in names)] for each in self.validations]
        write_csv(folder / "validation.csv", ["step", "loss", "mean_dice", *names], rows)
