"""What is tuned: pairs of weights, how many of them survive a rung, and the run that each of them is."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from augclient.errors import ConfigError

from augtrain.fit import FitConfig
from augtrain.fit.sections import require

MEAN, WORST = "mean", "worst"
_CHOICES = (0.5, 1.0, 1.5)


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Weights:
    """Of the denominator TP + fp FP + fn FN of the IoU loss.

    Attributes:
        fp: of false positives. fn: of false negatives. Both >= 0, and one of them above 0.
    """

    fp: float
    fn: float

    def __post_init__(self) -> None:
        for key, value in (("fp", self.fp), ("fn", self.fn)):
            require(math.isfinite(value) and value >= 0, f"weights.{key}", value, "a finite number >= 0")
        require(self.fp + self.fn > 0, "weights", (self.fp, self.fn), "one of them above 0, or the loss is 0 for any prediction")

    def __str__(self) -> str:
        return f"{self.fp:g} / {self.fn:g}"

    @property
    def folder(self) -> str:
        return f"fp{self.fp!r}-fn{self.fn!r}"


GRID = tuple(Weights(fp=fp, fn=fn) for fp in _CHOICES for fn in _CHOICES)
"""The three pairs that Furtado tried (0.5 / 1.5, 1 / 1, 1.5 / 0.5), Dice (0.5 / 0.5), and what completes the grid."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrateConfig:
    """A whole calibration.

    Attributes:
        template: the run that the candidates vary. Its loss is an IoU, whose other options they keep; `steps` are those of a final run
            with the best weights, and `out` is the calibration's folder.
        candidates: pairs, each once.
        rung_steps: batches that every candidate is trained on before the first choice; by each further rung twice as many, in all.
        keep: share of the candidates that go on, rounded up.
        score: "mean" (Dice over the organs), "worst" (the organ of the lowest Dice), or an organ's name.
    """

    template: FitConfig
    candidates: tuple[Weights, ...] = GRID
    rung_steps: int = 100
    keep: float = 0.5
    score: str = MEAN

    def __post_init__(self) -> None:
        require(len(self.candidates) >= 2, "candidates", [str(each) for each in self.candidates], "at least two pairs of weights")
        require(len(set(self.candidates)) == len(self.candidates), "candidates", [str(each) for each in self.candidates], "each pair once")
        require(self.rung_steps >= 1, "rung_steps", self.rung_steps, "at least 1 step")
        require(0 < self.keep < 1, "keep", self.keep, "(0, 1)")
        chosen = self.template.validation
        if not (chosen.volumes or chosen.fraction or chosen.fold):
            raise ConfigError("validation: a calibration scores volumes that are not trained on; allowed: volumes, fraction or fold")
        self.loss_of(self.candidates[0])

    def survivors(self) -> list[int]:
        """How many candidates each rung trains; the last rung has two or more and chooses the best of them."""
        counts = [len(self.candidates)]
        # rounding up must not keep all of few
        while (after := min(math.ceil(counts[-1] * self.keep), counts[-1] - 1)) >= 2:
            counts.append(after)
        return counts

    def steps_of(self, rung: int) -> int:
        """Batches that a candidate has been trained on after a rung, the first of which is 0."""
        return self.rung_steps << rung

    def loss_of(self, weights: Weights) -> dict[str, Any]:
        """The loss of a candidate, as a table for augtrain.losses.parse_loss.

        Raises:
            ConfigError: the template's loss is no IoU.
        """
        loss = self.template.loss
        options = {"name": loss} if isinstance(loss, str) else dict(loss)
        if options.get("name") != "iou":
            raise ConfigError(
                f'loss: got {loss!r}; allowed: "iou", or a table with name = "iou" and its options, whose two weights are tuned'
            )
        return {**options, "fp_weight": weights.fp, "fn_weight": weights.fn}

    def run_of(self, weights: Weights, rung: int) -> FitConfig:
        """The run of a candidate up to the end of a rung; it goes on from the rung before."""
        return dataclasses.replace(
            self.template,
            loss=self.loss_of(weights),
            out=self.template.out / "candidates" / weights.folder,
            steps=self.steps_of(rung),
            tensorboard=False,
            # the same command gives the same choice
            optimizer=dataclasses.replace(self.template.optimizer, deterministic=True),
        )

    def identity(self, fingerprint: str, backend: str) -> dict[str, Any]:
        """What trials must have in common to be compared, see FitConfig.shared_settings()."""
        template = self.template
        return {
            **template.shared_settings(fingerprint, backend),
            "loss": template.loss if isinstance(template.loss, str) else dict(template.loss),
            "seed": template.seed,
            "candidates": [[each.fp, each.fn] for each in self.candidates],
            "rung_steps": self.rung_steps,
            "keep": self.keep,
            "score": self.score,
        }
