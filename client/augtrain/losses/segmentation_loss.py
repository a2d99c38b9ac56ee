"""What all losses here have in common: labels are read once, ids that no class has are not passed over, sums are float32 or float64."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from augclient.errors import ConfigError, GeometryError
from keras import ops

from augtrain.losses.truth import Tensor, Truth, check_label_ids, read_truth


class SegmentationLoss(keras.losses.Loss):  # type: ignore[misc]  # keras has no types
    """A Keras loss of class probabilities against label ids. Children write `measure`.

    An id that no class has is an error where the labels are a NumPy array, and makes the loss NaN where they are a tensor, as in
    Model.fit: compiled code cannot raise. The gradient of such a batch is zero.

    Computed in float32, or in float64 for predictions in float64; on PyTorch Keras takes the mean over the images in float32 even so.

    Args:
        ignore: id whose voxels have no say: they add to no sum, neither as truth nor as prediction. If it is one of the K classes, that
            class is left out of means over classes too.
        name, reduction: as for any Keras loss.
    """

    def __init__(self, *, ignore: int | None, name: str, reduction: str) -> None:
        super().__init__(name=name, reduction=reduction)
        if ignore is not None and (isinstance(ignore, bool) or not isinstance(ignore, int)):
            raise ConfigError(f"{name}.ignore: got {ignore!r}; allowed: the id of a label, or none")
        self.ignore = ignore

    def measure(self, truth: Truth, prediction: Tensor) -> Tensor:
        """The loss of each image, (N,), or (1,) where it is one value for the batch; at least float32."""
        raise NotImplementedError

    @property
    def trainable_variables(self) -> list[Tensor]:
        """Variables that the optimizer should move along with the network's; SupervisedModel does so."""
        return []

    @property
    def dtype(self) -> None:
        """None: Keras hands labels and predictions on in their own types, so that uint8 ids stay small and `measure` chooses its type."""
        return

    def __call__(self, y_true: Tensor, y_pred: Tensor, sample_weight: Tensor | None = None) -> Tensor:
        finest = y_pred[0] if isinstance(y_pred, list | tuple) else y_pred
        if isinstance(y_true, np.ndarray) and y_true.ndim == len(finest.shape) - 1:
            check_label_ids(y_true, finest.shape[-1], self.ignore)
        return super().__call__(y_true, y_pred, sample_weight)

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        """The loss of each image.

        Args:
            y_true: ids (N, [Z,] Y, X) or one-hot (N, [Z,] Y, X, K).
            y_pred: probabilities (N, [Z,] Y, X, K); for MultiResolution a list of them, the finest first.
        Returns:
            (N,), or (1,) where the loss is one value for the batch.
        Raises:
            GeometryError: shapes that do not belong together.
        """
        finest = y_pred[0] if isinstance(y_pred, list | tuple) else y_pred
        truth = read_truth(ops.convert_to_tensor(y_true), finest, self.ignore)
        values = self.measure(truth, y_pred)
        return values if truth.ids_fit is None else ops.where(truth.ids_fit, values, float("nan"))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "ignore": self.ignore}


def single(prediction: Tensor) -> Tensor:
    """The one tensor that a loss without resolutions can judge.

    Raises:
        GeometryError: it is a list of several.
    """
    if not isinstance(prediction, list | tuple):
        return prediction
    if len(prediction) == 1:
        return prediction[0]
    raise GeometryError(
        f"y_pred: got {len(prediction)} predictions; a loss of one resolution allows 1: wrap it, as in multi_resolution(iou)"
    )
