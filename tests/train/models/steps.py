"""Run in a child on one backend: small networks of known weights, their outputs, and their losses over two training steps.

KERAS_BACKEND=jax python steps.py FOLDER      writes FOLDER/jax.npz; weights come from FOLDER/NETWORK.weights.h5, or are drawn and
                                              left there by the first backend that runs
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
from augtrain.models import NETWORKS, Network
from numpy.typing import NDArray

CLASSES = 3


def give_weights(model: keras.Model, path: Path) -> None:
    """Read the weights of `path`, or draw some and write them there."""
    if path.exists():
        model.load_weights(path)
        return
    rng = np.random.default_rng(0)
    for weight in model.weights:
        shape = tuple(weight.shape)
        if weight.name in ("gamma", "moving_variance"):
            weight.assign(rng.uniform(0.5, 1.5, shape))
        elif len(shape) == 1:
            weight.assign(rng.normal(0, 0.1, shape))
        else:
            weight.assign(rng.normal(0, np.sqrt(2 / np.prod(shape[:-1])), shape))
    model.save_weights(path)


def run(network: Network, folder: Path) -> dict[str, NDArray[Any]]:
    """Outputs at inference, and the loss of two steps of gradient descent on one batch."""
    patch = (16, 16, 32) if network.dimensions == 3 else (1, 32, 64)
    shape = (2, *patch[3 - network.dimensions :], 2)
    image = np.random.default_rng(1).uniform(size=shape).astype(np.float32)
    model = network.build(CLASSES, channels=2, width=0.125, patch=patch)
    give_weights(model, folder / f"{network.name}.weights.h5")
    # TensorFlow and PyTorch need no compilation; JAX compiles each operation by itself unless the whole is one function.
    model.compile(keras.optimizers.SGD(0.01), loss="categorical_crossentropy", run_eagerly=keras.backend.backend() != "jax")
    outputs = _list(model.predict_on_batch(image))
    found = {f"{network.name}/output_{k}": output for k, output in enumerate(outputs)}
    truths = [np.eye(CLASSES, dtype=np.float32)[np.random.default_rng(2).integers(0, CLASSES, output.shape[:-1])] for output in outputs]
    target = truths if len(truths) > 1 else truths[0]
    losses = [float(np.ravel(model.train_on_batch(image, target))[0]) for _ in range(2)]
    return found | {f"{network.name}/losses": np.array(losses)}


def _list(outputs: Any) -> list[NDArray[Any]]:
    return [np.asarray(output) for output in (outputs if isinstance(outputs, list) else [outputs])]


if __name__ == "__main__":
    results: dict[str, NDArray[Any]] = {}
    keras.initializers.VarianceScaling.__call__ = lambda self, shape, dtype=None, **_: keras.ops.zeros(
        shape, dtype
    )  # JAX would compile each
    for each in NETWORKS.values():
        results |= run(each, Path(sys.argv[1]))
    np.savez(Path(sys.argv[1]) / f"{keras.backend.backend()}.npz", **results)
