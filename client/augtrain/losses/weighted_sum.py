"""A loss that is the weighted sum of others."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
from augclient.errors import ConfigError

from augtrain.losses.segmentation_loss import SegmentationLoss
from augtrain.losses.truth import Tensor, Truth


@keras.saving.register_keras_serializable(package="augtrain")
class Sum(SegmentationLoss):
    """sum_i weights_i losses_i, all of the same labels and predictions, which are read once.

    Args:
        losses: one or more losses of this package.
        weights: one number each, >= 0; None: all 1.
        ignore: id without a say for all of them; None: theirs, which must not differ.
    Raises:
        ConfigError: an argument is not allowed.
    Source: Nguyen et al., III-C (Dice with voxel-wise cross-entropy).
    """

    def __init__(
        self,
        losses: Sequence[SegmentationLoss],
        weights: Sequence[float] | None = None,
        *,
        ignore: int | None = None,
        name: str = "sum",
        reduction: str = "sum_over_batch_size",
    ) -> None:
        super().__init__(ignore=common_ignore(name, ignore, losses), name=name, reduction=reduction)
        self.losses = tuple(losses)
        self.weights = (1.0,) * len(self.losses) if weights is None else tuple(float(weight) for weight in weights)
        if len(self.weights) != len(self.losses) or not all(math.isfinite(weight) and weight >= 0 for weight in self.weights):
            raise ConfigError(f"sum.weights: got {list(self.weights)}; allowed: {len(self.losses)} finite numbers >= 0, one per loss")

    def measure(self, truth: Truth, prediction: Tensor) -> Tensor:
        return sum(weight * loss.measure(truth, prediction) for weight, loss in zip(self.weights, self.losses, strict=True))

    @property
    def trainable_variables(self) -> list[Tensor]:
        return [variable for loss in self.losses for variable in loss.trainable_variables]

    def get_config(self) -> dict[str, Any]:
        losses = [keras.saving.serialize_keras_object(loss) for loss in self.losses]
        return {**super().get_config(), "losses": losses, "weights": list(self.weights)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Sum:
        return cls(**{**config, "losses": [keras.saving.deserialize_keras_object(each) for each in config["losses"]]})


def common_ignore(name: str, own: int | None, losses: Sequence[SegmentationLoss]) -> int | None:
    """The one id that a loss made of others ignores.

    Raises:
        ConfigError: there is no loss, one of another kind, or two ids.
    """
    strange = [type(loss).__name__ for loss in losses if not isinstance(loss, SegmentationLoss)]
    if strange or not losses:
        raise ConfigError(f"{name}: got {strange or 'no loss'}; allowed: one or more losses of augtrain.losses")
    ids = {own, *(loss.ignore for loss in losses)} - {None}
    if len(ids) > 1:
        raise ConfigError(f"{name}.ignore: got the ids {sorted(map(str, ids))}; allowed: one for all its losses")
    return next(iter(ids), None)
