"""`augserver label`: organs labelled without annotators, with a report of what could not be labelled and why."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np
from augclient.contract import EXIT_NOTHING_USABLE, EXIT_SOME_REFUSED

from augserver.cli.ingest_progress import finish_volumes_on_signal
from augserver.cli.organ_pictures import save_picture
from augserver.cli.tables import organ_table, print_lines

if TYPE_CHECKING:
    from augserver.ingest.organ_labels import LabelledVolume, OrganOutcome
    from augserver.store import Dataset


@dataclass(frozen=True, slots=True, kw_only=True)
class OrganReport:
    """What a run of labelling did.

    Attributes:
        fingerprint: of the dataset after it.
        organs: by volume id; the volumes done before a signal.
        millilitres: (volume id, organ) -> volume of the organ.
        stopped: number of the signal that ended it early, or 0.
    """

    fingerprint: str
    organs: dict[str, tuple[OrganOutcome, ...]]
    millilitres: dict[tuple[str, str], float]
    stopped: int

    @property
    def exit_code(self) -> int:
        """0: every organ is labelled in every volume; 3: some are not; 2: none is."""
        if self.stopped:
            return 128 + self.stopped
        labelled = [bool(outcome.voxels) for outcomes in self.organs.values() for outcome in outcomes]
        return 0 if all(labelled) else EXIT_SOME_REFUSED if any(labelled) else EXIT_NOTHING_USABLE


@click.command()
@click.argument("path", type=click.Path(path_type=Path), metavar="DS.zarr")
@click.option("--organs", required=True, help="What to label: lungs, bone, or lungs,bone.")
@click.option("--pictures", type=click.Path(path_type=Path), help="Save one picture per volume in this folder: three slices, overlaid.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def label(path: Path, organs: str, pictures: Path | None, as_json: bool) -> int:
    """Label organs in the CT volumes of a dataset, without annotators.

    Labels that are there already are kept: an organ goes where the label is background, under the class of its name, or under a new one.
    Where it cannot be told from the image where the organ is, the volume is left without it and the report says why.

    Exit code 0: every organ in every volume is labelled; 3: some are not; 2: none is.
    """
    from augserver.ingest.organ_labels import parse_organs

    wanted = parse_organs(organs)
    report = label_dataset(path, wanted, pictures)
    if as_json:
        click.echo(json.dumps({"dataset": str(path), "fingerprint": report.fingerprint, "volumes": json_organs(report)}, indent=1))
    else:
        print_organs(path, report)
    return report.exit_code


def label_dataset(path: Path, organs: Sequence[str], pictures: Path | None) -> OrganReport:
    """Label with a progress bar; a signal ends it after the volume in hand, and what is labelled stays.

    Raises:
        StoreError, NotFoundError, ConfigError: the dataset cannot be opened or written, or is no CT.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from augserver.errors import NotFoundError
    from augserver.ingest.organ_labels import label_organs, organ_classes
    from augserver.store import Dataset, DatasetWriter

    if not path.exists():
        raise NotFoundError(f"there is no dataset at {path}; check the path, or make one with `augserver ingest`")
    done: dict[str, tuple[OrganOutcome, ...]] = {}
    millilitres: dict[tuple[str, str], float] = {}
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with DatasetWriter.reopen(path) as writer:
        dataset = Dataset.open(path)
        shown = {key: organ for organ, key in organ_classes(dataset.classes, organs).items()}
        with finish_volumes_on_signal() as stop, Progress(*columns, console=console, disable=not console.is_terminal) as progress:
            task = progress.add_task("label", total=len(dataset.volumes))
            for labelled in label_organs(dataset, writer, organs):
                done[labelled.id] = labelled.organs
                millilitres |= _millilitres(labelled, dataset)
                if pictures is not None and labelled.volume is not None:
                    save_picture(labelled, shown, pictures)
                progress.advance(task)
                if stop.number:
                    break
        fingerprint = writer.finish()
    stopped = stop.number if len(done) < len(dataset.volumes) else 0
    return OrganReport(fingerprint=fingerprint, organs=done, millilitres=millilitres, stopped=stopped)


def json_organs(report: OrganReport) -> list[dict[str, Any]]:
    """The volumes of a report for programs."""
    return [
        {
            "id": volume_id,
            "organs": {
                outcome.organ: {
                    "class": outcome.class_id,
                    "state": "refused" if outcome.reason else "kept" if outcome.kept else "labelled",
                    "voxels": outcome.voxels,
                    "ml": round(report.millilitres[volume_id, outcome.organ], 3),
                    "reason": outcome.reason,
                }
                for outcome in outcomes
            },
        }
        for volume_id, outcomes in report.organs.items()
    ]


def print_organs(path: Path, report: OrganReport) -> None:
    """The report for people: a table of volumes, then what is not labelled and why."""
    rows, refused = {}, []
    for volume_id, outcomes in report.organs.items():
        cells = {}
        for outcome in outcomes:
            ml = f"{report.millilitres[volume_id, outcome.organ]:.1f} ml"
            cells[outcome.organ] = "not labelled" if outcome.reason else f"{ml}, given before" if outcome.kept else ml
            if outcome.reason:
                refused.append(f"no {outcome.organ} in {volume_id}: {outcome.reason}")
        rows[volume_id] = cells
    organ_table(rows)
    total = sum(len(outcomes) for outcomes in report.organs.values())
    stopped = "; stopped: run the same command again to go on" if report.stopped else ""
    summary = f"{path}: {total - len(refused)} labelled, {len(refused)} not{stopped}; fingerprint {report.fingerprint}"
    print_lines([*refused, summary])


def _millilitres(labelled: LabelledVolume, dataset: Dataset) -> dict[tuple[str, str], float]:
    voxel_ml = float(np.prod(dataset.info(labelled.id).spacing_mm)) / 1000.0
    return {(labelled.id, outcome.organ): outcome.voxels * voxel_ml for outcome in labelled.organs}
