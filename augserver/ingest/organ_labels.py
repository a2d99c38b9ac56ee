"""Give the volumes of a dataset labels of organs that need no annotator, where `augserver.labels` finds them.

A label that is there already is never overwritten: an organ goes where the label is background, and not at all into a volume that has
its class. One volume is in memory at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from augserver.errors import ConfigError, VolumeError
from augserver.ingest.config import AXES
from augserver.labels import ALIASES, ORGANS
from augserver.store import Dataset, DatasetWriter
from augserver.volume import Volume


@dataclass(frozen=True, slots=True, kw_only=True)
class OrganOutcome:
    """What became of one organ in one volume.

    Attributes:
        organ: of `ORGANS`.
        class_id: under which it is in the label.
        voxels: of the class; 0 if the organ is not labelled.
        kept: the volume had the class before; it was left as it is.
        reason: why it is not labelled, else empty.
    """

    organ: str
    class_id: int
    voxels: int = 0
    kept: bool = False
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledVolume:
    """A volume and what became of its organs; `volume` has the new label, and is None where it could not be read."""

    id: str
    organs: tuple[OrganOutcome, ...]
    volume: Volume | None


def parse_organs(text: str) -> tuple[str, ...]:
    """The organs of a list such as "lungs,bone".

    Raises:
        ConfigError: an organ that cannot be labelled, or none.
    """
    organs = tuple(dict.fromkeys(word.strip().lower() for word in text.split(",") if word.strip()))
    unknown = [organ for organ in organs if organ not in ORGANS]
    if unknown or not organs:
        raise ConfigError(f"--organs must be one or more of {','.join(ORGANS)}, separated by commas, got {text!r}")
    return organs


def organ_classes(classes: Mapping[int, str], organs: Sequence[str]) -> dict[str, int]:
    """Organ -> class id: the class of that name if the dataset has one, else the next free id.

    Raises:
        ConfigError: all ids to 255 are taken.
    """
    by_name = {name.casefold(): key for key, name in classes.items()}
    chosen: dict[str, int] = {}
    for organ in organs:
        known = [by_name[name] for name in ALIASES[organ] if name in by_name]
        chosen[organ] = known[0] if known else 1 + max([0, *classes, *chosen.values()])
        if chosen[organ] > 255:
            raise ConfigError(f"no class id is left for {organ}: labels are bytes, and the dataset uses ids up to {max(classes)}")
    return chosen


def label_organs(dataset: Dataset, writer: DatasetWriter, organs: Sequence[str]) -> Iterator[LabelledVolume]:
    """Label volume by volume; yields after each, when its label is on disk. `writer.finish` makes the labels visible.

    Args:
        dataset, writer: of the same folder.
        organs: names in `ORGANS`; where two claim a voxel, the first has it.
    Raises:
        ConfigError: the dataset is not CT, or has no class id left.
        StoreError: the dataset cannot be written; a damaged volume is in its outcome.
    """
    if dataset.modality != "ct":
        raise ConfigError(f"organs are found by their HU, and {dataset.path} holds modality {dataset.modality!r}; give it a CT dataset")
    if dataset.preprocessing.get("axes") == AXES["file"]:
        raise ConfigError(
            f"organs are found in axes turned to Superior, Posterior and Left, and {dataset.path} keeps those of the files; "
            "ingest without --orientation file"
        )
    ids = organ_classes(dataset.classes, organs)
    for volume_id in dataset.volumes:
        try:
            volume = dataset.read(volume_id)
        except VolumeError as error:
            yield LabelledVolume(
                id=volume_id, organs=tuple(OrganOutcome(organ=o, class_id=ids[o], reason=str(error)) for o in organs), volume=None
            )
            continue
        yield _label_one(volume, writer, ids)


def _label_one(volume: Volume, writer: DatasetWriter, ids: Mapping[str, int]) -> LabelledVolume:
    label = np.zeros(volume.image.shape[1:], np.uint8) if volume.label is None else volume.label.copy()
    background = label == 0
    outcomes = [_label_organ(organ, ids[organ], volume, label, background) for organ in ids]
    info = volume.info
    added = {outcome.class_id: outcome.organ for outcome in outcomes if outcome.voxels and not outcome.kept}
    if added:
        named = writer.classes
        info = writer.write_label(info.id, label, {key: named.get(key, name) for key, name in added.items()})
        label.setflags(write=False)
        volume = Volume(info=info, image=volume.image, label=label)
    return LabelledVolume(id=info.id, organs=tuple(outcomes), volume=volume)


def _label_organ(organ: str, class_id: int, volume: Volume, label: NDArray[np.uint8], background: NDArray[np.bool_]) -> OrganOutcome:
    """Write one organ into `label`, where `background` is set; what was written leaves the background."""
    before = volume.info.class_voxels.get(class_id, 0)
    if before:
        return OrganOutcome(organ=organ, class_id=class_id, voxels=before, kept=True)
    if volume.image.shape[0] != 1:
        return OrganOutcome(organ=organ, class_id=class_id, reason=f"the volume has {volume.image.shape[0]} channels, a CT has one")
    finding = ORGANS[organ](volume.image[0], volume.info.spacing_mm)
    if finding.mask is None:
        return OrganOutcome(organ=organ, class_id=class_id, reason=finding.reason)
    new = finding.mask & background
    if not new.any():
        return OrganOutcome(organ=organ, class_id=class_id, reason="all of its voxels carry another label, which is kept")
    label[new] = class_id
    background &= ~new
    return OrganOutcome(organ=organ, class_id=class_id, voxels=int(new.sum()))
