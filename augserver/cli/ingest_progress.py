"""Run an ingest with a progress bar, and let a signal end it between volumes."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from augserver.ingest import IngestConfig, Outcome
    from augserver.ingest.sources import Source
    from augserver.store import DatasetWriter


@dataclass(slots=True)
class Stop:
    """The signal that asked to stop, or 0."""

    number: int = 0


def ingest_with_progress(scans: Sequence[Source], writer: DatasetWriter, config: IngestConfig) -> tuple[list[Outcome], int]:
    """The outcomes in the order of the scans, and the number of the signal that ended the ingest early, or 0."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    from augserver.ingest import ingest_scans

    sizes = [scan.size_bytes() for scan in scans]
    console = Console(stderr=True)
    outcomes: list[Outcome] = []
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[done]}"),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with finish_volumes_on_signal() as stop, Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("ingest", total=max(1, sum(sizes)), done=f"0/{len(scans)} volumes")
        for outcome in ingest_scans(scans, writer, config, stopping=lambda: stop.number != 0):
            outcomes.append(outcome)
            refused = sum(each.info is None for each in outcomes)
            done = f"{len(outcomes)}/{len(scans)} volumes" + (f", {refused} refused" if refused else "")
            progress.update(task, advance=sizes[outcome.index], done=done)
    outcomes.sort(key=lambda outcome: outcome.index)
    return outcomes, stop.number if len(outcomes) < len(scans) else 0


@contextmanager
def finish_volumes_on_signal() -> Iterator[Stop]:
    """Let SIGINT or SIGTERM wait for the volumes in hand.

    The second one interrupts: with one job the volume in hand is given up and its half-written files are removed; with several, threads
    cannot be interrupted and theirs are finished.
    """
    stop = Stop()

    def handle(number: int, frame: FrameType | None) -> None:
        if stop.number:
            raise KeyboardInterrupt
        stop.number = number

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
