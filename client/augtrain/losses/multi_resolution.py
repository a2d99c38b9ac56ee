"""One loss at several resolutions of a network that predicts at several."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from augclient.errors import ConfigError
from keras import ops
from numpy.typing import NDArray

from augtrain.losses.segmentation_loss import SegmentationLoss
from augtrain.losses.truth import Tensor, Truth, downsample_truth
from augtrain.losses.weighted_sum import common_ignore


@keras.saving.register_keras_serializable(package="augtrain")
class MultiResolution(SegmentationLoss):
    """sum_k alpha_k Loss(P_k, G_k): predictions P_k from fine to coarse, and the truth G_k brought to their grids.

    The truth: a coarse cell has the class that most of its voxels have; a tie goes to the cell's first voxel's class if that is among
    the tied; ignored voxels do not vote. So labels stay labels, and a perfect coarse prediction has the loss 0; what is thinner than half
    a cell is background there.

    Trainable coefficients: alpha_1 stays 1, as in the paper. The paper does not say what keeps the others from running away, and plain
    descent would: the loss is >= 0, so alpha_k falls without end, past 0. Here alpha_k = a_k exp(theta_k) > 0, and the loss has the term

        alpha_k theta_k - alpha_k + a_k  >= 0        a_k the coefficient at the start, where theta_k and the term are 0

    so the best alpha_k for a given loss L_k is a_k exp(-L_k): between 0.37 a_k and a_k for losses in [0, 1], larger the better the level
    is predicted. The value at the start is eq. 6 itself, and 0 is still perfect. SupervisedModel trains the thetas in Model.fit;
    in a loop of your own add `trainable_variables` to the network's.

    Args:
        loss: of each level; of this package.
        alphas: one per prediction, the finest first. Fixed: >= 0 and not all 0; trainable: the first 1, the others > 0.
        trainable: whether all but the first are trained.
        ignore: id without a say; None: that of `loss`.
    Raises:
        ConfigError: an argument is not allowed; at the first call, another number of predictions.
        GeometryError: at the first call, a grid that does not divide the finest one.
    Source: Nguyen et al., III-D and eq. 6, for its (1, 0.1, 0.01).
    """

    def __init__(
        self,
        loss: SegmentationLoss,
        alphas: Sequence[float] = (1, 0.1, 0.01),
        trainable: bool = False,
        *,
        ignore: int | None = None,
        name: str = "multi_resolution",
        reduction: str = "sum_over_batch_size",
    ) -> None:
        super().__init__(ignore=common_ignore(name, ignore, [loss]), name=name, reduction=reduction)
        self.loss = loss
        self.start = tuple(float(alpha) for alpha in alphas)
        self.trainable = bool(trainable)
        if not all(math.isfinite(alpha) and alpha >= 0 for alpha in self.start) or not any(self.start):
            raise ConfigError(f"multi_resolution.alphas: got {list(self.start)}; allowed: finite numbers >= 0, not all of them 0")
        if self.trainable and (self.start[0] != 1 or len(self.start) < 2 or not all(self.start)):
            raise ConfigError(
                f"multi_resolution.alphas: got {list(self.start)}; allowed with trainable: 1 for the finest, then one or more above 0"
            )
        self._thetas: Tensor | None = None
        if self.trainable:
            self._thetas = keras.Variable(np.zeros(len(self.start) - 1), dtype="float32", name="log_alpha_ratios")

    @property
    def alphas(self) -> NDArray[np.float64]:
        """The coefficients as they are now, the finest first."""
        if self._thetas is None:
            return np.array(self.start)
        return np.array(self.start) * np.exp([0.0, *ops.convert_to_numpy(self._thetas).tolist()])

    @property
    def trainable_variables(self) -> list[Tensor]:
        return self.loss.trainable_variables + ([] if self._thetas is None else [self._thetas])

    def measure(self, truth: Truth, prediction: Tensor) -> Tensor:
        levels = prediction if isinstance(prediction, list | tuple) else [prediction]
        if len(levels) != len(self.start):
            raise ConfigError(f"multi_resolution.alphas: got {len(self.start)} for {len(levels)} predictions; allowed: one for each")
        losses = [self.loss.measure(downsample_truth(truth, level.shape[1:-1]), level) for level in levels]
        if self._thetas is None:
            return sum(alpha * loss for alpha, loss in zip(self.start, losses, strict=True))
        total = losses[0]
        for k, start in enumerate(self.start[1:]):
            theta = ops.cast(self._thetas[k], total.dtype)
            alpha = start * ops.exp(theta)
            total = total + alpha * (losses[k + 1] + theta) - alpha + start
        return total

    def get_config(self) -> dict[str, Any]:
        loss = keras.saving.serialize_keras_object(self.loss)
        return {**super().get_config(), "loss": loss, "alphas": list(self.start), "trainable": self.trainable}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> MultiResolution:
        return cls(**{**config, "loss": keras.saving.deserialize_keras_object(config["loss"])})
