"""The record of one volume: its attributes in zarr.json, checked before anyone believes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from augserver.errors import GeometryError, StoreError
from augserver.geometry import Affine, check_affine, check_spacing
from augserver.store import layout
from augserver.volume import Intensity, VolumeInfo

# Keys of the provenance: the grid of the scan as its file has it.
GRID_SHAPE = "source_grid"
GRID_AFFINE = "source_affine"
NOTICES = "notices"  # what looked wrong about it


def read_record(folder: Path) -> dict[str, Any]:
    """The record in a volume's folder.

    Raises:
        StoreError: the folder is no volume, or its metadata cannot be understood.
    """
    attributes = layout.read_attributes(folder)
    record = attributes.get(layout.NAMESPACE)
    if not isinstance(record, dict):
        raise StoreError(f"{folder} is no volume of a dataset: its attributes have no {layout.NAMESPACE!r}; remove the folder")
    try:
        info_of(folder.name, record)
        # The keys that no VolumeInfo carries.
        expected = {"image_sha256": str, "file_bytes": dict, "provenance": dict}
        if not all(isinstance(record[key], kind) for key, kind in expected.items()) or "label_sha256" not in record:
            raise ValueError("fields of the wrong type")
        if record["ome_sha256"] != layout.canonical_digest(attributes["ome"]):
            raise ValueError("its OME-Zarr metadata was altered")
    except (KeyError, TypeError, ValueError, GeometryError) as error:
        raise StoreError(
            f"volume {folder.name!r} of {folder.parent} has damaged metadata ({error!r}); remove {folder} and ingest it again"
        ) from error
    return record


def info_of(volume_id: str, record: dict[str, Any]) -> VolumeInfo:
    """The record as the rest of the server knows it."""
    channels, depth, height, width = (int(size) for size in record["shape"])
    source_shape, source_affine = _source_grid(record["provenance"])
    if min(channels, depth, height, width) < 1 or np.dtype(record["dtype"]).name not in ("int16", "float32"):
        raise ValueError(f"shape {record['shape']} or dtype {record['dtype']!r}")
    return VolumeInfo(
        id=volume_id,
        shape=(channels, depth, height, width),
        dtype=record["dtype"],
        spacing_mm=check_spacing(record["spacing_mm"]),
        affine=check_affine(record["affine"]),
        has_label=bool(record["has_label"]),
        class_voxels={int(key): int(count) for key, count in record["class_voxels"].items()},
        source_shape=source_shape,
        source_affine=source_affine,
        intensity=tuple(Intensity(**each) for each in record.get("intensity", ())),
    )


def _source_grid(provenance: dict[str, Any]) -> tuple[tuple[int, int, int] | None, Affine | None]:
    """Shape and affine of the scan as its file has it; None of datasets that were ingested before they were noted."""
    if GRID_SHAPE not in provenance:
        return None, None
    z, y, x = (int(size) for size in provenance[GRID_SHAPE])
    if min(z, y, x) < 1:
        raise ValueError(f"{GRID_SHAPE} {provenance[GRID_SHAPE]}")
    return (z, y, x), check_affine(provenance[GRID_AFFINE])


def check_files(folder: Path, record: dict[str, Any]) -> None:
    """Compare the size of every voxel file with the record, and where it lies; costs one stat and one realpath (10 us) per file.

    Raises:
        StoreError: a file is missing, of another size, or outside the dataset by way of a link: a dataset that somebody else made must
            not have the server read what that person cannot.
    """
    root = folder.parent.resolve()
    for name, size in record["file_bytes"].items():
        file = folder / name
        if not file.resolve().is_relative_to(root):
            raise StoreError(
                f"volume {folder.name!r} of {folder.parent}: {name} is a link out of the dataset, which is not followed; "
                "copy the file there, or link the whole dataset instead"
            )
        got = file.stat().st_size if file.is_file() else None
        if got != size:
            state = "is missing" if got is None else f"has {got} bytes"
            raise StoreError(
                f"volume {folder.name!r} of {folder.parent} is damaged: {name} {state}, expected {size} bytes; "
                f"restore it from a copy, or remove {folder} and ingest again"
            )
