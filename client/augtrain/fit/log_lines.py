"""How far long work is, as lines of a log file: a bar that moves is for terminals alone."""

from __future__ import annotations

import time
from collections.abc import Callable

from rich.console import Console

LINE_S = 30.0  # between two lines: a night of training makes a thousand


class LogLines:
    """Prints the first line at once, then at most one in LINE_S; nothing on a terminal."""

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console
        self._clock = clock
        self._due_s = clock()

    def print(self, text: str, *, at_once: bool = False) -> None:
        """Print the text if a line is due, or `at_once`."""
        now = self._clock()
        if not self._console.is_terminal and (at_once or now >= self._due_s):
            self._due_s = now + LINE_S
            self._console.print(text, highlight=False, soft_wrap=True, markup=False)
