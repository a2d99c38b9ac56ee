"""Who is validated follows from the ids alone, and never changes sides by chance."""

from __future__ import annotations

import random
import re
from typing import Any

import numpy as np
import pytest
from augclient import Dataset, Recipe, VolumeInfo
from augclient.errors import AugError, ConfigError, NotFoundError, StateError
from augtrain.fit import BatchConfig, ValidationConfig
from augtrain.fit.volumes import Volumes, split_volumes

BATCHES = BatchConfig(patch=(8, 8, 8))
CLASSES = {0: "background", 1: "liver", 4: "bone"}


def dataset(ids: list[str], counts: dict[int, int] | None = None, *, unlabelled: tuple[str, ...] = ()) -> Dataset:
    infos = {
        id: VolumeInfo(
            id=id,
            shape=(1, 9, 8, 10),
            dtype="int16",
            spacing_mm=(3.0, 1.0, 0.5),
            affine=np.eye(4),
            has_label=id not in unlabelled,
            class_voxels=counts or {0: 700, 1: 15, 4: 5},
        )
        for id in ids
    }
    return Dataset(
        fingerprint="f", modality="ct", volumes=tuple(ids), classes=CLASSES, class_voxels={}, spacing_mm=None, infos=infos, quarantined={}
    )


def split(ids: list[str], batches: BatchConfig = BATCHES, recipe: dict[str, Any] | None = None, **validation: Any) -> Volumes:
    return split_volumes(dataset(ids), batches, ValidationConfig(**validation), Recipe(**recipe or {}))


IDS = [f"case_{k}" for k in range(40)]


def test_the_choice_is_one_of_this_known_answer_whatever_the_order() -> None:
    """Every tenth from the third on of the ids sorted by `b2sum -l 64`."""
    shuffled = random.Random(3).sample(IDS, len(IDS))
    assert split(shuffled, fold="2/10").validation == split(IDS, fold="2/10").validation == ("case_0", "case_1", "case_30", "case_34")


def test_folds_part_the_volumes() -> None:
    folds = [split(IDS[:23], fold=f"{k}/5") for k in range(5)]
    assert sorted(id for fold in folds for id in fold.validation) == sorted(IDS[:23])
    assert {len(fold.validation) for fold in folds} == {4, 5}
    assert all(sorted(fold.training + fold.validation) == sorted(IDS[:23]) for fold in folds)


def test_a_fraction_keeps_every_volume_on_its_side_when_others_join() -> None:
    few, many = split(IDS[:10], fraction=0.3), split(IDS, fraction=0.3)
    assert set(few.validation) == set(many.validation) & set(IDS[:10])
    assert 0.15 < len(many.validation) / 40 < 0.45
    assert len(split(IDS[:3], fraction=0.001).validation) == 1  # validation was asked for


def test_named_volumes_may_come_from_outside_those_to_train_on() -> None:
    chosen = split(IDS[:5], BatchConfig(patch=(8, 8, 8), volumes=("case_3", "case_1")), volumes=("case_4", "case_1"))
    assert (chosen.training, chosen.validation) == (("case_3",), ("case_1", "case_4"))


def test_voxels_are_counted_in_training_volumes_and_by_kept_classes() -> None:
    assert split(IDS[:4], volumes=("case_0",)).class_voxels == {0: 2100, 1: 45, 4: 15}
    kept = split(IDS[:4], volumes=("case_0",), recipe={"labels": {"keep": ["liver"]}})
    assert (kept.classes, kept.class_voxels) == ({0: "background", 1: "liver"}, {0: 2115, 1: 45})


def test_the_ignored_class_is_always_kept_and_is_none_to_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CLASSES, 1, "ignore")
    assert split(IDS[:4], recipe={"labels": {"keep": ["bone"]}}).classes == {0: "background", 1: "ignore", 4: "bone"}
    monkeypatch.delitem(CLASSES, 4)
    with pytest.raises(StateError, match="no class besides the background"):
        split_volumes(dataset(IDS[:4], {0: 700, 1: 15}), BATCHES, ValidationConfig(), Recipe())


@pytest.mark.parametrize(
    ("validation", "recipe", "error", "message"),
    [
        ({"volumes": ("cas_1",)}, {}, NotFoundError, "did you mean 'case_1'"),
        ({"volumes": tuple(IDS[:4])}, {}, ConfigError, "takes all 4 volumes"),
        ({"fold": "4/4"}, {}, ConfigError, "i below k"),
        ({"fold": "0/9"}, {}, ConfigError, "from 2 to the 4 volumes"),
        ({"fold": "half"}, {}, ConfigError, "got 'half'"),
        ({}, {"labels": {"keep": ["livre"]}}, NotFoundError, "did you mean 'liver'"),
        ({}, {"labels": {"keep": ["background"]}}, StateError, "nothing to learn"),
    ],
)
def test_a_choice_that_cannot_be_is_refused(validation: Any, recipe: Any, error: type[AugError], message: str) -> None:
    with pytest.raises(error, match=re.escape(message)):
        split(IDS[:4], recipe=recipe, **validation)


def test_volumes_without_labels_or_with_ids_that_no_class_has_are_refused() -> None:
    with pytest.raises(StateError, match="1 of 3 volumes have no labels \\(case_2\\)"):
        split_volumes(dataset(IDS[:3], unlabelled=("case_2",)), BATCHES, ValidationConfig(), Recipe())
    with pytest.raises(StateError, match="label ids \\[7\\]"):
        split_volumes(dataset(IDS[:3], {0: 5, 7: 1}), BATCHES, ValidationConfig(), Recipe())
