"""The network, its loss and its optimizer: one step at a time, on any backend of Keras, and all of it as arrays for a checkpoint."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from augclient.errors import ConfigError, StateError
from numpy.typing import NDArray

from augtrain.fit.fit_config import FitConfig
from augtrain.fit.sections import OptimizerConfig
from augtrain.fit.toml_table import name_nearest
from augtrain.losses import MultiResolution, SegmentationLoss, SupervisedModel
from augtrain.models import NETWORKS, Network

_OWN = {"classes", "channels", "patch"}  # builder arguments that follow from the dataset


def find_network(config: FitConfig) -> Network:
    """The network that a config names.

    Raises:
        ConfigError: there is none of that name, or its builder has no such option (names the nearest).
        PatchError: its strides forbid the patch.
    """
    if config.network not in NETWORKS:
        raise ConfigError(f"network: there is no {config.network!r}{name_nearest(config.network, NETWORKS)}")
    network = NETWORKS[config.network]
    options = inspect.signature(network.build).parameters.keys() - _OWN
    for key in config.network_options:
        if key not in options:
            raise ConfigError(f"network {network.name}: there is no option {key!r}{name_nearest(key, options)}")
    network.check_patch(config.batches.patch)
    return network


class Learner:
    """A network in training. Its first weights follow from the config's seed.

    Args:
        outputs: classes, background included: ids 0 to outputs - 1.
    Raises:
        ConfigError: what the network's builder refuses.
    """

    def __init__(self, config: FitConfig, network: Network, objective: SegmentationLoss, *, outputs: int, channels: int) -> None:
        if config.optimizer.deterministic and keras.backend.backend() == "tensorflow":
            import tensorflow as tf

            tf.config.experimental.enable_op_determinism()
        keras.utils.set_random_seed(config.seed)
        before = keras.config.dtype_policy()
        keras.config.set_dtype_policy(config.optimizer.precision)
        try:
            self.network = network.build(outputs, channels=channels, **config.network_options)
            self.objective = objective
            self._model = SupervisedModel(self.network, objective)
            # "auto" compiles on JAX, which is made for it, and does not on PyTorch
            jit = config.optimizer.jit if keras.backend.backend() == "tensorflow" else "auto"
            self._model.compile(optimizer=_optimizer(config.optimizer), jit_compile=jit)
        finally:
            keras.config.set_dtype_policy(before)
        self._model.optimizer.build(self._model.trainable_variables)

    def check(self, image: NDArray[np.float32], label: NDArray[np.uint8]) -> None:
        """Judge one batch without learning from it, so that what does not fit is told before the first step.

        Raises:
            ConfigError, GeometryError: the loss does not fit the network's outputs. RequestError: a label id without a class.
        """
        self.objective(label, self.network(image, training=False))

    def step(self, image: NDArray[np.float32], label: NDArray[np.uint8], learning_rate: float) -> float:
        """Learn from one batch; its loss, before the weights moved."""
        self._model.optimizer.learning_rate = learning_rate
        self._model.reset_metrics()  # else the mean since the last reset
        return float(self._model.train_on_batch(image, label, return_dict=True)["loss"])

    def whole_volume_loss(self, probabilities: NDArray[np.float32], label: NDArray[np.uint8]) -> float:
        """The loss of a whole volume, (Z, Y, X, K) and (Z, Y, X); of the finest resolution where there are several."""
        loss = self.objective.loss if isinstance(self.objective, MultiResolution) else self.objective
        return float(keras.ops.convert_to_numpy(loss(label[None], probabilities[None])))

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Weights, optimizer slots and the states of dropout's random numbers."""
        values = {f"variable/{k:05d}": keras.ops.convert_to_numpy(each) for k, each in enumerate(self._variables())}
        return values | _torch_generators()

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take over what `arrays` gave.

        Raises:
            StateError: they are of another model or optimizer.
        """
        variables = self._variables()
        saved = [array for name, array in sorted(arrays.items()) if name.startswith("variable/")]
        theirs, ours = [array.shape for array in saved], [tuple(each.shape) for each in variables]
        if theirs != ours:
            differ = next((k for k, (a, b) in enumerate(zip(theirs, ours, strict=False)) if a != b), min(len(theirs), len(ours)))
            raise StateError(
                f"the checkpoint is of another model: it has {len(theirs)} variables, this one {len(ours)}, and they differ from number "
                f"{differ} on; take the config of the run, or another folder"
            )
        for variable, array in zip(variables, saved, strict=True):
            variable.assign(array)
        _restore_torch_generators(arrays)

    @property
    def parameters(self) -> int:
        """How many numbers are learnt."""
        return sum(int(np.prod(each.shape)) for each in self._model.trainable_variables)

    def _variables(self) -> list[Any]:
        return [*self.network.variables, *self._model.objective_variables, *self._model.optimizer.variables]


def _optimizer(config: OptimizerConfig) -> Any:
    clip = config.clip_norm or None
    if config.name == "sgd":
        return keras.optimizers.SGD(config.learning_rate, momentum=config.momentum, global_clipnorm=clip)
    return keras.optimizers.Adam(config.learning_rate, global_clipnorm=clip)


def _torch_generators() -> dict[str, NDArray[Any]]:
    """On PyTorch, Keras's dropout draws from PyTorch's own generators, whose states are no variables; one per device."""
    if keras.backend.backend() != "torch":
        return {}
    import torch

    states = [torch.get_rng_state(), *(torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [])]
    return {f"torch_generator/{k:02d}": state.numpy() for k, state in enumerate(states)}


def _restore_torch_generators(arrays: Mapping[str, NDArray[Any]]) -> None:
    states = [array for name, array in sorted(arrays.items()) if name.startswith("torch_generator/")]
    if keras.backend.backend() != "torch" or not states:  # the run began on another backend
        return
    import torch

    torch.set_rng_state(torch.from_numpy(states[0]))
    for device, state in enumerate(states[1 : 1 + torch.cuda.device_count()]):
        torch.cuda.set_rng_state(torch.from_numpy(state), device)


def describe_device() -> str:
    """What computes, in words: a GPU that a library failed to find would otherwise go unnoticed."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        gpus = len(tf.config.list_physical_devices("GPU"))
    elif backend == "torch":
        import torch

        gpus = torch.cuda.device_count()
    else:
        import jax

        gpus = sum(device.platform == "gpu" for device in jax.devices())
    return f"Keras {keras.__version__} on {backend}, {f'{gpus} GPU' if gpus else 'CPU'}"
