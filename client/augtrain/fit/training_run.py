"""A training run: from a config to a folder with a trained network, by way of any number of kills."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import itertools
import json
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from augclient import Dataset
from augclient.contract import DEFAULT_FILL, ignored_label
from augclient.errors import ConfigError, StateError
from numpy.typing import NDArray

from augtrain.artifact import ModelCard, load_model, save_model
from augtrain.fit.connection import connect_server
from augtrain.fit.event_file import EventFile
from augtrain.fit.feed import BatchFeed
from augtrain.fit.fit_config import FitConfig
from augtrain.fit.history import History, Validation
from augtrain.fit.learner import Learner, describe_device, find_network
from augtrain.fit.pictures import draw_curves, draw_prediction
from augtrain.fit.run_folder import check_identity, hold_folder, write_identity
from augtrain.fit.run_progress import RunProgress
from augtrain.fit.schedule import window_of
from augtrain.fit.stop_request import StopRequest
from augtrain.fit.training import Training
from augtrain.fit.validation import Validator
from augtrain.fit.volumes import Volumes, split_volumes
from augtrain.losses import SegmentationLoss, parse_loss

_ROUNDING = 1e-6  # of cosines: at 45 degrees two orders of axes are as near
_LAST_STEPS = 20  # whose losses are averaged for the result


@dataclass(frozen=True, slots=True, kw_only=True)
class FitResult:
    """What a run came to.

    Attributes:
        out: its folder; the network is in out / "model", for `augtrain predict --model`.
        steps: batches trained on, in all sessions together.
        finished: False where it was stopped; the same command goes on.
        loss: mean of the last 20 steps'.
        best: the validation whose network was saved; None without validation, when the last network was.
        parameters: numbers that were learnt.
        step_s: median time of a step. wait_share: of the step time, spent waiting for data. None before the second step.
        transport: the road that the batches took in this session: "local" or "grpc"; None: none came.
        augmented_from: first step with augmentation; None: it did not begin.
    """

    out: Path
    steps: int
    finished: bool
    loss: float
    best: Validation | None
    parameters: int
    step_s: float | None
    wait_share: float | None
    transport: str | None
    augmented_from: int | None

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**dataclasses.asdict(self), "out": str(self.out)}


def fit(
    config: FitConfig,
    *,
    progress: RunProgress | None = None,
    on_step: Callable[[int, float], None] | None = None,
    pictures: bool = True,
) -> FitResult:
    """Train a network, or go on where the run of this folder stopped.

    Args:
        progress: told how far it is; None: nobody is.
        on_step: called with (step, loss) after each step, before anything of it is written.
        pictures: whether curves.png and prediction.png are drawn at the end.
    Returns:
        see FitResult. SIGINT and SIGTERM end a run at a checkpoint, with `finished` False.
    Raises:
        ConfigError, NotFoundError, PatchError, RecipeError, StateError, UnavailableError: before the first step, where something does not
            fit or is not there. DivergedError: the loss is no number any more; the last good checkpoint is kept.
    """
    network = find_network(config)
    progress = progress or RunProgress()
    progress.note(describe_device())
    with hold_folder(config.out) as out, connect_server(config) as server, StopRequest() as stop:
        dataset = server.dataset()
        volumes = split_volumes(dataset, config.batches, config.validation, config.recipe)
        objective = parse_loss(config.loss, class_voxels=volumes.class_voxels, ignore=ignored_label(volumes.classes))
        classes = {id: name for id, name in volumes.classes.items() if id != objective.ignore}
        _check_occluded_label(config, classes, objective)
        channels = _channels(dataset, volumes)
        identity = _identity(config, dataset, volumes)
        check_identity(out, identity)
        learner = Learner(config, network, objective, outputs=max(classes) + 1, channels=channels)
        feed = BatchFeed(server, config, volumes.training, flat=network.dimensions == 2)
        validator = Validator(server, config, classes, objective.ignore)

        def save(steps: int) -> None:
            save_model(out / "model", learner.network, _card(config, dataset, classes, channels, steps))

        try:
            training = Training(config, out, learner, feed, validator, volumes.validation, stop, save, progress)
            training.prepare()
            write_identity(out, identity)
            events = EventFile(out / "tensorboard", training.step + 1) if config.tensorboard else None
            try:
                finished = training.run(events, on_step or (lambda step, loss: None))
            finally:
                if events is not None:
                    events.close()
            result = _result(out, training, feed, learner, finished=finished)
        finally:
            feed.close()
        (out / "result.json").write_text(json.dumps(result.to_dict(), indent=1, allow_nan=False), encoding="utf-8")
        if pictures:
            draw_curves(out / "curves.png", training.history, result.augmented_from)
        if pictures and finished:
            _draw_prediction(out, validator, volumes, classes)
        return result


def _result(out: Path, training: Training, feed: BatchFeed, learner: Learner, *, finished: bool) -> FitResult:
    history: History = training.history
    usual = history.column("step_s")[history.column("first") == 0]
    started = training.augmentation.start
    return FitResult(
        out=out,
        steps=training.step,
        finished=finished,
        loss=history.mean_loss(_LAST_STEPS),
        best=history.best(),
        parameters=learner.parameters,
        step_s=statistics.median(usual.tolist()) if len(usual) else None,
        wait_share=history.wait_share(),
        transport=feed.transport,
        augmented_from=started if started is not None and started < training.step else None,
    )


def _draw_prediction(out: Path, validator: Validator, volumes: Volumes, classes: dict[int, str]) -> None:
    """A picture of the saved network's work: on the first validation volume, or on the first of training where there is none."""
    network, _ = load_model(out / "model")
    seen = not volumes.validation
    one = validator.segment(network, (volumes.validation or volumes.training)[0])
    draw_prediction(out / "prediction.png", one, classes, title=f"{one.id}, {'trained on' if seen else 'validation'}")


