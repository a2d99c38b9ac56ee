"""What a run leaves behind, and what is refused before its first step."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from augclient.errors import (
    AugError,
    ConfigError,
    GeometryError,
    NotFoundError,
    PatchError,
    RecipeError,
    StateError,
    UnavailableError,
)
from augtrain.artifact import read_card
from augtrain.fit import FitConfig, FitResult, fit
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

pytestmark = pytest.mark.usefixtures("tiny_network")

ORGANS = ["liver", "bladder", "lungs", "kidneys", "bone"]


def test_the_result_says_what_the_files_say(undisturbed: FitResult) -> None:
    with (undisturbed.out / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["step"]) for row in rows] == list(range(12))
    assert undisturbed.loss == pytest.approx(np.mean([float(row["loss"]) for row in rows]))
    assert {float(row["learning_rate"]) for row in rows} == {0.01}
    usual = rows[1:]  # nothing is fetched ahead of the first
    share = sum(float(row["wait_s"]) for row in usual) / sum(float(row["step_s"]) for row in usual)
    assert undisturbed.wait_share == pytest.approx(share)
    assert json.loads((undisturbed.out / "result.json").read_text()) == json.loads(json.dumps(undisturbed.to_dict()))
    assert (undisturbed.steps, undisturbed.finished, undisturbed.augmented_from) == (12, True, 0)
    assert undisturbed.transport == "local"


def test_the_network_of_the_best_validation_is_saved(undisturbed: FitResult) -> None:
    with (undisturbed.out / "validation.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["step"]) for row in rows] == [5, 10, 12]
    assert list(rows[0]) == ["step", "loss", "mean_dice", *ORGANS]
    best = max(rows, key=lambda row: float(row["mean_dice"]))
    assert undisturbed.best is not None
    assert undisturbed.best.step == int(best["step"])
    assert list(undisturbed.best.volumes) == ["torso_3"]
    card, _ = read_card(undisturbed.out / "model")
    assert (card.network, card.trained_steps, card.patch, card.spacing_mm) == ("tiny", int(best["step"]), (12, 10, 14), (14.0,) * 3)
    assert (card.window, card.fill, card.modality) == ((-800.0, 600.0), -1000.0, "ct")
    assert list(card.classes.values()) == ["background", *ORGANS]


def test_pictures_and_events_are_there_to_be_looked_at(undisturbed: FitResult) -> None:
    for name in ("curves.png", "prediction.png"):
        pixels = np.asarray(Image.open(undisturbed.out / name).convert("RGB"))
        assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 50
    reader = EventAccumulator(str(undisturbed.out / "tensorboard"))
    reader.Reload()
    scalars = {"training/loss", "learning_rate", "time/step_ms", "time/share_waiting_for_data", "validation/loss", "validation/mean_dice"}
    assert set(reader.Tags()["scalars"]) == scalars | {f"validation/dice/{name}" for name in ORGANS}
    assert [each.step for each in reader.Scalars("training/loss")] == list(range(1, 13))


@pytest.mark.slow
def test_a_finished_run_says_the_same_again_and_trains_on_when_asked_for_more(
    make_config: Callable[..., FitConfig], undisturbed: FitResult, read_losses: Any
) -> None:
    changes = {"validation.volumes": [], "network.features": 4, "tensorboard": True}
    short = make_config({"steps": 4, **changes})
    first = fit(short)
    steps: list[int] = []
    assert fit(short, on_step=lambda step, loss: steps.append(step)).to_dict() == {**first.to_dict(), "transport": None}
    assert steps == []
    longer = make_config({"steps": 6, **changes})
    again = fit(longer, on_step=lambda step, loss: steps.append(step))
    assert steps == [4, 5]
    assert (again.steps, again.best) == (6, None)
    assert read_card(again.out / "model")[0].trained_steps == 6
    reader = EventAccumulator(str(again.out / "tensorboard"))
    reader.Reload()
    assert [each.step for each in reader.Scalars("training/loss")] == [1, 2, 3, 4, 5, 6]


def test_weights_that_leave_the_numbers_end_the_run_and_keep_the_last_good_checkpoint(make_config: Callable[..., FitConfig]) -> None:
    config = make_config({"checkpoints.every": 1, "validation.volumes": []})

    def spoil(step: int, loss: float) -> None:
        if step == 2:
            monkey.setattr("augtrain.fit.learner.Learner.step", lambda *_: float("nan"))

    with (
        pytest.MonkeyPatch.context() as monkey,
        pytest.raises(AugError, match=r"the loss of step 3 is nan: .*checkpoint of step 3 is kept"),
    ):
        fit(config, on_step=spoil)
    assert max(path.name for path in (config.out / "checkpoints").iterdir()) == "step_000000003.npz"
    assert fit(config).finished


@pytest.mark.slow
def test_a_rate_that_is_far_too_high_ends_with_a_way_out(make_config: Callable[..., FitConfig]) -> None:
    config = make_config({"optimizer": {"name": "sgd", "learning_rate": 1e30}, "validation.volumes": []})
    with pytest.raises(AugError, match=r"diverged.*lower optimizer\.learning_rate"):
        fit(config)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"network.name": "unet3"}, ConfigError, "there is no 'unet3'; did you mean 'unet3d'"),
        ({"network.featurs": 3}, ConfigError, "no option 'featurs'; did you mean 'features'"),
        ({"network.name": "unet3d", "batches.patch": [12, 16, 16]}, PatchError, "nearest allowed patch"),
        ({"loss": "ious"}, ConfigError, "did you mean 'iou'"),
        ({"loss": "dice:weighing=square"}, ConfigError, "did you mean 'weighting'"),
        ({"loss": "multi_resolution(iou)"}, ConfigError, "3 for 1 predictions"),
        ({"network.heads": 2}, GeometryError, "wrap it"),
        ({"recipe.labels": {"keep": ["livre"]}}, NotFoundError, "did you mean 'liver'"),
        ({"recipe.occlude": {"max_voxels": 3, "label": 9}}, ConfigError, "got 9, which no class has"),
        ({"recipe.crop": {"mode": "centre"}}, RecipeError, "center"),
        ({"batches.patch": [40, 10, 14]}, PatchError, "crop.pad"),
        ({"validation.volumes": ["torso_33"]}, NotFoundError, "did you mean 'torso_3'"),
        ({"batches.volumes": ["torso_0"], "validation": {"fold": "0/2"}}, ConfigError, "from 2 to the 1 volumes"),
        ({"server": "127.0.0.1:1"}, UnavailableError, "127.0.0.1:1"),
        ({"token_file": "no/such/file"}, NotFoundError, "no/such/file"),
    ],
)
def test_what_does_not_fit_is_refused_before_the_first_step(
    make_config: Callable[..., FitConfig], changes: dict[str, Any], error: type[AugError], message: str
) -> None:
    def never(step: int, loss: float) -> None:
        raise AssertionError("a step was taken")

    config = make_config(changes)
    with pytest.raises(error, match=message):
        fit(config, on_step=never)
    assert not (config.out / "run.json").exists()  # the folder is still free for a run that is sound


@pytest.fixture
def other_address(tmp_path: Path, torsos: Path, start_server: Callable[[Path], str]) -> str:
    """A server of one torso less."""
    from augserver.store import Dataset, DatasetWriter

    whole = Dataset.open(torsos)
    with DatasetWriter(tmp_path / "less.zarr", modality="ct", classes=whole.classes) as writer:
        for id in whole.volumes[:4]:
            volume = whole.read(id)
            writer.write(id, volume.image, volume.label, volume.info.spacing_mm, volume.info.affine, {})
        writer.finish()
    return start_server(tmp_path / "less.zarr")


def test_a_class_that_is_named_ignore_is_not_learnt(
    make_config: Callable[..., FitConfig], tmp_path: Path, torsos: Path, start_server: Callable[[Path], str]
) -> None:
    from augserver.store import Dataset, DatasetWriter

    whole = Dataset.open(torsos)
    ignored = max(whole.classes)
    with DatasetWriter(tmp_path / "ignored.zarr", modality="ct", classes={**whole.classes, ignored: "ignore"}) as writer:
        for id in whole.volumes:
            volume = whole.read(id)
            writer.write(id, volume.image, volume.label, volume.info.spacing_mm, volume.info.affine, {})
        writer.finish()
    config = make_config({"server": start_server(tmp_path / "ignored.zarr"), "steps": 5, "recipe.output": {"outside_label": "ignore"}})
    fit(config)
    learnt = json.loads((config.out / "model" / "card.json").read_text())["classes"]
    assert {int(id): name for id, name in learnt.items()} == {0: "background"} | {id: n for id, n in whole.classes.items() if id != ignored}


def test_a_checkpoint_of_another_dataset_or_model_is_refused(make_config: Callable[..., FitConfig], other_address: str) -> None:
    fit(make_config({"steps": 2, "validation.volumes": []}))
    for changes, message in (
        ({"server": other_address}, "another run: dataset was"),
        ({"network": "unet3d", "batches.patch": [8, 8, 8]}, 'network was "tiny", and is "unet3d"'),
        ({"network.features": 7}, "network_options"),
        ({"seed": 5}, "seed was 0, and is 5"),
        ({"batches.patch": [8, 8, 8]}, "patch was"),
    ):
        with pytest.raises(StateError, match=message):
            fit(make_config({"steps": 2, "validation.volumes": [], **changes}))
