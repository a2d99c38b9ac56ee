"""What voxels are: the dtype that holds them without loss, their hash, their class counts, and the dataset's fingerprint.

All functions walk a volume plane by plane, so that none allocates a second volume.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from augserver.errors import VolumeError
from augserver.store.layout import canonical_digest

_INT16 = np.iinfo(np.int16)


def check_finite(image: NDArray[Any], *, name: str) -> None:
    """Refuse voxels that are no finite real numbers in float32.

    Args:
        image: (..., Y, X).
        name: of the volume, for the error.
    Raises:
        VolumeError: the dtype is no real number, or voxels are NaN or infinite (the message counts them).
    """
    if image.dtype.kind not in "iuf":
        raise VolumeError(f"{name}: voxels of dtype {image.dtype} are not real numbers; give one grey value per voxel")
    if image.dtype.kind != "f":
        return
    with np.errstate(over="ignore"):  # what overflows is counted
        bad = sum(plane.size - int(np.count_nonzero(np.isfinite(plane.astype(np.float32, copy=False)))) for plane in _planes(image))
    if bad:
        raise VolumeError(
            f"{name}: {bad} of {image.size} voxels are NaN or infinite (in float32), every voxel must be finite; "
            "replace them, for example by air (-1000 HU) in a CT"
        )


def storage_dtype(image: NDArray[Any]) -> np.dtype[Any]:
    """int16 where every voxel is an integer in its range, float32 otherwise.

    Args:
        image: (C, Z, Y, X), finite. What does not fit int16 is rounded to float32, which is exact for integers up to 2**24.
    """
    for plane in _planes(image):
        whole = plane.dtype.kind != "f" or bool(np.all(np.rint(plane) == plane))
        if not whole or plane.min() < _INT16.min or plane.max() > _INT16.max:
            return np.dtype(np.float32)
    return np.dtype(np.int16)


def content_hash(array: NDArray[Any]) -> str:
    """sha256 (hex) of the voxels as little-endian bytes in C order; dtype and shape are hashed elsewhere."""
    digest = hashlib.sha256()
    little = array.dtype.newbyteorder("<")
    for plane in _planes(array):
        digest.update(np.ascontiguousarray(plane, dtype=little).data)
    return digest.hexdigest()


def count_classes(label: NDArray[np.uint8]) -> dict[int, int]:
    """Label id -> number of voxels, for the ids that occur, background 0 included; label is uint8 (Z, Y, X)."""
    counts = np.zeros(256, np.int64)
    for plane in label:
        counts += np.bincount(plane.ravel(), minlength=256)
    return {int(value): int(counts[value]) for value in np.flatnonzero(counts)}


def dataset_fingerprint(modality: str, classes: Mapping[int, str], volumes: Mapping[str, Mapping[str, Any]]) -> str:
    """sha256 (hex) of what a sample can depend on: ids, voxels, geometry, classes and modality.

    Paths, times, chunking, compression and provenance are left out: the same scans ingested elsewhere have the same fingerprint.

    Args:
        classes: label id -> name.
        volumes: id -> its attributes as stored, of which shape, dtype, affine and the two content hashes count.
    """
    keys = ("shape", "dtype", "affine", "image_sha256", "label_sha256")
    return canonical_digest(
        {
            "modality": modality,
            "classes": {str(key): name for key, name in classes.items()},
            "volumes": {name: {key: stored[key] for key in keys} for name, stored in volumes.items()},
        }
    )


def _planes(array: NDArray[Any]) -> Iterable[NDArray[Any]]:
    """The (Y, X) planes in C order."""
    return (array[index] for index in np.ndindex(array.shape[:-2]))
