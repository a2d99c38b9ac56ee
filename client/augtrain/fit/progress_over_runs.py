"""One bar over the steps of several runs, with the time that is left."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from augtrain.fit.log_lines import LogLines
from augtrain.fit.run_progress import RunProgress

_SPEED_OVER_S = 3600.0  # runs take unequal times; a long memory keeps the time left from jumping


class RichProgressOverRuns(RunProgress):
    """A bar on a terminal, and lines of LogLines elsewhere; a line for each run that is done on both. Children name the runs."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._lines = LogLines(console)
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
        )
        self._progress = Progress(*columns, console=console, disable=not console.is_terminal, speed_estimate_period=_SPEED_OVER_S)
        self._task = self._progress.add_task("", total=None, note="", start=False)
        self._before = 0  # steps of the runs that are done, less those that this one begins with
        self._name = ""  # of the run

    @contextmanager
    def _shown_run(self, description: str, name: str, *, done: int, total: int, begin: int = 0) -> Iterator[None]:
        """While a run is trained from step `begin` on; `done` of the `total` steps of all runs lie behind it."""
        self._before, self._name = done - begin, name
        self._lines.print(f"{description}, {name}")
        self._progress.start()  # no-op once it has
        self._progress.start_task(self._task)
        self._progress.update(self._task, total=total, completed=done, description=description, note=name)
        try:
            yield
        except BaseException:
            self._progress.stop()
            raise

    def step(self, step: int, loss: float, wait_share: float | None) -> None:
        self._progress.update(self._task, completed=self._before + step, note=f"{self._name}  loss {loss:.4f}")
        self._lines.print(f"{self._name}: step {step}, loss {loss:.4f}")

    def validating(self, share: float) -> None:
        self._progress.update(self._task, note=f"{self._name}  validating, {100 * share:.0f} %")
        self._lines.print(f"{self._name}: validating, {100 * share:.0f} %")

    def _print(self, text: str) -> None:
        self._console.print(text, highlight=False, soft_wrap=True, markup=False)

    def close(self) -> None:
        """Leave the terminal to what comes next."""
        self._progress.stop()
