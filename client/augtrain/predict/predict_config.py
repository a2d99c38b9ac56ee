"""What is asked of a prediction, checked before any work."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from augclient import Recipe
from augclient.errors import ConfigError, RecipeError

from augtrain.predict.test_time import DEFAULT_RECIPE
from augtrain.sliding_window import WEIGHTINGS


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictConfig:
    """How scans are segmented and what is written of it.

    Attributes:
        patch: (Z, Y, X) of a tile; None: that of the training.
        overlap, weighting, batch_size: see augtrain.sliding_window.segment.
        transforms: how many transforms of each volume are segmented besides it and averaged (test-time augmentation).
        recipe: what they are drawn from; its [affine] section.
        classes: names of the classes to write, all others become background; None: all.
        largest_component: whether of each class only the largest connected piece stays.
        probabilities: whether the probability of each class is written too.
        pictures: folder for one picture per scan; None: none.
    Raises:
        ConfigError, RecipeError: a value is not allowed.
    """

    patch: tuple[int, int, int] | None = None
    overlap: float = 0.5
    weighting: str = "flat"
    batch_size: int = 1
    transforms: int = 0
    recipe: Recipe = DEFAULT_RECIPE
    classes: tuple[str, ...] | None = None
    largest_component: bool = False
    probabilities: bool = False
    pictures: Path | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.overlap < 1:
            raise ConfigError(f"overlap: got {self.overlap}; allowed: [0, 1), the share of a tile's side")
        if self.weighting not in WEIGHTINGS:
            raise ConfigError(f"weighting: got {self.weighting!r}; allowed: {', '.join(WEIGHTINGS)}")
        if self.batch_size < 1:
            raise ConfigError(f"batch size: got {self.batch_size}; allowed: at least 1 tile")
        if self.transforms < 0:
            raise ConfigError(f"transforms: got {self.transforms}; allowed: 0 or more")
        if self.transforms and "affine" not in self.recipe.to_dict():
            raise RecipeError("the recipe for test-time augmentation has no [affine] section: each draw would be the volume as it is")
