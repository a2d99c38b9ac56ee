"""Dice of probabilities as a loss: weighted by class frequency, and of single images or of the batch as one."""

from __future__ import annotations

from typing import Any

import keras
from augclient.errors import ConfigError
from keras import ops

from augtrain.losses.class_weights import PerClass, check_classes, frequency_weights, per_class
from augtrain.losses.overlap import Overlap, as_float, counted_classes, divide, mean_of, measure_overlap
from augtrain.losses.segmentation_loss import SegmentationLoss, single
from augtrain.losses.truth import Tensor, Truth

WEIGHTINGS = ("uniform", "simple", "square")
REDUCES = ("image", "batch")


@keras.saving.register_keras_serializable(package="augtrain")
class Dice(SegmentationLoss):
    """One minus Dice, meant over classes with weights.

        1/L sum_l  w_l (1 - 2 sum p y / (sum p + sum y))      over the voxels of an image, or of all images of the batch

    With w = 1 it is in [0, 1]; 0 only where the prediction is the truth. A class that the truth has not: its loss is w whatever is
    predicted, with a gradient of 0 (Nguyen eq. 3); p = y = 0 counts as that. Over the batch (SA Dice), a class is learnt from
    if any of its images has it; so use batches of 2 and more. A class there but not predicted: loss w, and a gradient towards it.

    Args:
        weighting: "uniform": w = 1; "simple": N / (L R_l + 1); "square": N / (L R_l**2 + 1), with R_l the voxels of class l in the whole
            dataset, N those of all classes, L the number of classes in the mean. Square weights are of the order of 1 / R_l: raise
            the learning rate (Shen's finding). A class without a voxel in the dataset has the weight N, a large constant in the loss.
        class_voxels: R by id, as `Dataset.class_voxels` gives it; for "simple" and "square", which need it; else not looked at.
        reduce: "image": each image has its Dice; "batch": all voxels of the batch are one image (then there is one value for the
            batch, and sample_weight weighs it by its mean).
        background: whether class 0 is in the mean (without: diceBK).
        ignore: id without a say.
    Raises:
        ConfigError: an argument is not allowed; at the first call, class_voxels of another number of classes.
    Source: Shen et al. 2018, eq. 2 to 6, which print minus Dice: ours is larger by the constant 1/L sum w_l, so that 0 is perfect;
        Nguyen et al., eq. 1, 2 (image) and 4, 5 (batch), which they maximise; Furtado 2.2.
    """

    def __init__(
        self,
        weighting: str = "uniform",
        class_voxels: PerClass | None = None,
        reduce: str = "image",
        background: bool = True,
        *,
        ignore: int | None = None,
        name: str = "dice",
        reduction: str = "sum_over_batch_size",
    ) -> None:
        super().__init__(ignore=ignore, name=name, reduction=reduction)
        for key, value, allowed in (("weighting", weighting, WEIGHTINGS), ("reduce", reduce, REDUCES)):
            if value not in allowed:
                raise ConfigError(f"dice.{key}: got {value!r}; allowed: {', '.join(allowed)}")
        self.weighting = weighting
        self.class_voxels: tuple[float, ...] | None = None
        if weighting != "uniform":
            if class_voxels is None:
                raise ConfigError(f"dice.weighting={weighting} needs class_voxels, the dataset's voxels of each class; a server tells them")
            self.class_voxels = per_class("dice.class_voxels", class_voxels, ignore)
        self.reduce = reduce
        self.background = bool(background)

    def measure(self, truth: Truth, prediction: Tensor) -> Tensor:
        p = as_float(single(prediction))
        classes = p.shape[-1]
        counted = counted_classes(classes, self.background, truth.ignored_class)
        weights = None
        if self.class_voxels is not None:
            check_classes("dice.class_voxels", self.class_voxels, classes)
            weights = frequency_weights(self.class_voxels, counted, 2 if self.weighting == "square" else 1)
        sums = measure_overlap(truth, p)
        if self.reduce == "batch":
            sums = Overlap(**{key: ops.sum(getattr(sums, key), axis=0, keepdims=True) for key in ("hit", "predicted", "true")})
        return mean_of(1.0 - divide(2.0 * sums.hit, sums.predicted + sums.true), counted, weights)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "weighting": self.weighting,
            "class_voxels": None if self.class_voxels is None else list(self.class_voxels),
            "reduce": self.reduce,
            "background": self.background,
        }
