"""Which volumes a run trains on and which it is validated with: by facts of the dataset alone, so that every machine chooses the same.

A volume's place among the folds comes from a hash of its id. It does not depend on the other volumes: where scans join a dataset, those
that were there stay on their side, as far as equal parts allow with `fold` and always with `fraction`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass

from augclient import Dataset, Recipe
from augclient.contract import IGNORE_CLASS, ignored_label
from augclient.errors import ConfigError, NotFoundError, StateError

from augtrain.fit.sections import BatchConfig, ValidationConfig
from augtrain.fit.toml_table import name_nearest

_FOLD = re.compile(r"(\d{1,4})/(\d{1,4})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Volumes:
    """Ids, sorted; no volume is on both sides.

    Attributes:
        training: at least one.
        validation: may be empty.
        classes: label id -> name of what the recipe keeps; 0 is the background.
        class_voxels: by the same ids, of the training volumes.
    """

    training: tuple[str, ...]
    validation: tuple[str, ...]
    classes: dict[int, str]
    class_voxels: dict[int, int]


def split_volumes(dataset: Dataset, batches: BatchConfig, validation: ValidationConfig, recipe: Recipe) -> Volumes:
    """Choose the volumes of a run.

    Args:
        recipe: its labels.keep says which classes there are.
    Raises:
        NotFoundError: an id that the dataset does not have, or a class (names the nearest).
        StateError: a volume without labels, or with a label id that no class has.
        ConfigError: nothing is left to train on, or `validation` asks for what cannot be.
    """
    pool = tuple(sorted({dataset.info(id).id for id in batches.volumes or dataset.volumes}))
    chosen = _choose(pool, dataset, validation)
    training = tuple(id for id in pool if id not in chosen)
    if not training:
        raise ConfigError(f"validation: takes all {len(pool)} volumes; allowed: fewer, so that some are left to train on")
    _check_labels(dataset, (*training, *chosen))
    classes = _keep(dataset.classes, recipe)
    counts = dict.fromkeys(classes, 0)
    for id in training:
        for label, voxels in dataset.info(id).class_voxels.items():
            counts[label if label in classes else 0] += voxels
    return Volumes(training=training, validation=chosen, classes=classes, class_voxels=counts)


def _keep(classes: dict[int, str], recipe: Recipe) -> dict[int, str]:
    """The classes that are left, with the ignored one; labels of the others become 0."""
    names = recipe.to_dict().get("labels", {}).get("keep")
    for name in names or ():
        if name not in classes.values():
            raise NotFoundError(f"labels.keep of the recipe: there is no class {name!r}{name_nearest(name, list(classes.values()))}")
    kept = {id: name for id, name in sorted(classes.items()) if names is None or name in names or id == 0 or name == IGNORE_CLASS}
    if not kept.keys() - {0, ignored_label(kept)}:
        raise StateError("the dataset has no class besides the background, so there is nothing to learn; ingest it with labels")
    return {0: "background"} | kept


def _choose(pool: Sequence[str], dataset: Dataset, validation: ValidationConfig) -> tuple[str, ...]:
    if validation.volumes is not None:
        return tuple(sorted({dataset.info(id).id for id in validation.volumes}))
    if validation.fold is not None:
        number, folds = _read_fold(validation.fold, len(pool))
        return tuple(sorted(sorted(pool, key=_digest)[number::folds]))
    if validation.fraction:
        chosen = tuple(id for id in pool if _digest(id) < validation.fraction * (1 << 64))
        # a small dataset may have no id below the threshold; validating was asked for, so the lowest one is taken
        return chosen or (min(pool, key=_digest),)
    return ()


def _read_fold(text: str, volumes: int) -> tuple[int, int]:
    match = _FOLD.fullmatch(text)
    number, folds = (int(match[1]), int(match[2])) if match else (0, 0)
    if not 2 <= folds <= volumes or not number < folds:
        raise ConfigError(
            f'validation.fold: got {text!r}; allowed: "i/k", fold i of k, with i below k, and k from 2 to the {volumes} volumes there are'
        )
    return number, folds


def _digest(id: str) -> int:
    return int.from_bytes(hashlib.blake2b(id.encode(), digest_size=8).digest(), "big")


def _check_labels(dataset: Dataset, ids: Sequence[str]) -> None:
    bare = [id for id in ids if not dataset.info(id).has_label]
    if bare:
        raise StateError(
            f"{len(bare)} of {len(ids)} volumes have no labels ({', '.join(bare[:5])}{', ...' if len(bare) > 5 else ''}); label "
            "them, or name those to use in batches.volumes"
        )
    for id in ids:
        strange = sorted(dataset.info(id).class_voxels.keys() - dataset.classes.keys())
        if strange:
            raise StateError(
                f"volume {id!r} has the label ids {strange}, and the dataset's classes are {sorted(dataset.classes)}; ingest it with "
                "a class for each, or leave it out by batches.volumes"
            )
