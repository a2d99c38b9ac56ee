"""A calibration in one picture: the candidates' scores rung by rung, and where in the plane of the weights the good ones lie."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from augtrain.calibrate.candidates import MEAN
from augtrain.calibrate.trials import Trial


def draw_calibration(path: Path, trials: Sequence[Trial], score: str) -> None:
    """Draw it. A trial without a score is not in the picture."""
    scored = [each for each in trials if each.score is not None]
    what = "mean organ Dice" if score == MEAN else f"Dice, {score}"
    figure = Figure(figsize=(11, 4.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    colours = matplotlib.colormaps["viridis"]
    runs: dict[Any, list[Trial]] = {}
    for each in sorted(scored, key=lambda each: each.rung):
        runs.setdefault(each.weights, []).append(each)
    for number, (weights, run) in enumerate(sorted(runs.items())):
        colour = colours(number / max(1, len(runs) - 1))
        left.plot([each.steps for each in run], [each.score for each in run], "o-", color=colour, label=str(weights))
    left.set(xlabel="steps", ylabel=what, title="rung by rung (FP / FN weight)")
    left.set_xscale("log", base=2)
    steps = sorted({each.steps for each in scored})
    left.set_xticks(steps, [str(step) for step in steps])
    left.minorticks_off()
    left.grid(alpha=0.3)
    if runs:
        left.legend(fontsize=8)
        last = [run[-1] for run in runs.values()]
        points = right.scatter(
            [each.fp for each in last],
            [each.fn for each in last],
            c=np.array([each.score for each in last], np.float64),
            s=[220 * (1 + each.rung) for each in last],
            cmap="viridis",
            edgecolors="black",
        )
        for each in last:
            right.annotate(f"{each.score:.3f}", (each.fp, each.fn), ha="center", va="bottom", xytext=(0, 14), textcoords="offset points")
        figure.colorbar(points, ax=right, label=f"{what}, last rung of each")
    right.set(xlabel="FP weight", ylabel="FN weight", title="where good weights lie (larger: trained further)")
    right.margins(0.25)
    right.grid(alpha=0.3)
    figure.savefig(path, dpi=110)
