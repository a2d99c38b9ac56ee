"""Who is told how far a comparison is: one bar over the steps of all cells, with the time that is left."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from augtrain.compare.cells import Cell
from augtrain.compare.results import CellResult
from augtrain.fit.progress import RunProgress

_SPEED_OVER_S = 3600.0  # cells take unequal times; a long memory keeps the time left from jumping


class CompareProgress(RunProgress):
    """Nobody; the base of those who show it. A cell's run tells it of its steps."""

    @contextmanager
    def cell(self, cell: Cell, done: int, cells: int, steps: int) -> Iterator[None]:
        """While a cell of `steps` steps is trained; `done` of `cells` are done."""
        yield

    def finished(self, result: CellResult, number: int, cells: int) -> None:
        """A cell, the number-th from 1, has a result."""


class RichCompareProgress(CompareProgress):
    """A bar on a terminal, and a line for each cell that is done, which is all that a log file gets."""

    def __init__(self, console: Console) -> None:
        self._console = console
        columns = (
            TextColumn("{task.fields[cells]}"),
            BarColumn(),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
        )
        self._progress = Progress(*columns, console=console, disable=not console.is_terminal, speed_estimate_period=_SPEED_OVER_S)
        self._task = self._progress.add_task("compare", total=None, cells="", note="", start=False)
        self._before = 0  # steps of the cells that are done
        self._name = ""

    @contextmanager
    def cell(self, cell: Cell, done: int, cells: int, steps: int) -> Iterator[None]:
        self._before, self._name = done * steps, f"{cell.loss} {'with' if cell.augmented else 'without'} augmentation, seed {cell.seed}"
        self._progress.start()  # no-op once it has
        self._progress.start_task(self._task)
        self._progress.update(self._task, total=cells * steps, completed=self._before, cells=f"cell {done + 1}/{cells}", note=self._name)
        try:
            yield
        except BaseException:
            self._progress.stop()
            raise

    def step(self, step: int, loss: float, wait_share: float | None) -> None:
        self._progress.update(self._task, completed=self._before + step, note=f"{self._name}  loss {loss:.4f}")

    def validating(self, share: float) -> None:
        self._progress.update(self._task, note=f"{self._name}  validating, {100 * share:.0f} %")

    def finished(self, result: CellResult, number: int, cells: int) -> None:
        mean = "no organ" if result.mean_dice is None else f"{result.mean_dice:.3f}"
        self._console.print(
            f"{number}/{cells}  {self._name}: mean Dice {mean}  ({result.seconds:.0f} s)", highlight=False, soft_wrap=True, markup=False
        )

    def close(self) -> None:
        """Leave the terminal to what comes next."""
        self._progress.stop()
