"""Who is told how far a run is."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from augtrain.fit.history import Validation
from augtrain.fit.log_lines import LogLines


class RunProgress:
    """Nobody; the base of those who show it."""

    @contextmanager
    def shown(self, step: int, steps: int) -> Iterator[None]:
        """While training goes on, from `step` on."""
        yield

    def step(self, step: int, loss: float, wait_share: float | None) -> None:
        """`step` batches are trained on; the last one had this loss."""

    def validating(self, share: float) -> None:
        """A validation is done to this share."""

    def validated(self, found: Validation) -> None:
        """A validation is done."""

    def note(self, text: str) -> None:
        """Something that happens once."""


class RichProgress(RunProgress):
    """A bar on a terminal, and lines of LogLines elsewhere; notes and validations are lines of their own on both."""

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console
        self._lines = LogLines(console, clock)
        self._clock = clock
        self._begin: tuple[float, int] | None = (
            None  # when the first step of this process was done, which compiles the network, and its number
        )
        self._steps = 0
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
        )
        self._progress = Progress(*columns, console=console, disable=not console.is_terminal)
        self._task: TaskID | None = None

    @contextmanager
    def shown(self, step: int, steps: int) -> Iterator[None]:
        self._begin, self._steps = None, steps
        with self._progress:
            self._task = self._progress.add_task("train", total=steps, completed=step, note="")
            yield

    def step(self, step: int, loss: float, wait_share: float | None) -> None:
        if self._task is not None:
            waiting = "" if wait_share is None else f"  waiting {100 * wait_share:.1f} %"
            self._progress.update(self._task, completed=step, description="train", note=f"loss {loss:.4f}{waiting}")
            self._lines.print(f"step {step} of {self._steps}: loss {loss:.4f}{waiting}{self._time_left(step)}", at_once=step == self._steps)

    def validating(self, share: float) -> None:
        if self._task is not None:
            self._progress.update(self._task, description="validate", note=f"{100 * share:.0f} %")
            self._lines.print(f"validating, {100 * share:.0f} %")

    def validated(self, found: Validation) -> None:
        dice = "  ".join(f"{name} {'-' if value is None else f'{value:.3f}'}" for name, value in found.dice.items())
        mean = "-" if found.mean_dice is None else f"{found.mean_dice:.3f}"
        self.note(f"step {found.step}: validation loss {found.loss:.4f}  mean Dice {mean}  ({dice})")

    def note(self, text: str) -> None:
        self._console.print(text, highlight=False, soft_wrap=True)

    def _time_left(self, step: int) -> str:
        self._begin = self._begin or (self._clock(), step)
        begin_s, begin_step = self._begin
        if step in (begin_step, self._steps):
            return ""
        left_s = (self._clock() - begin_s) * (self._steps - step) / (step - begin_step)
        return f"  {timedelta(seconds=round(left_s))} left"
