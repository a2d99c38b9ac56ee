"""A loss and its gradient on whichever backend Keras runs on here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import keras
import numpy as np
import pytest
from numpy.typing import NDArray

Loss = Callable[[Any, Any], Any]
Graded = Callable[[Loss, NDArray[Any], Any], tuple[float, Any]]


@pytest.fixture(scope="session")
def graded() -> Graded:
    """(loss, labels, predictions) -> its value and its gradient by the predictions, an array or a list of arrays as those are."""
    return {"tensorflow": _on_tensorflow, "jax": _on_jax, "torch": _on_torch}[keras.backend.backend()]


@pytest.fixture
def float64() -> Iterator[None]:
    """Let the backend compute in float64, of which JAX makes float32 otherwise."""
    if keras.backend.backend() != "jax":
        yield
        return
    import jax

    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", False)


def _on_tensorflow(loss: Loss, labels: NDArray[Any], predictions: Any) -> tuple[float, Any]:
    import tensorflow as tf

    with tf.GradientTape() as tape:
        inputs = keras.tree.map_structure(tf.convert_to_tensor, predictions)
        tape.watch(inputs)
        value = loss(tf.convert_to_tensor(labels), inputs)
    return float(value), keras.tree.map_structure(_array, tape.gradient(value, inputs))


def _on_jax(loss: Loss, labels: NDArray[Any], predictions: Any) -> tuple[float, Any]:
    import jax

    inputs = keras.tree.map_structure(jax.numpy.asarray, predictions)
    value, gradient = _compiled(loss)(inputs, jax.numpy.asarray(labels))
    return float(value), keras.tree.map_structure(_array, gradient)


@cache
def _compiled(loss: Loss) -> Callable[[Any, Any], tuple[Any, Any]]:
    import jax

    step: Callable[[Any, Any], tuple[Any, Any]] = jax.jit(jax.value_and_grad(lambda inputs, labels: loss(labels, inputs)))
    return step


def _on_torch(loss: Loss, labels: NDArray[Any], predictions: Any) -> tuple[float, Any]:
    import torch

    inputs = keras.tree.map_structure(lambda array: torch.tensor(array, requires_grad=True), predictions)
    value = loss(torch.tensor(labels), inputs)
    value.backward()
    return float(value.detach()), keras.tree.map_structure(lambda given: _array(given.grad), inputs)


def _array(tensor: Any) -> NDArray[Any]:
    return np.asarray(keras.ops.convert_to_numpy(tensor))
