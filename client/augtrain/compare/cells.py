"""What is compared: the cells of the table, and the run that each one is.

Cells differ in the loss, in whether batches are augmented, and in the seed. Everything else is the template's: the network, the volumes,
the number of steps. With the same seed two cells see the same crops of the same volumes and begin with the same weights.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from augclient.errors import ConfigError

from augtrain.fit import FitConfig
from augtrain.fit.sections import require

TORSOS = Path(__file__).with_name("torsos.toml")
"""A template for the synthetic torsos of `augserver demo`, without a choice of validation volumes."""

LOSSES = (
    "cross_entropy",
    "cross_entropy:class_weights=balanced",
    "iou",
    "dice",
    "dice:weighting=simple",
    "dice:weighting=square",
    "dice:reduce=batch",
)
"""Rister 2018 (cross-entropy, plain and balanced, and IoU), Shen 2018 (Dice, uniform, simple, square), Nguyen (Dice over the batch)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One run of a comparison.

    Attributes:
        loss: text for augtrain.losses.parse_loss.
        augmented: whether the recipe's augmentation applies, or its crop, labels, output and the middle of its window alone.
        seed: of the batches and the first weights.
    """

    loss: str
    augmented: bool
    seed: int

    @property
    def name(self) -> str:
        """Unique, and the name of a folder on any system."""
        return f"{quote(self.loss, safe='')}-{'augmented' if self.augmented else 'plain'}-seed{self.seed}"


@dataclass(frozen=True, slots=True, kw_only=True)
class CompareConfig:
    """A whole comparison.

    Attributes:
        template: the run that the cells vary; its loss and seed are not looked at, and its `out` is the comparison's folder.
        losses, augmented, seeds: what they vary.
    Raises:
        ConfigError: one of these is empty or has a value twice, or the template has no validation volumes.
    """

    template: FitConfig
    losses: tuple[str, ...] = LOSSES
    augmented: tuple[bool, ...] = (False, True)
    seeds: tuple[int, ...] = (0, 1, 2)

    def __post_init__(self) -> None:
        for key, values in (("losses", self.losses), ("augmented", self.augmented), ("seeds", self.seeds)):
            require(len(values) > 0, key, list(values), "at least one")
            require(len(set(values)) == len(values), key, list(values), "each once")
        chosen = self.template.validation
        if not (chosen.volumes or chosen.fraction or chosen.fold):
            raise ConfigError("validation: a comparison scores volumes that are not trained on; allowed: volumes, fraction or fold")
        if True in self.augmented and self.template.recipe.without_augmentation() == self.template.recipe:
            raise ConfigError("recipe: has no augmentation to compare; allowed: one with [affine], [noise], ..., or --augmentation without")

    def cells(self) -> list[Cell]:
        """All of them, seed by seed, so that a comparison that is stopped early has whole tables."""
        return [
            Cell(loss=loss, augmented=augmented, seed=seed) for seed in self.seeds for loss in self.losses for augmented in self.augmented
        ]

    def run_of(self, cell: Cell) -> FitConfig:
        """The run of a cell."""
        recipe = self.template.recipe if cell.augmented else self.template.recipe.without_augmentation()
        out = self.template.out / "runs" / cell.name
        return dataclasses.replace(self.template, loss=cell.loss, recipe=recipe, seed=cell.seed, out=out, tensorboard=False)

    def identity(self, fingerprint: str, backend: str) -> dict[str, Any]:
        """What results must have in common to stand in one table, see FitConfig.shared_settings()."""
        return {**self.template.shared_settings(fingerprint, backend), "steps": self.template.steps}
