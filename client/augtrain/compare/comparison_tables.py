"""A comparison for people and programs: on the terminal, as Markdown, CSV and JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from augtrain.compare.comparison import Comparison
from augtrain.whole_file import write_csv, write_text

_NUMBERS = ("mean", "sd", "n")


def make_table(comparison: Comparison) -> Table:
    """For a terminal: a row per loss and augmentation, Dice as mean ± standard deviation over the seeds."""
    table = Table(title="Dice on volumes that were not trained on, mean ± sd over the seeds", title_justify="left")
    heading, rows = _cells(comparison)
    for number, name in enumerate(heading):
        table.add_column(Text(name), justify="left" if number < 2 else "right", overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    return table


def make_markdown(comparison: Comparison) -> str:
    """The same as a Markdown table; losses as they are written on the command line."""
    heading, rows = _cells(comparison)
    lines = ["| " + " | ".join(heading) + " |", "|" + "|".join([" --- ", " --- ", *([" ---: "] * (len(heading) - 2))]) + "|"]
    lines += ["| " + " | ".join([f"`{row[0]}`", *row[1:]]) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def write_tables(folder: Path, comparison: Comparison) -> None:
    """table.md, table.csv (a line per row), cells.csv (a line per run) and comparison.json; each replaced at once."""
    rows = comparison.rows
    organs = list(rows[0].dice) if rows else []
    scores = ["mean_dice", *organs]
    heading = ["loss", "augmented", *(f"{score}_{number}" for score in scores for number in _NUMBERS), "seconds_mean", "diverged"]
    lines: list[list[Any]] = []
    for row in rows:
        spreads = [row.mean_dice, *(row.dice[name] for name in organs)]
        numbers = [getattr(each, number) for each in spreads for number in _NUMBERS]
        lines.append([row.loss, row.augmented, *numbers, row.seconds.mean, len(row.diverged)])
    before, after = ("loss", "augmented", "seed", "steps", "mean_dice"), ("training_loss", "seconds", "undefined")
    cells = [
        [*(getattr(each, name) for name in before), *map(each.dice.get, organs), *(getattr(each, name) for name in after)]
        for each in comparison.results
    ]
    write_text(folder / "table.md", make_markdown(comparison))
    write_csv(folder / "table.csv", heading, lines)
    write_csv(folder / "cells.csv", [*before, *organs, *after], cells)
    write_text(folder / "comparison.json", json.dumps(comparison.to_dict(), indent=1, allow_nan=False))


def _cells(comparison: Comparison) -> tuple[list[str], list[list[str]]]:
    """Heading and rows, as text."""
    rows = comparison.rows
    organs = list(rows[0].dice) if rows else []
    body = [
        [
            row.loss,
            "with" if row.augmented else "without",
            f"{len(row.seeds)}, {len(row.diverged)} diverged" if row.diverged else str(len(row.seeds)),
            *("diverged" if row.diverged == row.seeds else str(each) for each in (row.mean_dice, *(row.dice[name] for name in organs))),
        ]
        for row in rows
    ]
    return ["loss", "augmentation", "n", "mean organ Dice", *organs], body
