"""`augserver ingest`: scans into a dataset, with a report of what was refused and why."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import click

from augserver.cli.tables import print_lines, volume_table
from augserver.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from augserver.ingest import IngestConfig, Outcome
    from augserver.ingest.sources import Source
    from augserver.store import DatasetWriter

_SOME_REFUSED = 3
_NOTHING_USABLE = 2


@click.command()
@click.argument("sources", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="SRC...")
@click.option(
    "--out", required=True, type=click.Path(path_type=Path), help="Folder of the dataset (DS.zarr); an interrupted one is resumed."
)
@click.option("--spacing-mm", help="Resample to this voxel size: one number, or z,y,x.  [default: each scan's own]")
@click.option("--modality", type=click.Choice(["ct", "mr"]), default="ct", show_default=True, help="What the scans are.")
@click.option("--labels", help="Where labels are: a folder with files of the same stem, or a pattern such as '{id}_seg.nii.gz'.")
@click.option("--classes", "classes_path", type=click.Path(path_type=Path), help="Names of the classes, id -> name: TOML, JSON or CSV.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def ingest(
    sources: tuple[Path, ...],
    out: Path,
    spacing_mm: str | None,
    modality: str,
    labels: str | None,
    classes_path: Path | None,
    as_json: bool,
) -> int:
    """Read the scans in SRC (files, or folders with all below them) into a dataset.

    NIfTI, NRRD, MetaImage and DICOM series are read. Each becomes a volume with axes to Superior, Posterior, Left; none is taken whose
    voxels or geometry cannot be trusted. Volume ids are the names of files, and are kept: name files without patient identifiers.

    Exit code 0: all scans are in; 3: some were refused; 2: there is nothing usable.
    """
    from augserver.ingest import IngestConfig, LabelRule, find_sources, read_classes, select_scans
    from augserver.store import DatasetWriter

    rule = None if labels is None else LabelRule.parse(labels, sources)
    config = IngestConfig(modality=modality, spacing_mm=_parse_spacing(spacing_mm), labels=rule)
    classes = {} if classes_path is None else read_classes(classes_path)
    found = find_sources(sources)
    scans = select_scans(found.sources, rule)
    if not scans:
        where = ", ".join(map(str, sources))
        click.echo(f"augserver: no scan in {where}{_skipped(found.skipped)}; NIfTI, NRRD, MetaImage and DICOM are read", err=True)
        return _NOTHING_USABLE
    with DatasetWriter(out, modality=modality, classes=classes, preprocessing=config.preprocessing) as writer:
        outcomes, stopped = _run(scans, writer, config)
        if stopped:
            kept = sum(outcome.info is not None for outcome in outcomes)
            click.echo(f"augserver: stopped; {kept} of {len(scans)} volumes stay in {out}: run the same command again to go on", err=True)
            return 128 + stopped
        usable = any(outcome.info is not None for outcome in outcomes)
        fingerprint = writer.finish() if usable else ""
    if as_json:
        click.echo(json.dumps(_report(out, fingerprint, outcomes, found.skipped), indent=1))
    else:
        _print_report(out, fingerprint, outcomes, found.skipped)
    if not usable:
        return _NOTHING_USABLE
    return _SOME_REFUSED if any(outcome.info is None for outcome in outcomes) else 0


def _run(scans: Sequence[Source], writer: DatasetWriter, config: IngestConfig) -> tuple[list[Outcome], int]:
    """Ingest with a progress bar; the outcomes so far, and the number of the signal that ended it, or 0."""
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
    with _finish_volume_on_signal() as stop, Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("ingest", total=max(1, sum(sizes)), done=f"0/{len(scans)} volumes")
        for outcome, size in zip(ingest_scans(scans, writer, config), sizes, strict=True):
            outcomes.append(outcome)
            progress.update(task, advance=size, done=f"{len(outcomes)}/{len(scans)} volumes")
            if stop.number:
                break
    return outcomes, stop.number if len(outcomes) < len(scans) else 0


@dataclass(slots=True)
class _Stop:
    """The signal that asked to stop, or 0."""

    number: int = 0


@contextmanager
def _finish_volume_on_signal() -> Iterator[_Stop]:
    """Let SIGINT or SIGTERM wait for the volume in hand; the second one interrupts it (its half-written files are removed)."""
    stop = _Stop()

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


def _parse_spacing(text: str | None) -> tuple[float, float, float] | None:
    if text is None:
        return None
    try:
        values = [float(word) for word in text.split(",")]
    except ValueError:
        values = []
    if len(values) == 1:
        values *= 3
    if len(values) != 3:
        raise ConfigError(f"--spacing-mm must be one number or three as z,y,x, got {text!r}")
    return values[0], values[1], values[2]


def _report(out: Path, fingerprint: str, outcomes: Sequence[Outcome], skipped: dict[str, int]) -> dict[str, Any]:
    return {
        "dataset": str(out),
        "fingerprint": fingerprint,
        "volumes": [
            {
                "id": info.id,
                "shape": list(info.shape),
                "dtype": info.dtype,
                "spacing_mm": list(info.spacing_mm),
                "class_voxels": {str(key): count for key, count in info.class_voxels.items()},
                "resumed": outcome.resumed,
            }
            for outcome in outcomes
            if (info := outcome.info) is not None
        ],
        "refused": [{"id": outcome.id, "reason": outcome.reason} for outcome in outcomes if outcome.info is None],
        "skipped_files": skipped,
    }


def _print_report(out: Path, fingerprint: str, outcomes: Sequence[Outcome], skipped: dict[str, int]) -> None:
    accepted = [outcome.info for outcome in outcomes if outcome.info is not None]
    refused = [outcome for outcome in outcomes if outcome.info is None]
    resumed = sum(outcome.resumed for outcome in outcomes)
    lines = [f"refused {outcome.id}: {outcome.reason}" for outcome in refused]
    if accepted:
        volume_table(accepted)
        lines.append(f"{out}: {len(accepted)} volumes{f' ({resumed} of them from before)' if resumed else ''}, fingerprint {fingerprint}")
    lines.append(f"{len(accepted)} in, {len(refused)} refused{_skipped(skipped)}")
    print_lines(lines)


def _skipped(skipped: dict[str, int]) -> str:
    shown = ", ".join(f"{count} x {kind}" for kind, count in sorted(skipped.items()))
    return f"; files that are no scans: {shown}" if shown else ""
