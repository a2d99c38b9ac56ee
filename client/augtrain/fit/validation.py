"""Segment the validation volumes as a whole, tile by tile, and score what comes out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from augclient import Server
from numpy.typing import NDArray

from augtrain.fit.feed import whole_volume
from augtrain.fit.fit_config import FitConfig
from augtrain.fit.history import Validation
from augtrain.fit.learner import Learner
from augtrain.fit.schedule import whole_recipe
from augtrain.metrics import report
from augtrain.sliding_window import count_tiles, predictor, segment


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Segmented:
    """One volume and what the network makes of it, on one grid (Z, Y, X).

    Attributes:
        id: of the volume.
        image: float32 (Z, Y, X, C), as the network sees it.
        truth, prediction: uint8 (Z, Y, X).
        spacing_mm: zyx.
    """

    id: str
    image: NDArray[np.float32]
    truth: NDArray[np.uint8]
    prediction: NDArray[np.uint8]
    spacing_mm: tuple[float, float, float]


class Validator:
    """Fetches volumes from the server at the recipe's spacing, with the middle of its window.

    Args:
        classes: label id -> name.
        ignore: label id without a say, if there is one.
    """

    def __init__(self, server: Server, config: FitConfig, classes: dict[int, str], ignore: int | None) -> None:
        self._server = server
        self._config = config
        self._recipe = whole_recipe(config.recipe)
        self._organs = {label: name for label, name in classes.items() if label}
        # ids that no class has lie below the largest one, and a network can answer with them
        self._scored = {label: classes.get(label, f"no class {label}") for label in range(max(classes) + 1)}
        self._ignore = ignore

    def check(self, volumes: tuple[str, ...]) -> None:
        """Fetch the largest volume: what the server refuses is to be known before the first step, not at the first validation."""
        infos = self._server.dataset().infos
        whole_volume(self._server, self._recipe, max(volumes, key=lambda id: int(np.prod(infos[id].shape))))

    def measure(self, learner: Learner, volumes: tuple[str, ...], step: int, on_tile: Callable[[float], None]) -> Validation:
        """Score volumes.

        Args:
            step: batches trained on.
            on_tile: called with the share that is done, in [0, 1]; what it raises ends the validation.
        Raises:
            DivergedError: the network's answer is not finite. Else what the server answers.
        """
        losses: list[float] = []
        scores: dict[str, dict[str, float | None]] = {}
        for number, id in enumerate(volumes):
            one, probabilities = self._segment(learner.network, id, partial(_on_share, on_tile, number / len(volumes), 1 / len(volumes)))
            losses.append(learner.whole_volume_loss(probabilities, one.truth))
            found = report(one.prediction, one.truth, one.spacing_mm, self._scored, ignore=self._ignore, surfaces=False)
            scores[id] = {name: found.per_class[label].dice if label in found.per_class else None for label, name in self._organs.items()}
        dice = {name: _mean([each[name] for each in scores.values()]) for name in self._organs.values()}
        return Validation(step=step, loss=float(np.mean(losses)), mean_dice=_mean(list(dice.values())), dice=dice, volumes=scores)

    def segment(self, network: Any, id: str) -> Segmented:
        """Segment one volume, for a picture."""
        return self._segment(network, id, lambda share: None)[0]

    def _segment(self, network: Any, id: str, on_share: Callable[[float], None]) -> tuple[Segmented, NDArray[np.float32]]:
        image, truth, spacing_mm = whole_volume(self._server, self._recipe, id)
        (z, y, x), settings = self._config.batches.patch, self._config.validation
        planes = len(network.input_shape) == 4
        patch = (1 if planes else z, y, x)
        tiles = count_tiles(image.shape[:3], patch, overlap=settings.overlap)
        probabilities = segment(
            predictor(network),
            image,
            patch,
            overlap=settings.overlap,
            weighting=settings.weighting,
            batch_size=settings.batch_size * (z if planes else 1),
            on_tile=lambda done, _: on_share(done / tiles),
        )
        prediction = probabilities.argmax(axis=-1).astype(np.uint8)
        return Segmented(id=id, image=image, truth=truth, prediction=prediction, spacing_mm=spacing_mm), probabilities


def _on_share(on_tile: Callable[[float], None], done: float, part: float, share: float) -> None:
    on_tile(done + part * share)


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
