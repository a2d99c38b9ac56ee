"""Trials as a table on the terminal and as CSV."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.table import Table
from rich.text import Text

from augtrain.calibrate.candidates import MEAN, Weights
from augtrain.calibrate.trials import Trial
from augtrain.whole_file import write_csv


def make_table(trials: Sequence[Trial], best: Weights | None, score: str) -> Table:
    """For a terminal: a row per candidate, the furthest and best first; a column per rung."""
    rungs = sorted({each.rung: each.steps for each in trials}.items())
    table = Table(
        title=f"{'Mean organ Dice' if score == MEAN else f'Dice, {score}'} on volumes that were not trained on", title_justify="left"
    )
    for heading in ("FP weight", "FN weight", *(f"step {steps}" for _, steps in rungs)):
        table.add_column(Text(heading), justify="right")
    for weights in dict.fromkeys(each.weights for each in reversed(order(trials))):
        scores = {each.rung: each.score for each in trials if each.weights == weights}
        cells = ["" if rung not in scores else _number(scores[rung]) for rung, _ in rungs]
        table.add_row(f"{weights.fp:g}", f"{weights.fn:g}", *cells, style="bold" if weights == best else "")
    return table


def order(trials: Sequence[Trial]) -> list[Trial]:
    """By rung, and from worst to best within one."""
    return sorted(trials, key=lambda each: (each.rung, -1.0 if each.score is None else each.score))


def write_trials(path: Path, trials: Sequence[Trial]) -> None:
    """A line per trial; replaced at once."""
    organs = list(trials[0].dice) if trials else []
    rows = [[each.rung, each.fp, each.fn, each.steps, each.score, each.mean_dice, *map(each.dice.get, organs)] for each in trials]
    write_csv(path, ["rung", "fp_weight", "fn_weight", "steps", "score", "mean_dice", *organs], rows)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
