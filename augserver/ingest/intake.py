"""One scan into one volume: read, check, re-orient, straighten, resample, pair with the label, write."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from augclient.contract import MAX_CHANNELS
from numpy.typing import NDArray

from augserver.errors import VolumeError
from augserver.geometry import Affine, spacing_of
from augserver.ingest.config import IngestConfig
from augserver.ingest.label_carry import carry_onto
from augserver.ingest.label_source import LabelSource
from augserver.ingest.modality import said_of
from augserver.ingest.naming import Naming
from augserver.ingest.orthogonal import orthogonal_scan
from augserver.ingest.plausibility import implausible
from augserver.ingest.resample import resample_image, resampled_affine, resampled_shape
from augserver.ingest.scan import Scan, canonical_scan
from augserver.ingest.segments import LabelSegments
from augserver.ingest.sources import Source, source_digest
from augserver.kernel.checks import MAX_VOXELS
from augserver.store import DatasetWriter
from augserver.store.content import check_finite
from augserver.store.records import GRID_AFFINE, GRID_SHAPE, NOTICES
from augserver.volume import VolumeInfo


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of one scan.

    Attributes:
        index: its place among the scans.
        id: of the volume, or the one it would have had.
        info: the volume; None if refused.
        resumed: it was in the dataset already.
        reason: why it was refused, else empty.
        notes: how it was converted, such as "axes turned from RAS to LPS"; of a resumed volume, as when it was taken in.
        notices: what looks wrong about it.
    """

    index: int
    id: str
    info: VolumeInfo | None = None
    resumed: bool = False
    reason: str = ""
    notes: tuple[str, ...] = ()
    notices: tuple[str, ...] = ()


def take_in(index: int, source: Source, naming: Naming, writer: DatasetWriter, config: IngestConfig) -> Outcome:
    """Make a volume of a scan, or find that the dataset has it.

    Its files are hashed, and its voxels looked over, while they are read and resampled: on 512 x 512 x 400 voxels a quarter of the time.

    Raises:
        VolumeError, GeometryError: the scan or its label cannot be trusted.
        StoreError: the dataset cannot be written.
    """
    if source.problem:
        raise VolumeError(source.problem)
    contradicted = _contradicted(source, config)
    label = source.label
    expected = naming.expected(index)
    with ThreadPoolExecutor(1, thread_name_prefix="ingest") as helper:
        digests = helper.submit(_digests, source, label)
        if expected is None or writer.has(expected):
            volume_id = naming.choose(index, digests.result()[0])
            if writer.has(volume_id):
                return _resumed(index, volume_id, source, digests.result(), writer)
        image, carried, affine, provenance = _read(source, label, config, contradicted, helper)
        provenance["source_sha256"], provenance["label_source_sha256"] = digests.result()
    volume_id = naming.choose(index, digests.result()[0])
    added = label.classes if isinstance(label, LabelSegments) and not writer.given_classes else None
    info = writer.write(volume_id, image, carried, spacing_of(affine), affine, provenance, added)
    notes = (*provenance["conversions"], *_unnamed(info, writer.given_classes))
    return Outcome(index=index, id=volume_id, info=info, notes=notes, notices=tuple(provenance[NOTICES]))


def _contradicted(source: Source, config: IngestConfig) -> tuple[str, ...]:
    """The notice that a scan is said to be of another modality.

    Raises:
        VolumeError: it surely is, and the user did not say of which it is.
    """
    said = said_of(source)
    if said is None or said.modality == config.modality:
        return ()
    if said.sure and not config.modality_given:
        raise VolumeError(
            f"{source.stem}: is {said.modality.upper()} and not {config.modality.upper()}: {said.because}; "
            f"pass --modality {said.modality}, or --modality {config.modality} to take it all the same"
        )
    return (f"may be {said.modality.upper()} and not {config.modality.upper()}: {said.because}",)


def _unnamed(info: VolumeInfo, classes: Mapping[int, str]) -> tuple[str, ...]:
    """A note on ids that have no name although classes are named."""
    unnamed = [key for key in info.class_voxels if key and key not in classes]
    if not unnamed or not classes:
        return ()
    return (f"label values that the classes do not name, each called class_N: {', '.join(map(str, unnamed))}",)


def _digests(source: Source, label: LabelSource | None) -> tuple[str, str | None]:
    """Of the scan's files and of its label's."""
    try:
        return source_digest(source.files()), None if label is None else source_digest(label.files())
    except OSError as error:
        raise VolumeError(f"{source.stem}: cannot be read ({error.strerror or error}); check the file and its permissions") from error


