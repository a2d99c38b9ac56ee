"""Who is told how far a calibration is: one bar over the steps that all rungs take, with the time that is left."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from augtrain.calibrate.candidates import CalibrateConfig, Weights
from augtrain.calibrate.trials import Trial
from augtrain.fit.progress import RunProgress

_SPEED_OVER_S = 3600.0  # trials take unequal times; a long memory keeps the time left from jumping


class CalibrateProgress(RunProgress):
    """Nobody; the base of those who show it. A trial's run tells it of its steps."""

    @contextmanager
    def trial(self, weights: Weights, rung: int, number: int, counts: Sequence[int], config: CalibrateConfig) -> Iterator[None]:
        """While the number-th candidate (from 0) of a rung is trained; `counts` of them are on each rung."""
        yield

    def finished(self, trial: Trial) -> None:
        """A trial has a score."""


class RichCalibrateProgress(CalibrateProgress):
    """A bar on a terminal, and a line for each trial that is done, which is all that a log file gets."""

    def __init__(self, console: Console) -> None:
        self._console = console
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
        )
        self._progress = Progress(*columns, console=console, disable=not console.is_terminal, speed_estimate_period=_SPEED_OVER_S)
        self._task = self._progress.add_task("calibrate", total=None, note="", start=False)
        self._before = 0  # steps of the trials that are done, less those that this one begins with

    @contextmanager
    def trial(self, weights: Weights, rung: int, number: int, counts: Sequence[int], config: CalibrateConfig) -> Iterator[None]:
        ends = [config.steps_of(each) for each in range(len(counts))]
        added = [end - begin for begin, end in zip([0, *ends], ends, strict=False)]
        begin = ends[rung] - added[rung]
        total = sum(count * steps for count, steps in zip(counts, added, strict=True))
        done = sum(count * steps for count, steps in zip(counts[:rung], added, strict=False)) + number * added[rung]
        self._before = done - begin
        self._progress.start()  # no-op once it has
        self._progress.start_task(self._task)
        description = f"rung {rung + 1}/{len(counts)}, candidate {number + 1}/{counts[rung]}"
        self._progress.update(self._task, total=total, completed=done, description=description, note=f"FP / FN {weights}")
        try:
            yield
        except BaseException:
            self._progress.stop()
            raise

    def step(self, step: int, loss: float, wait_share: float | None) -> None:
        self._progress.update(self._task, completed=self._before + step)

    def finished(self, trial: Trial) -> None:
        score = "no such organ" if trial.score is None else f"{trial.score:.3f}"
        self._console.print(f"step {trial.steps}, FP / FN {trial.weights}: {score}", highlight=False, soft_wrap=True, markup=False)

    def close(self) -> None:
        """Leave the terminal to what comes next."""
        self._progress.stop()
