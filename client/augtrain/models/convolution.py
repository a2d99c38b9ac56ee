"""Convolution, normalisation and activation, in as many dimensions as the tensor has."""

from __future__ import annotations

import keras

from augtrain.models.inputs import Tensor

NORM_MOMENTUM = 0.9
"""Of batch normalisation's moving averages. Keras's 0.99 needs hundreds of steps before a validation means anything; a batch of 3-D patches
holds millions of voxels, so that its own statistics are already good."""

_CONVOLUTION = {2: keras.layers.Conv2D, 3: keras.layers.Conv3D}
_TRANSPOSED = {2: keras.layers.Conv2DTranspose, 3: keras.layers.Conv3DTranspose}
_POOLING = {2: keras.layers.MaxPooling2D, 3: keras.layers.MaxPooling3D}


def convolve(
    x: Tensor, features: int, size: int, name: str, *, stride: int = 1, dilation: int = 1, bias: bool = True, start: str = "he_normal"
) -> Tensor:
    """A convolution alone, padded so that stride 1 keeps the shape. size: per axis; start: the kernel's initializer."""
    layer = _CONVOLUTION[_dimensions(x)]
    return layer(
        features, size, strides=stride, dilation_rate=dilation, padding="same", use_bias=bias, kernel_initializer=start, name=name
    )(x)


def convolve_rectify(x: Tensor, features: int, size: int, name: str, *, stride: int = 1, dilation: int = 1, bias: bool = True) -> Tensor:
    """Convolution `name`, batch normalisation `name`_norm and rectification `name`_relu."""
    x = convolve(x, features, size, name, stride=stride, dilation=dilation, bias=bias)
    return keras.layers.ReLU(name=f"{name}_relu")(batch_norm(x, f"{name}_norm"))


def batch_norm(x: Tensor, name: str) -> Tensor:
    """Batch normalisation over the last axis, with a learnt scale and offset."""
    return keras.layers.BatchNormalization(momentum=NORM_MOMENTUM, name=name)(x)


def enlarge(x: Tensor, features: int, name: str) -> Tensor:
    """Twice the size by a transposed convolution of size 2 and stride 2: no two inputs meet in an output."""
    return _TRANSPOSED[_dimensions(x)](features, 2, strides=2, use_bias=False, kernel_initializer="he_normal", name=name)(x)


def pool(x: Tensor, name: str, *, size: int = 2, stride: int = 2) -> Tensor:
    """The largest of each neighbourhood of `size` voxels per axis; stride 1 keeps the shape."""
    dimensions = _dimensions(x)
    # TensorFlow pools no 3-D float16 on a CPU; in float32 the largest is the same, and the next layer casts it back.
    dtype = "float32" if dimensions == 3 and keras.config.dtype_policy().compute_dtype == "float16" else None
    return _POOLING[dimensions](size, strides=stride, padding="same", dtype=dtype, name=name)(x)


def scores(x: Tensor, classes: int, name: str) -> Tensor:
    """One logit per class and voxel, by a convolution of size 1 that starts small."""
    return convolve(x, classes, 1, name, start="glorot_uniform")


def _dimensions(x: Tensor) -> int:
    return len(x.shape) - 2
