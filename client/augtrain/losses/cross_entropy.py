"""Cross-entropy, plain or with weights that balance the classes."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from augclient.errors import ConfigError
from keras import backend, ops

from augtrain.losses.class_weights import PerClass, check_classes, frequency_weights, per_class
from augtrain.losses.overlap import as_float, at_least, divide
from augtrain.losses.segmentation_loss import SegmentationLoss, single
from augtrain.losses.truth import Tensor, Truth, sum_voxels

WEIGHTINGS = ("balanced", "inverse")

# Below it a probability has no logarithm here. 1e-30 leaves all that a softmax in float32 says of a voxel that it has badly wrong, and
# the slope 1/p within float32 and bfloat16; in float16 1/p must stay below 65504.
_FLOOR = 1e-30
_FLOOR_FLOAT16 = 2.0**-14


@keras.saving.register_keras_serializable(package="augtrain")
class CrossEntropy(SegmentationLoss):
    """Mean over the voxels of an image of  - sum_k w_k y_k log(p_k),  y the truth, one-hot.

    Weights do not change n, the number of voxels (with a say) that the sum is divided by; an image without one has the loss 0. A
    class that the truth has not adds nothing. log(p) ends at p = 1e-30 (2**-14 for float16 predictions), where the papers'
    loss goes on to infinity: a voxel that is wrong with certainty costs 69 (9.7), with a gradient of 0.

    Args:
        class_weights: None: all 1.
            "balanced": per image, w_k = n / (C n_k), n_k its voxels of class k and C the number of classes it has: all objects
            weigh the same whatever their size, and the loss is the mean over classes of their mean cross-entropy.
            "inverse": the inverse frequency in the whole dataset, N / (L R_k + 1) of class_voxels R.
            Numbers: one per class, in the order of ids or by id.
        class_voxels: voxels by id, as `Dataset.class_voxels` gives it; for "inverse", which needs it; else not looked at.
        ignore: id without a say.
    Raises:
        ConfigError: an argument is not allowed; at the first call, numbers for another number of classes.
    Source: Rister et al. 2018, V-C and eq. 4; Furtado 2.2 (crossE). Eq. 4 prints w, the share of class 1, as the weight of that class,
        which the text contradicts (objects weigh the same; false positives get the weight of the large background). "balanced"
        follows the text: with two classes it is eq. 4, w and 1 - w exchanged, over 2 w (1 - w), which makes the mean weight 1 and
        keeps images with small organs from counting less. Eq. 4 as printed is class_weights=(1 - w, w).
    """

    def __init__(
        self,
        class_weights: str | PerClass | None = None,
        *,
        class_voxels: PerClass | None = None,
        ignore: int | None = None,
        name: str = "cross_entropy",
        reduction: str = "sum_over_batch_size",
    ) -> None:
        super().__init__(ignore=ignore, name=name, reduction=reduction)
        self.class_weights: str | tuple[float, ...] | None
        if class_weights is None or isinstance(class_weights, str):
            if class_weights not in (None, *WEIGHTINGS):
                allowed = ", ".join(WEIGHTINGS)
                raise ConfigError(f"cross_entropy.class_weights: got {class_weights!r}; allowed: {allowed}, or one number per class")
            self.class_weights = class_weights
        else:
            self.class_weights = per_class("cross_entropy.class_weights", class_weights, ignore)
        self.class_voxels: tuple[float, ...] | None = None
        if self.class_weights == "inverse":
            if class_voxels is None:
                raise ConfigError(
                    "cross_entropy.class_weights=inverse needs class_voxels, the dataset's voxels of each class; a server tells them"
                )
            self.class_voxels = per_class("cross_entropy.class_voxels", class_voxels, ignore)

    def measure(self, truth: Truth, prediction: Tensor) -> Tensor:
        prediction = single(prediction)
        floor = _FLOOR_FLOAT16 if backend.standardize_dtype(prediction.dtype) == "float16" else _FLOOR
        surprise = sum_voxels(-truth.shares * ops.log(at_least(as_float(prediction), floor)))
        if self.class_weights == "balanced":
            per_voxel = divide(surprise, sum_voxels(truth.shares))
            present = ops.cast(sum_voxels(truth.shares) > 0, surprise.dtype)
            return divide(ops.sum(per_voxel, axis=-1), ops.sum(present, axis=-1))
        weights = self._weights(prediction.shape[-1])
        if weights is not None:
            surprise = surprise * ops.convert_to_tensor(weights, dtype=surprise.dtype)
        return divide(ops.sum(surprise, axis=-1), _count(truth))

    def _weights(self, classes: int) -> Any:
        if self.class_voxels is not None:
            check_classes("cross_entropy.class_voxels", self.class_voxels, classes)
            return frequency_weights(self.class_voxels, np.ones(classes, bool), 1)
        if isinstance(self.class_weights, tuple):
            check_classes("cross_entropy.class_weights", self.class_weights, classes)
        return self.class_weights

    def get_config(self) -> dict[str, Any]:
        weights = self.class_weights
        return {
            **super().get_config(),
            "class_weights": list(weights) if isinstance(weights, tuple) else weights,
            "class_voxels": None if self.class_voxels is None else list(self.class_voxels),
        }


def _count(truth: Truth) -> Tensor:
    """Voxels with a say of each image: (N,)."""
    say = truth.say if truth.say is not None else ops.ones_like(truth.shares[..., :1])
    return sum_voxels(say)[:, 0]
