"""`augserver info`: what a dataset holds, from its metadata alone; with --statistics, from its voxels where none were kept."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from augserver.cli.tables import print_lines, volume_table

if TYPE_CHECKING:
    from augserver.store import Dataset
    from augserver.store.statistics import VolumeStatistics


@click.command()
@click.argument("path", type=click.Path(path_type=Path), metavar="DS.zarr")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
@click.option("--statistics", is_flag=True, help="Show statistics of the voxels; those that are not kept yet are computed.")
@click.option("--write", is_flag=True, help="With --statistics: keep beside the dataset what was computed.")
def info(path: Path, as_json: bool, statistics: bool, write: bool) -> None:
    """Show the volumes, classes and fingerprint of a dataset, and the memory that all of it decoded will need."""
    from augserver.store import Dataset
    from augserver.store.records import NOTICES

    if write and not statistics:
        raise click.UsageError("--write keeps statistics; pass --statistics too")
    dataset = Dataset.open(path)
    found = _statistics(dataset, write=write) if statistics else {}
    if as_json:
        click.echo(json.dumps(_report(dataset) | (_statistics_report(found) if statistics else {}), indent=1))
        return
    volumes = [dataset.info(name) for name in dataset.volumes]
    volume_table(volumes)
    common = "differs" if dataset.spacing_mm is None else ", ".join(f"{value:.4g}" for value in dataset.spacing_mm)
    print_lines(
        [
            f"{len(volumes)} volumes, modality {dataset.modality}, spacing z,y,x mm: {common}",
            *(f"class {key} {name}: {dataset.class_voxels[key]} voxels" for key, name in dataset.classes.items()),
            f"memory to hold all volumes decoded: {dataset.size_bytes / 1e6:.1f} MB",
            *(f"notice {name}: {notice}" for name in dataset.volumes for notice in dataset.provenance(name).get(NOTICES, ())),
            *_statistics_lines(found),
            f"fingerprint {dataset.fingerprint}",
        ]
    )


def _statistics(dataset: Dataset, *, write: bool) -> dict[str, VolumeStatistics]:
    """Of every volume: what was kept, else computed under a progress bar on stderr."""
    from rich.console import Console
    from rich.progress import Progress

    from augserver.errors import StoreError

    found = {}
    with Progress(console=Console(stderr=True), transient=True) as progress:
        for name in progress.track(dataset.volumes, description="statistics"):
            try:
                found[name] = dataset.statistics(name)
            except StoreError:  # none, stale or damaged: computed anew from voxels whose hash is checked
                found[name] = dataset.compute_statistics(name, write=write)
    return found


def _statistics_report(found: dict[str, VolumeStatistics]) -> dict[str, Any]:
    from augserver.store.statistics import merged_foreground

    volumes = {name: asdict(each) for name, each in found.items()}
    for each in volumes.values():
        del each["foreground_counts"]  # thousands of numbers that only merging needs
    foreground = [None if each is None else asdict(each) for each in merged_foreground(found.values())]
    return {"statistics": {"volumes": volumes, "foreground": foreground}}


def _statistics_lines(found: dict[str, VolumeStatistics]) -> list[str]:
    from augserver.store.statistics import Distribution, merged_foreground

    def line(what: str, of: Distribution | None) -> str:
        if of is None:
            return f"{what}: no voxels"
        return f"{what}: mean {of.mean:.6g}, std {of.std:.6g}, 0.5 % {of.percentile(0.5):.6g}, 99.5 % {of.percentile(99.5):.6g}"

    lines = []
    for name, each in found.items():
        for number, channel in enumerate(each.channels, 1):
            for over, of in (("all", channel.all), ("non-zero", channel.nonzero), ("foreground", channel.foreground)):
                lines.append(line(f"statistics {name} channel {number} {over}", of))
    return lines + [line(f"foreground of all volumes, channel {n}", of) for n, of in enumerate(merged_foreground(found.values()), 1)]


def _report(dataset: Dataset) -> dict[str, Any]:
    from augserver.store.records import NOTICES

    return {
        "fingerprint": dataset.fingerprint,
        "modality": dataset.modality,
        "spacing_mm": dataset.spacing_mm,
        "classes": {str(key): name for key, name in dataset.classes.items()},
        "class_voxels": {str(key): count for key, count in dataset.class_voxels.items()},
        "size_bytes": dataset.size_bytes,
        "preprocessing": dataset.preprocessing,
        "volumes": [
            {
                "id": info.id,
                "shape": list(info.shape),
                "dtype": info.dtype,
                "spacing_mm": list(info.spacing_mm),
                "affine": info.affine.tolist(),
                "has_label": info.has_label,
                "class_voxels": {str(key): count for key, count in info.class_voxels.items()},
                "size_bytes": info.size_bytes,
                "intensity": [asdict(each) for each in info.intensity],
                "notices": dataset.provenance(info.id).get(NOTICES, []),
            }
            for info in map(dataset.info, dataset.volumes)
        ],
    }
