"""Turn found scans into volumes of a dataset, one at a time: read, check, re-orient, resample, pair with the label, write.

A scan that cannot be trusted is refused with its reason, and the others go on. What a former, interrupted run wrote is kept, if its
source files are the same still. At most one volume is in memory.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from augserver.augment.recipe import MAX_SPACING_MM, MIN_SPACING_MM
from augserver.errors import GeometryError, VolumeError
from augserver.geometry import check_spacing, spacing_of
from augserver.ingest.labels import LabelRule, read_label
from augserver.ingest.names import volume_ids
from augserver.ingest.resample import resample_image, resampled_affine, resampled_shape
from augserver.ingest.scan import canonical_scan
from augserver.ingest.sources import Source, source_digest
from augserver.kernel.checks import MAX_VOXELS
from augserver.store import DatasetWriter
from augserver.store.content import check_finite
from augserver.volume import VolumeInfo


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestConfig:
    """What is done to every scan.

    Attributes:
        modality: "ct" or "mr".
        spacing_mm: zyx to resample to; None keeps each scan's own.
        labels: where labels are; None: the dataset has none.
    """

    modality: str = "ct"
    spacing_mm: tuple[float, float, float] | None = None
    labels: LabelRule | None = None

    def __post_init__(self) -> None:
        if self.spacing_mm is not None:
            check_spacing(self.spacing_mm, what="--spacing-mm")
            if not all(MIN_SPACING_MM <= each <= MAX_SPACING_MM for each in self.spacing_mm):
                raise GeometryError(f"--spacing-mm must be {MIN_SPACING_MM:g} to {MAX_SPACING_MM:g} mm, got {self.spacing_mm}")

    @property
    def preprocessing(self) -> dict[str, Any]:
        """What goes on record in the dataset, and must be the same when an ingest is resumed."""
        return {
            "axes": "z to Superior, y to Posterior, x to Left",
            "spacing_mm": None if self.spacing_mm is None else list(self.spacing_mm),
            "labels": self.labels is not None,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of one scan.

    Attributes:
        id: of the volume, or the one it would have had.
        info: the volume; None if refused.
        resumed: it was in the dataset already.
        reason: why it was refused, else empty.
    """

    id: str
    info: VolumeInfo | None = None
    resumed: bool = False
    reason: str = ""


def select_scans(sources: Sequence[Source], labels: LabelRule | None) -> list[Source]:
    """The sources that are scans, not labels."""
    return [source for source in sources if labels is None or not labels.is_label(source)]


def ingest_scans(scans: Sequence[Source], writer: DatasetWriter, config: IngestConfig) -> Iterator[Outcome]:
    """Ingest scans in order; yields after each, when its volume is on disk.

    Raises:
        StoreError: the dataset cannot be written; a scan's own faults are in its outcome.
    """
    for volume_id, source in zip(volume_ids([scan.name for scan in scans]), scans, strict=True):
        try:
            yield _ingest_one(volume_id, source, writer, config)
        except (VolumeError, GeometryError) as error:
            yield Outcome(id=volume_id, reason=str(error))


def _ingest_one(volume_id: str, source: Source, writer: DatasetWriter, config: IngestConfig) -> Outcome:
    if source.problem:
        raise VolumeError(source.problem)
    label_file = None if config.labels is None else config.labels.find(source)
    try:
        digest = source_digest(source.files())
        label_digest = None if label_file is None else source_digest([label_file])
    except OSError as error:
        raise VolumeError(f"{source.stem}: cannot be read ({error.strerror or error}); check the file and its permissions") from error
    if writer.has(volume_id):
        before = writer.provenance(volume_id)
        if (before.get("source_sha256"), before.get("label_source_sha256")) != (digest, label_digest):
            raise VolumeError(
                f"{source.stem}: the dataset has a volume {volume_id!r} from other files; "
                "rename this one, or ingest into a new dataset: volumes are never replaced"
            )
        return Outcome(id=volume_id, info=writer.info(volume_id), resumed=True)
    try:
        scan = canonical_scan(source.read(config.modality), name=source.stem)
        provenance = {
            "format": scan.format,
            "source_sha256": digest,
            "label_source_sha256": label_digest,
            "source_shape": list(scan.voxels.shape),
            "source_dtype": scan.voxels.dtype.name,
            "source_spacing_mm": list(scan.spacing_mm),
        }
        voxels, affine = scan.voxels, scan.affine
        del scan
        _check_size(voxels.shape, spacing_of(affine), config.spacing_mm, name=source.stem)
        if config.spacing_mm is not None and not np.allclose(spacing_of(affine), config.spacing_mm, rtol=1e-5, atol=0):
            check_finite(voxels, name=source.stem)  # before the low-pass spreads them
            voxels, affine = resample_image(voxels, spacing_of(affine), config.spacing_mm), resampled_affine(affine, config.spacing_mm)
        depth, height, width = voxels.shape
        label = None if label_file is None else read_label(label_file, (depth, height, width), affine)
    except MemoryError as error:
        raise VolumeError(f"{source.stem}: does not fit into memory; close other programs, or split the scan") from error
    info = writer.write(volume_id, voxels[None], label, spacing_of(affine), affine, provenance)
    return Outcome(id=volume_id, info=info)


def _check_size(shape: Sequence[int], spacing_mm: Sequence[float], target_mm: Sequence[float] | None, *, name: str) -> None:
    """Refuse, before any work, a volume of more voxels than the kernel reads."""
    size = resampled_shape(shape, spacing_mm, target_mm or spacing_mm)
    if math.prod(size) > MAX_VOXELS:
        at = "" if target_mm is None else f" at {tuple(target_mm)} mm"
        way_out = "crop or split the scan" if target_mm is None else "give a coarser --spacing-mm"
        raise VolumeError(f"{name}: would have {size} voxels (z, y, x){at}, at most {MAX_VOXELS} in all are allowed; {way_out}")