def _identity(config: FitConfig, dataset: Dataset, volumes: Volumes) -> dict[str, Any]:
    """What must be the same for a run to go on."""
    return {
        "dataset": dataset.fingerprint,
        "network": config.network,
        "network_options": dict(config.network_options),
        "loss": config.loss if isinstance(config.loss, str) else dict(config.loss),
        "recipe": config.recipe.to_dict(),
        "patch": list(config.batches.patch),
        "batch_size": config.batches.size,
        "dtype": config.batches.dtype,
        "seed": config.seed,
        "optimizer": config.optimizer.name,
        "precision": config.optimizer.precision,
        "augmentation": dataclasses.asdict(config.augmentation),
        "training_volumes": list(volumes.training),
        "validation_volumes": list(volumes.validation),
    }


def _card(config: FitConfig, dataset: Dataset, classes: dict[int, str], channels: int, steps: int) -> ModelCard:
    output = config.recipe.to_dict().get("output", {})
    spacing = output.get("spacing_mm", dataset.spacing_mm)
    several = (spacing,) * 3 if isinstance(spacing, int | float) else spacing
    return ModelCard(
        network=config.network,
        network_options=dict(config.network_options),
        classes=classes,
        channels=channels,
        patch=(config.batches.patch[0], config.batches.patch[1], config.batches.patch[2]),
        spacing_mm=None if several is None else (float(several[0]), float(several[1]), float(several[2])),
        modality=dataset.modality,
        window=window_of(config.recipe),
        fill=float(output.get("fill", DEFAULT_FILL[dataset.modality])),
        loss=config.loss if isinstance(config.loss, str) else json.dumps(dict(config.loss)),
        trained_steps=steps,
        fingerprint=dataset.fingerprint,
        version=importlib.metadata.version("augserver-client"),
        orientation="lps" if all(_is_turned(info.affine) for info in dataset.infos.values()) else "file",
    )


def _is_turned(affine: NDArray[np.float64]) -> bool:
    """Whether the axes of a volume run to Superior, Posterior and Left as nearly as a permutation and flips could make them."""
    along = (affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0))[::-1]  # row: patient axis z, y, x; column: axis of the volume
    best = max(sum(abs(along[row, column]) for row, column in enumerate(order)) for order in itertools.permutations(range(3)))
    return bool((np.diag(along) > 0).all() and np.trace(along) > best - _ROUNDING)


def _channels(dataset: Dataset, volumes: Volumes) -> int:
    found = {dataset.info(id).shape[0] for id in (*volumes.training, *volumes.validation)}
    if len(found) > 1:
        raise StateError(
            f"the volumes have {sorted(found)} channels, and a network has one number; name those of one kind in batches.volumes"
        )
    return found.pop()


def _check_occluded_label(config: FitConfig, classes: dict[int, str], objective: SegmentationLoss) -> None:
    label = config.recipe.to_dict().get("occlude", {}).get("label", 0)
    if label != "keep" and label != objective.ignore and label > max(classes):
        raise ConfigError(
            f"occlude.label of the recipe: got {label}, which no class has ({', '.join(f'{id} {name}' for id, name in classes.items())}); "
            f'allowed: one of these, "keep", or an id that the loss ignores, as in loss = "iou:ignore={label}"'
        )
