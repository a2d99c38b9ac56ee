"""Cells into rows: the mean over the seeds, and how far they lie apart."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from augtrain.compare.results import CellResult


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """Values of one kind.

    Attributes:
        mean: None without a value.
        sd: standard deviation of the sample, divisor n - 1; None below two values.
        n: how many there are.
    """

    mean: float | None
    sd: float | None
    n: int

    @classmethod
    def of(cls, values: Iterable[float | None]) -> Spread:
        """Of those that are not None."""
        known = [value for value in values if value is not None]
        return cls(
            mean=statistics.fmean(known) if known else None,
            sd=statistics.stdev(known) if len(known) > 1 else None,
            n=len(known),
        )

    def __str__(self) -> str:
        if self.mean is None:
            return "-"
        return f"{self.mean:.3f}" if self.sd is None else f"{self.mean:.3f} ± {self.sd:.3f}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One loss, with or without augmentation.

    Attributes:
        seeds: those that are done; diverged: those of them that have no scores and are in no mean.
        mean_dice: mean Dice of the organs. dice: by organ.
        training_loss: of the last steps; losses have scales of their own.
        seconds: per run.
    """

    loss: str
    augmented: bool
    seeds: tuple[int, ...]
    diverged: tuple[int, ...]
    mean_dice: Spread
    dice: dict[str, Spread]
    training_loss: Spread
    seconds: Spread


def summarise(results: Sequence[CellResult]) -> list[Row]:
    """Rows of what is done, in the order in which their first cells stand."""
    groups: dict[tuple[str, bool], list[CellResult]] = {}
    for each in results:
        groups.setdefault((each.loss, each.augmented), []).append(each)
    organs = list(dict.fromkeys(name for each in results for name in each.dice))
    return [
        Row(
            loss=loss,
            augmented=augmented,
            seeds=tuple(each.seed for each in group),
            diverged=tuple(each.seed for each in group if each.undefined is not None),
            mean_dice=Spread.of(each.mean_dice for each in group),
            dice={name: Spread.of(each.dice.get(name) for each in group) for name in organs},
            training_loss=Spread.of(each.training_loss for each in group),
            seconds=Spread.of(each.seconds for each in group),
        )
        for (loss, augmented), group in groups.items()
    ]
