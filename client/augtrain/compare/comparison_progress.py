"""Who is told how far a comparison is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from augtrain.compare.cells import Cell
from augtrain.compare.results import CellResult
from augtrain.fit.progress_over_runs import RichProgressOverRuns
from augtrain.fit.run_progress import RunProgress


class CompareProgress(RunProgress):
    """Nobody; the base of those who show it. A cell's run tells it of its steps."""

    @contextmanager
    def cell(self, cell: Cell, done: int, cells: int, steps: int) -> Iterator[None]:
        """While a cell of `steps` steps is trained; `done` of `cells` are done."""
        yield

    def finished(self, result: CellResult, number: int, cells: int) -> None:
        """A cell, the number-th from 1, has a result."""


class RichCompareProgress(RichProgressOverRuns, CompareProgress):
    """A bar over the steps of all cells, and a line for each cell that is done."""

    @contextmanager
    def cell(self, cell: Cell, done: int, cells: int, steps: int) -> Iterator[None]:
        name = f"{cell.loss} {'with' if cell.augmented else 'without'} augmentation, seed {cell.seed}"
        with self._shown_run(f"cell {done + 1}/{cells}", name, done=done * steps, total=cells * steps):
            yield

    def finished(self, result: CellResult, number: int, cells: int) -> None:
        mean = "no organ" if result.mean_dice is None else f"{result.mean_dice:.3f}"
        self._print(f"{number}/{cells}  {self._name}: {result.undefined or f'mean Dice {mean}'}  ({result.seconds:.0f} s)")
