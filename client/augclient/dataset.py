"""What the client knows of the server's dataset and its volumes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from augclient.errors import NotFoundError, WireError
from augclient.nearest import nearest
from augclient.wire.v1 import augserver_pb2 as pb


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class VolumeInfo:
    """One volume without its voxels.

    Attributes:
        id: its name in the dataset.
        shape: (C, Z, Y, X) in voxels.
        dtype: "int16" or "float32", of the image as stored.
        spacing_mm: zyx, mm per voxel.
        affine: float64 (4, 4), zyx voxel -> xyz LPS mm.
        has_label: whether there is a label volume (Z, Y, X) uint8.
        class_voxels: label id -> voxels; empty without a label.
        source_shape: (Z, Y, X) of the scan as its file has it, before it was turned, straightened and resampled.
        source_affine: as `affine`, of that grid. Both None where the server does not know them.
    """

    id: str
    shape: tuple[int, int, int, int]
    dtype: str
    spacing_mm: tuple[float, float, float]
    affine: NDArray[np.float64]
    has_label: bool
    class_voxels: dict[int, int]
    source_shape: tuple[int, int, int] | None = None
    source_affine: NDArray[np.float64] | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Volume:
    """One whole volume as ingested.

    Attributes:
        info: see VolumeInfo; `spacing_mm` and `affine` are its own.
        image: int16 or float32 (C, Z, Y, X), in the volume's unit (HU for CT).
        label: uint8 (Z, Y, X), or None.
    """

    info: VolumeInfo
    image: NDArray[Any]
    label: NDArray[np.uint8] | None

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        return self.info.spacing_mm

    @property
    def affine(self) -> NDArray[np.float64]:
        return self.info.affine


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Dataset:
    """What the server holds.

    Attributes:
        fingerprint: hash of the content; equal content has an equal fingerprint on every server.
        modality: "ct" or "mr".
        volumes: ids, sorted.
        classes: label id -> name; 0 is background.
        class_voxels: label id -> voxels in the whole dataset.
        spacing_mm: zyx where all volumes share it, else None.
        quarantined: id -> reason of the volumes that servers found damaged while they served them; others take their places.
    """

    fingerprint: str
    modality: str
    volumes: tuple[str, ...]
    classes: dict[int, str]
    class_voxels: dict[int, int]
    spacing_mm: tuple[float, float, float] | None
    infos: dict[str, VolumeInfo]
    quarantined: dict[str, str]

    def info(self, id: str) -> VolumeInfo:
        """Facts of one volume; NotFoundError names the nearest id."""
        try:
            return self.infos[id]
        except KeyError:
            near = nearest(str(id), self.volumes)
            guess = f"; did you mean {near!r}?" if near else f"; the dataset has {len(self.volumes)} volumes, see .volumes"
            raise NotFoundError(f"no volume {id!r}{guess}") from None


def dataset_from_proto(message: pb.Dataset) -> Dataset:
    """The dataset of a GetDataset answer; WireError where it has no meaning."""
    infos = {info.id: info_from_proto(info) for info in message.volumes}
    spacing = tuple(message.spacing_mm)
    return Dataset(
        fingerprint=message.fingerprint,
        modality=message.modality,
        volumes=tuple(infos),
        classes=dict(message.classes),
        class_voxels=dict(message.class_voxels),
        spacing_mm=(spacing[0], spacing[1], spacing[2]) if len(spacing) == 3 else None,
        infos=infos,
        quarantined={each.id: each.reason for each in message.quarantined},
    )


def info_from_proto(message: pb.VolumeInfo) -> VolumeInfo:
    """The facts of one volume; WireError where they have no meaning."""
    lengths = (len(message.shape), len(message.spacing_mm), len(message.affine))
    if lengths != (4, 3, 16) or message.dtype not in ("int16", "float32"):
        raise WireError(
            f"volume {message.id!r} came with {lengths} numbers of shape, spacing and affine, dtype {message.dtype!r};"
            " due are (4, 3, 16) and int16 or float32"
        )
    source = (len(message.source_shape), len(message.source_affine))
    if source not in ((0, 0), (3, 16)):
        raise WireError(f"volume {message.id!r} came with {source} numbers of source_shape and source_affine; due are none, or (3, 16)")
    channels, z, y, x = message.shape
    sz, sy, sx = message.spacing_mm
    return VolumeInfo(
        id=message.id,
        shape=(channels, z, y, x),
        dtype=message.dtype,
        spacing_mm=(sz, sy, sx),
        affine=np.array(message.affine, np.float64).reshape(4, 4),
        has_label=message.has_label,
        class_voxels=dict(message.class_voxels),
        source_shape=(message.source_shape[0], message.source_shape[1], message.source_shape[2]) if message.source_shape else None,
        source_affine=np.array(message.source_affine, np.float64).reshape(4, 4) if message.source_affine else None,
    )
