"""Trials as a table on the terminal and as CSV."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.table import Table
from rich.text import Text

from augtrain.calibrate.candidates import MEAN, Weights
from augtrain.calibrate.trials import Trial, value
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
        found = {each.rung: each for each in trials if each.weights == weights}
        cells = ["" if rung not in found else _words(found[rung]) for rung, _ in rungs]
        table.add_row(f"{weights.fp:g}", f"{weights.fn:g}", *cells, style="bold" if weights == best else "")
    return table


def order(trials: Sequence[Trial]) -> list[Trial]:
    """By rung, and from worst to best within one."""
    return sorted(trials, key=lambda each: (each.rung, value(each)))


def write_trials(path: Path, trials: Sequence[Trial]) -> None:
    """A line per trial; replaced at once."""
    organs = next((list(each.dice) for each in trials if each.dice), [])
    rows = [
        [each.rung, each.fp, each.fn, each.steps, each.score, each.mean_dice, *(each.dice.get(organ) for organ in organs), each.undefined]
        for each in trials
    ]
    write_csv(path, ["rung", "fp_weight", "fn_weight", "steps", "score", "mean_dice", *organs, "undefined"], rows)


def _words(trial: Trial) -> str:
    if trial.undefined is not None:
        return "diverged"
    return "-" if trial.score is None else f"{trial.score:.3f}"
