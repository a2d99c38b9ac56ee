"""Intersection over union (Jaccard index) of probabilities, as a loss."""

from __future__ import annotations

import math
from collections.abc import Callable
from numbers import Real
from typing import Any

import keras
import numpy as np
from augclient.errors import ConfigError
from keras import ops

from augtrain.losses.overlap import as_float, at_least, counted_classes, divide, mean_of, measure_overlap
from augtrain.losses.segmentation_loss import SegmentationLoss, single
from augtrain.losses.truth import Tensor, Truth

_SMALLEST = 1e-30  # below it p**m counts as 0: for m < 1 the slope at 0 is infinite


@keras.saving.register_keras_serializable(package="augtrain")
class IoU(SegmentationLoss):
    """One minus the intersection over union, meant over classes, per image.

        1 - 1/K sum_k  TP_k / (TP_k + fp_weight FP_k + fn_weight FN_k)
        TP = sum f(p) y    FP = sum f(p) (1 - y)    FN = sum (1 - f(p)) y    over the voxels;    f(p) = p**power, or `curve`

    It is in [0, 1]; 0 only where the prediction is the truth. A class that the truth has not: its loss is 1 whatever is predicted (the
    limit of the formula, and its value at p = y = 0), with a gradient of 0, so the mean over classes cannot reach 0 there. A class
    that is there but not predicted at all: loss 1, and a gradient that calls for it where it should be.

    Args:
        power: m > 0 of eq. 8.
        fp_weight, fn_weight: alpha and beta of IoU_xy; Furtado has alpha + beta = 2 and finds (0.5, 1.5) best. (0.5, 0.5) is Dice.
        background: whether class 0 is in the mean.
        curve: f of eq. 9 in place of a power: increasing and smooth in keras.ops, 0 at 0 and 1 at 1. To save the loss, register it
            with keras.saving.
        ignore: id without a say.
    Raises:
        ConfigError: an argument is not allowed.
    Source: Rister et al. 2018, eq. 5, 8 and 9 (8 and 9 are printed without the "1 -"); Furtado 2.2 for the weights, and for the mean
        without background (there of Dice: diceBK).
    """

    def __init__(
        self,
        power: float = 1,
        fp_weight: float = 1,
        fn_weight: float = 1,
        background: bool = True,
        *,
        curve: Callable[[Tensor], Tensor] | None = None,
        ignore: int | None = None,
        name: str = "iou",
        reduction: str = "sum_over_batch_size",
    ) -> None:
        super().__init__(ignore=ignore, name=name, reduction=reduction)
        self.power = _number("power", power)
        self.fp_weight = _number("fp_weight", fp_weight)
        self.fn_weight = _number("fn_weight", fn_weight)
        self.background = bool(background)
        self.curve = curve
        if self.power == 0:
            raise ConfigError("iou.power: got 0; allowed: above 0")
        if self.fp_weight == self.fn_weight == 0:
            raise ConfigError("iou: fp_weight and fn_weight are both 0; allowed: one of them above 0, or the loss is 0 for any prediction")
        if curve is not None:
            _check_curve(curve, self.power)

    def measure(self, truth: Truth, prediction: Tensor) -> Tensor:
        p = self._bend(as_float(single(prediction)))
        sums = measure_overlap(truth, p)
        wrong = self.fp_weight * (sums.predicted - sums.hit) + self.fn_weight * (sums.true - sums.hit)
        score = divide(sums.hit, sums.hit + wrong)
        return mean_of(1.0 - score, counted_classes(p.shape[-1], self.background, truth.ignored_class))

    def _bend(self, p: Tensor) -> Tensor:
        if self.curve is not None:
            return self.curve(p)
        if self.power == 1:
            return p
        return ops.where(p <= _SMALLEST, 0.0, ops.power(at_least(p, _SMALLEST), self.power))

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "power": self.power,
            "fp_weight": self.fp_weight,
            "fn_weight": self.fn_weight,
            "background": self.background,
            "curve": None if self.curve is None else keras.saving.serialize_keras_object(self.curve),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> IoU:
        return cls(**{**config, "curve": keras.saving.deserialize_keras_object(config["curve"])})


def _number(key: str, value: float) -> float:
    if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value) or value < 0:
        raise ConfigError(f"iou.{key}: got {value!r}; allowed: a finite number >= 0")
    return float(value)


def _check_curve(curve: Callable[[Tensor], Tensor], power: float) -> None:
    if power != 1:
        raise ConfigError(f"iou: power {power} and a curve together; allowed: one of them")
    ends = np.asarray(ops.convert_to_numpy(curve(ops.convert_to_tensor([0.0, 1.0], dtype="float32"))))
    if not np.allclose(ends, (0, 1), rtol=0, atol=1e-6):
        raise ConfigError(f"iou.curve: it is {ends.tolist()} at 0 and 1; allowed: [0, 1]")
