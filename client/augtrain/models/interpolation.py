"""Enlarge a feature map by a transposed convolution that starts as exact linear interpolation.

The tent of half width `factor` has 2 * factor taps per axis. In one dimension, factor 2, centres of voxels as |:

    coarse        |       |       |
    fine        |   |   |   |   |   |         value = 3/4 of the nearer coarse voxel + 1/4 of the other

Voxels are boxes (half-pixel centres), as in keras.layers.UpSampling2D, torch's align_corners=False and scipy.ndimage.zoom's grid_mode. The
map is first repeated by one voxel at its faces; without that the tents of the outermost voxels would fade towards zero.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from augclient.errors import ConfigError

from augtrain.models.inputs import Tensor


@keras.saving.register_keras_serializable("augtrain")
class LinearInterpolation(keras.layers.Layer):  # type: ignore[misc]  # Keras ships no types
    """Enlarge (N, Y, X, C) or (N, Z, Y, X, C) by a whole factor along each spatial axis.

    Args:
        factor: even and >= 2.
        trainable: let the taps, and the mixing of channels that starts as none, be learnt; False keeps linear interpolation.
        name: of the layer.
        dtype: policy of the layer; None: the global one.
    Raises:
        ConfigError: another factor.
    Source: Rister et al. 2018, Table I and V-B ("convolutional interpolation"); the linear start is that of Long et al., whom they follow.
    """

    def __init__(self, factor: int, *, trainable: bool = True, name: str | None = None, dtype: Any = None) -> None:
        super().__init__(trainable=trainable, name=name, dtype=dtype)
        if factor < 2 or factor % 2:
            raise ConfigError(f"LinearInterpolation: factor must be even and >= 2, got {factor}")
        self.factor = factor

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Create the kernel (taps per axis..., C, C) with the tent on the diagonal."""
        channels, dimensions = input_shape[-1], len(input_shape) - 2
        self.kernel = self.add_weight(
            shape=(2 * self.factor,) * dimensions + (channels, channels), initializer=_tent, name="kernel", trainable=self.trainable
        )

    def call(self, x: Tensor) -> Tensor:
        """Enlarge the map."""
        dimensions = len(x.shape) - 2
        for axis in range(1, dimensions + 1):
            x = _repeat_faces(x, axis)
        x = keras.ops.conv_transpose(x, self.kernel, strides=self.factor, padding="valid", data_format="channels_last")
        margin = slice(3 * self.factor // 2, -(3 * self.factor // 2))
        return x[(slice(None), *(margin,) * dimensions)]

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Spatial sides times factor."""
        sides = (None if side is None else side * self.factor for side in input_shape[1:-1])
        return (input_shape[0], *sides, input_shape[-1])

    def get_config(self) -> dict[str, Any]:
        """The arguments, for keras.saving."""
        return {**super().get_config(), "factor": self.factor}


def _tent(shape: tuple[int, ...], dtype: str | None = None) -> Tensor:
    """Initial kernel: the product of one tent per axis, for each channel by itself."""
    *taps, channels, _ = shape
    kernel = np.eye(channels)
    for count in reversed(taps):
        half = count // 2
        tent = 1 - np.abs(np.arange(count) - (count - 1) / 2) / half
        kernel = np.multiply.outer(tent, kernel)
    return keras.ops.convert_to_tensor(kernel, dtype=dtype)


def _repeat_faces(x: Tensor, axis: int) -> Tensor:
    """Repeat the first and last voxel along an axis; keras.ops.pad knows no such mode on every backend."""
    first, last = [slice(None)] * len(x.shape), [slice(None)] * len(x.shape)
    first[axis], last[axis] = slice(0, 1), slice(-1, None)
    return keras.ops.concatenate([x[tuple(first)], x, x[tuple(last)]], axis=axis)
