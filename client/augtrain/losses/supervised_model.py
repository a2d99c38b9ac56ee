"""A network under one loss of all its outputs, for Model.fit."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from augtrain.losses.segmentation_loss import SegmentationLoss
from augtrain.losses.truth import Tensor


@keras.saving.register_keras_serializable(package="augtrain")
class SupervisedModel(keras.Model):  # type: ignore[misc]  # keras has no types
    """Trains a network with `objective`, and the objective's own variables with it.

    Model.compile(loss=...) gives each output of a network a loss and a label of its own, and does not train what is in a loss. Here all
    outputs go to one loss with the labels of the finest: SupervisedModel(network, MultiResolution(...)).compile(optimizer). Metrics
    given to compile see the finest prediction. Right for networks of one output too.

    The network stays an object of its own, with its weights in it: save that.

    Args:
        network: a Keras model of one output or a list of them, the finest first.
        objective: a loss of this package.
    """

    def __init__(self, network: keras.Model, objective: SegmentationLoss, **options: Any) -> None:
        super().__init__(**options)
        self.network = network
        self.objective = objective
        self.objective_variables = list(objective.trainable_variables)  # as an attribute Keras finds them

    def call(self, inputs: Tensor, training: bool | None = None) -> Tensor:
        return self.network(inputs, training=training)

    def compute_loss(
        self,
        x: Tensor = None,
        y: Tensor = None,
        y_pred: Tensor = None,
        sample_weight: Tensor = None,
        training: bool = True,
    ) -> Tensor:
        """The objective, and what layers add (regularisers)."""
        return self.objective(y, y_pred, sample_weight) + sum(ops.sum(each) for each in self.losses)

    def compute_metrics(self, x: Tensor, y: Tensor, y_pred: Tensor, sample_weight: Tensor = None) -> dict[str, Any]:
        finest = y_pred[0] if isinstance(y_pred, list | tuple) else y_pred
        metrics: dict[str, Any] = super().compute_metrics(x, y, finest, sample_weight)
        return metrics

    def get_config(self) -> dict[str, Any]:
        parts = {"network": self.network, "objective": self.objective}
        return {**super().get_config(), **{key: keras.saving.serialize_keras_object(part) for key, part in parts.items()}}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> SupervisedModel:
        parts = {key: keras.saving.deserialize_keras_object(config[key]) for key in ("network", "objective")}
        return cls(**{**config, **parts})
