"""What changes while a run goes on: the learning rate, and the recipe. Both follow from the steps' losses, so a resumed run repeats them.

Nothing here is asked for the time or a random number. `state` and `restore` are what a checkpoint keeps.
"""

from __future__ import annotations

import math
from typing import Any

from augclient import Recipe

from augtrain.fit.sections import PLATEAU, AugmentationConfig, RateConfig


class Plateau:
    """Tells when values have not fallen `patience` times in a row.

    Args:
        min_delta: share by which a value must lie below the best one to count as fallen.
    """

    def __init__(self, patience: int, min_delta: float) -> None:
        self._patience = patience
        self._min_delta = min_delta
        self.best: float | None = None
        self.failures = 0

    def observe(self, value: float) -> bool:
        """Whether the patience ended with this value; counting begins anew then."""
        if self.best is None or value < self.best - self._min_delta * abs(self.best):
            self.best, self.failures = value, 0
            return False
        self.failures += 1
        if self.failures < self._patience:
            return False
        self.failures = 0
        return True

    def forget(self) -> None:
        """Begin anew: what is measured has changed."""
        self.best, self.failures = None, 0


class LearningRate:
    """The rate of each step."""

    def __init__(self, first: float, config: RateConfig) -> None:
        self._first = first
        self._config = config
        self._plateau = Plateau(config.patience, config.min_delta)
        self._drops = 0

    def at(self, step: int) -> float:
        """The rate of a step."""
        drops = step // self._config.period if self._config.rule == "period" else self._drops
        # exp of a sum instead of a power: a run of any length underflows to 0 and never raises
        return max(self._first * math.exp(drops * math.log(self._config.factor)), self._config.minimum)

    def observe(self, kind: str, loss: float) -> None:
        """Take a mean training loss or a validation's loss ("training", "validation")."""
        if self._config.rule == PLATEAU and kind == self._config.monitor and self._plateau.observe(loss):
            self._drops += 1

    def begin_augmentation(self) -> None:
        """The training loss jumps now: what was reached before says nothing of what comes."""
        if self._config.monitor == "training":
            self._plateau.forget()

    def state(self) -> dict[str, Any]:
        """JSON-able."""
        return {"drops": self._drops, "best": self._plateau.best, "failures": self._plateau.failures}

    def restore(self, state: dict[str, Any]) -> None:
        self._drops, self._plateau.best, self._plateau.failures = state["drops"], state["best"], state["failures"]


class Augmentation:
    """From which step on batches are augmented.

    Attributes:
        start: the first augmented step; None: not known yet.
    """

    def __init__(self, config: AugmentationConfig) -> None:
        self._plateau = Plateau(config.patience, config.min_delta)
        self.start = config.start if isinstance(config.start, int) else None

    def observe(self, next_step: int, loss: float) -> bool:
        """Take a mean training loss; whether augmentation begins at `next_step` because of it."""
        if self.start is not None or not self._plateau.observe(loss):
            return False
        self.start = next_step
        return True

    def state(self) -> dict[str, Any]:
        """JSON-able."""
        return {"start": self.start, "best": self._plateau.best, "failures": self._plateau.failures}

    def restore(self, state: dict[str, Any]) -> None:
        self.start, self._plateau.best, self._plateau.failures = state["start"], state["best"], state["failures"]


def whole_recipe(recipe: Recipe) -> Recipe:
    """The recipe that gives a whole volume as the network should see it, in a patch of the volume's size."""
    sections = {name: table for name, table in recipe.without_augmentation().to_dict().items() if name != "crop"}
    return Recipe.from_dict({**sections, "crop": {"mode": "center", "pad": True}})


def window_of(recipe: Recipe) -> tuple[float, float]:
    """(low, high) in the middle of the ranges that the recipe draws from."""
    window = recipe.to_dict()["window"]
    low, high = (sum(window.get(key, [0.0, 0.0])) / 2 for key in ("low", "high"))
    return low, high