def _resumed(index: int, volume_id: str, source: Source, digests: tuple[str, str | None], writer: DatasetWriter) -> Outcome:
    before = writer.provenance(volume_id)
    if (before.get("source_sha256"), before.get("label_source_sha256")) != digests:
        raise VolumeError(
            f"{source.stem}: the dataset has a volume {volume_id!r} from other files; "
            "rename this one, or ingest into a new dataset: volumes are never replaced"
        )
    notes, notices = tuple(before.get("conversions", ())), tuple(before.get(NOTICES, ()))
    return Outcome(index=index, id=volume_id, info=writer.info(volume_id), resumed=True, notes=notes, notices=notices)


def _read(
    source: Source, label: LabelSource | None, config: IngestConfig, contradicted: tuple[str, ...], helper: ThreadPoolExecutor
) -> tuple[NDArray[Any], NDArray[np.uint8] | None, Affine, dict[str, Any]]:
    """Image (C, Z, Y, X), label (Z, Y, X) or None, their affine, and the provenance but for the digests."""
    try:
        scan = source.read(config.modality, config.nifti_affine)
        _check_channels(scan, source, config)
        doubted = helper.submit(implausible, scan.voxels, modality=config.modality, stem=source.stem)
        original = canonical_scan(scan) if config.orientation == "lps" else scan
        provenance = {
            "format": original.format,
            "source_shape": list(original.voxels.shape),
            "source_dtype": original.voxels.dtype.name,
            "source_spacing_mm": list(original.spacing_mm),
            GRID_SHAPE: list(scan.grid),
            GRID_AFFINE: scan.affine.tolist(),
        }
        grid, grid_affine = scan.grid, scan.affine
        del scan
        image, affine, notes = _prepare(original, source, config)
        del original
        notices = _checked_notices(contradicted + doubted.result(), source, config)
        carried: NDArray[np.uint8] | None = None
        if label is not None:
            carried, told, doubts = carry_onto(label, (grid, grid_affine), (image.shape[1:], affine), config, name=source.stem)
            notes, notices = notes + told, notices + _checked_notices(doubts, source, config)
    except MemoryError as error:
        raise VolumeError(f"{source.stem}: does not fit into memory; close other programs, or split the scan") from error
    return image, carried, affine, provenance | {"conversions": list(notes), NOTICES: list(notices)}


def _checked_notices(notices: tuple[str, ...], source: Source, config: IngestConfig) -> tuple[str, ...]:
    if notices and config.strict:
        raise VolumeError(f"{source.stem}: {'; '.join(notices)}; --strict refuses it")
    return notices


def _check_channels(scan: Scan, source: Source, config: IngestConfig) -> None:
    name, channels = source.stem, len(scan.voxels)
    if channels > 1 and config.fourth_axis == "refuse" and not source.channels:
        raise VolumeError(
            f"{name}: has 4 axes, {channels} long beyond the third: time points or channels; "
            "pass --fourth-axis channels if they are channels, or split it into 3-D files"
        )
    if channels > MAX_CHANNELS:
        raise VolumeError(f"{name}: has {channels} channels, at most {MAX_CHANNELS} are allowed; split the file")


def _prepare(scan: Scan, source: Source, config: IngestConfig) -> tuple[NDArray[Any], Affine, tuple[str, ...]]:
    """The image (C, Z, Y, X) as it is stored, its affine, and what was done to it."""
    name, channels = source.stem, len(scan.voxels)
    scan = orthogonal_scan(scan, fill=config.fill, name=name)
    image, affine, notes = scan.voxels, scan.affine, scan.notes
    spacing = spacing_of(affine)
    _check_size(scan.grid, spacing, config.spacing_mm, name=name)
    if config.spacing_mm is not None and not np.allclose(spacing, config.spacing_mm, rtol=1e-5, atol=0):
        check_finite(image, name=name)  # before the low-pass spreads them
        resampled = [resample_image(channel, spacing, config.spacing_mm) for channel in image]
        image = resampled[0][None] if channels == 1 else np.stack(resampled)
        affine = resampled_affine(affine, config.spacing_mm)
        notes += (f"resampled from {_shown(spacing)} to {_shown(config.spacing_mm)} mm",)
    return image, affine, notes


def _check_size(shape: Sequence[int], spacing_mm: Sequence[float], target_mm: Sequence[float] | None, *, name: str) -> None:
    """Refuse, before any work, a volume of more voxels than the kernel reads."""
    size = resampled_shape(shape, spacing_mm, target_mm or spacing_mm)
    if math.prod(size) > MAX_VOXELS:
        at = "" if target_mm is None else f" at {tuple(target_mm)} mm"
        way_out = "crop or split the scan" if target_mm is None else "give a coarser --spacing-mm"
        raise VolumeError(f"{name}: would have {size} voxels (z, y, x){at}, at most {MAX_VOXELS} in all are allowed; {way_out}")


def _shown(spacing_mm: Sequence[float]) -> str:
    return "x".join(f"{value:.4g}" for value in spacing_mm)
