"""`augserver info`: what a dataset holds, from its metadata alone."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from augserver.cli.tables import print_lines, volume_table

if TYPE_CHECKING:
    from augserver.store import Dataset


@click.command()
@click.argument("path", type=click.Path(path_type=Path), metavar="DS.zarr")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def info(path: Path, as_json: bool) -> None:
    """Show the volumes, classes and fingerprint of a dataset, and the memory that all of it decoded will need."""
    from augserver.store import Dataset
    from augserver.store.records import NOTICES

    dataset = Dataset.open(path)
    if as_json:
        click.echo(json.dumps(_report(dataset), indent=1))
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
            f"fingerprint {dataset.fingerprint}",
        ]
    )


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
