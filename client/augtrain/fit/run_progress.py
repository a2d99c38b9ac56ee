"""Who is told how far a run is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from augtrain.fit.history import Validation


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
    """A bar on a terminal; notes and validations as lines of their own, which is all that a log file gets."""

    def __init__(self, console: Console) -> None:
        self._console = console
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
        with self._progress:
            self._task = self._progress.add_task("train", total=steps, completed=step, note="")
            yield

    def step(self, step: int, loss: float, wait_share: float | None) -> None:
        if self._task is not None:
            waiting = "" if wait_share is None else f"  waiting {100 * wait_share:.1f} %"
            self._progress.update(self._task, completed=step, description="train", note=f"loss {loss:.4f}{waiting}")

    def validating(self, share: float) -> None:
        if self._task is not None:
            self._progress.update(self._task, description="validate", note=f"{100 * share:.0f} %")

    def validated(self, found: Validation) -> None:
        dice = "  ".join(f"{name} {'-' if value is None else f'{value:.3f}'}" for name, value in found.dice.items())
        mean = "-" if found.mean_dice is None else f"{found.mean_dice:.3f}"
        self.note(f"step {found.step}: validation loss {found.loss:.4f}  mean Dice {mean}  ({dice})")

    def note(self, text: str) -> None:
        self._console.print(text, highlight=False, soft_wrap=True)
