"""Where things lie in a dataset on disk, and how its metadata is read, written and digested.

    DS.zarr/                       Zarr v3 group; attributes["augserver"]: settings, classes, counts, fingerprint, digests
        zarr.json
        .augserver.lock            only while a writer lives
        .statistics/<id>.json      of a volume's voxels; outside the fingerprint (statistics.py)
        .partial-<id>/             a volume being written; renamed to <id> when every byte is on disk
        .relabelled-<id>/          the volume with another label, whole; `finish` puts it in the place of <id>
        .replaced-<id>/            the volume before that; removed when it is done
        <id>/                      OME-Zarr 0.5 image; attributes["augserver"]: geometry, hashes, file sizes, provenance
            zarr.json
            0/zarr.json  0/c/0/0/0/0            image (C, Z, Y, X), one shard
            labels/zarr.json                    only with a label
            labels/classes/zarr.json            OME-Zarr label image
            labels/classes/0/c/0/0/0            label (Z, Y, X), one shard

Metadata is plain JSON on purpose: opening a dataset of a thousand volumes must not build a thousand Zarr objects.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from augserver.errors import RequestError, StoreError

FORMAT = 1
NAMESPACE = "augserver"
METADATA = "zarr.json"
LOCK = ".augserver.lock"
PARTIAL = ".partial-"
RELABELLED = ".relabelled-"
REPLACED = ".replaced-"
HIDDEN = "."  # no volume id begins so
IMAGE = "0"
LABEL = "labels/classes/0"

_FLUSHES_AT_ONCE = 4

_ID = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,126}[A-Za-z0-9_-])?")


def check_id(volume_id: str) -> None:
    """Refuse a volume id that is not one plain file name on every system.

    Raises:
        RequestError: characters, length or a reserved name.
    """
    if not isinstance(volume_id, str) or not _ID.fullmatch(volume_id) or volume_id.casefold() == METADATA:
        raise RequestError(
            f"volume id {volume_id!r} is not a safe name; allowed: 1 to 128 of A-Z a-z 0-9 . _ -, beginning with a letter or digit, "
            f"not ending in a dot, and not {METADATA!r}"
        )


def canonical_digest(value: object) -> str:
    """sha256 (hex) of a JSON-able value, whatever the order of its keys.

    Python writes a float with the fewest digits that read back as the same bits, so that a digest survives the file.
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def read_attributes(group: Path) -> dict[str, Any]:
    """The attributes of a Zarr v3 group.

    Raises:
        StoreError: there is no such group, or its zarr.json cannot be read or is not one.
    """
    file = group / METADATA
    try:
        document = json.loads(file.read_bytes())
    except FileNotFoundError:
        raise StoreError(f"{group} is not a Zarr v3 group: it has no {METADATA}; `augserver ingest` makes datasets") from None
    except (OSError, ValueError) as error:
        raise StoreError(f"{file} cannot be read: {error}; restore the file or ingest again") from error
    attributes = document.get("attributes") if isinstance(document, dict) else None
    if not isinstance(attributes, dict) or document.get("zarr_format") != 3 or document.get("node_type") != "group":
        raise StoreError(f"{file} does not describe a Zarr v3 group; restore the file or ingest again")
    return attributes


def write_attributes(group: Path, attributes: dict[str, Any], *, flush: bool = True) -> None:
    """Write the zarr.json of a group, made if absent: a reader sees the old file or the new one, never a part.

    flush: it is on disk when this returns; False where the caller flushes the whole folder before anybody reads it.
    """
    group.mkdir(parents=True, exist_ok=True)
    document = {"zarr_format": 3, "node_type": "group", "attributes": attributes}
    temporary = group / f"{METADATA}.new"
    temporary.write_text(json.dumps(document, indent=1, allow_nan=False))
    if flush:
        flush_to_disk(temporary)
    temporary.replace(group / METADATA)
    if flush:
        flush_to_disk(group)


def flush_to_disk(path: Path) -> None:
    """fsync one file or folder."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def flush_tree(folder: Path) -> None:
    """fsync every file and folder below `folder`, and the folder itself: several at a time, which file systems write down as one."""
    paths = [Path(name, file) for name, _, files in os.walk(folder) for file in ("", *files)]
    with ThreadPoolExecutor(_FLUSHES_AT_ONCE, thread_name_prefix="flush") as pool:
        list(pool.map(flush_to_disk, paths))


def shard_sizes(volume: Path) -> dict[str, int]:
    """Size in bytes of every file of a volume that holds voxels, by its path inside the volume."""
    files = (file for file in volume.rglob("*") if file.is_file() and file.name != METADATA)
    return {file.relative_to(volume).as_posix(): file.stat().st_size for file in sorted(files)}
