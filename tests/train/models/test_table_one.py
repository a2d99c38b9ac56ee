"""Table I of Rister et al. 2018, row by row, against the network that is built."""

from __future__ import annotations

from typing import Any

import keras
import pytest
from augtrain.models import rister_fcn
from augtrain.models.inception import Inception

INPUT = (120, 120, 160)
# type, filter size, outputs, stride (1/8: eight times finer), as printed
TABLE = [
    ("Convolution", 7, 64, 2),
    ("Convolution", 1, 64, 1),
    ("Convolution", 4, 192, 1),
    ("Pooling", 2, 192, 2),
    ("Inception", "1-5", 256, 1),
    ("Inception", "1-5", 480, 1),
    ("Inception", "1-5", 512, 1),
    ("Inception", "1-5", 512, 1),
    ("Inception", "1-5", 528, 1),
    ("Inception", "1-5", 832, 1),
    ("Pooling", 2, 832, 2),
    ("Inception", "1-5", 832, 1),
    ("Inception", "1-5", 1024, 1),
    ("Interpolation", 8, 6, 1 / 8),
    ("Softmax", "n/a", 6, 1),
]


@pytest.fixture(scope="module")
def model() -> keras.Model:
    return rister_fcn(6, patch=INPUT)


def row_layers(model: keras.Model) -> list[tuple[str, keras.layers.Layer]]:
    """The layers that are rows of the table, in the order of the model; parts of a row have a longer name."""
    kinds = {"convolution": "Convolution", "pooling": "Pooling", "inception": "Inception"}
    rows: list[tuple[str, keras.layers.Layer]] = []
    for layer in model.layers:
        kind, _, number = layer.name.partition("_")
        if kind in kinds and number.isdigit():
            rows.append((kinds[kind], layer))
        elif layer.name in ("interpolation", "probabilities"):
            rows.append(({"interpolation": "Interpolation", "probabilities": "Softmax"}[layer.name], layer))
    return rows


def test_rows_have_the_types_outputs_and_shapes_of_the_table(model: keras.Model) -> None:
    shape, expected = INPUT, []
    for kind, _, outputs, stride in TABLE:
        shape = tuple(round(side / stride) for side in shape)
        expected.append((kind, (None, *shape, outputs)))
    assert expected[-1][1] == (None, *INPUT, 6)
    assert [(kind, tuple(layer.output.shape)) for kind, layer in row_layers(model)] == expected


def test_filter_sizes_and_strides_are_those_of_the_table(model: keras.Model) -> None:
    for (kind, size, _, stride), (_, layer) in zip(TABLE, row_layers(model), strict=True):
        if kind == "Convolution":
            assert layer.kernel_size == (size,) * 3
            assert layer.strides == (stride,) * 3
        elif kind == "Pooling":
            assert isinstance(layer, keras.layers.MaxPooling3D)
            assert layer.pool_size == (size,) * 3
            assert layer.strides == (stride,) * 3
        elif kind == "Inception":
            parts = [part for part in model.layers if part.name.startswith(f"{layer.name}_") and hasattr(part, "kernel_size")]
            assert sorted(part.kernel_size[0] for part in parts) == [1, 1, 1, 1, 3, 5]
            assert sum(isinstance(part, keras.layers.MaxPooling3D) for part in model.layers if part.name.startswith(f"{layer.name}_")) == 1
        elif kind == "Interpolation":
            assert layer.factor == size
            assert layer.kernel.shape[:3] == (2 * size,) * 3  # the tent reaches `size` voxels to either side


def test_every_convolution_of_the_table_has_a_bias_a_normalisation_and_a_rectification(model: keras.Model) -> None:
    convolutions = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv3D) and layer.name != "scores"]
    assert len(convolutions) == 3 + 8 * 6
    for layer in convolutions:
        assert layer.use_bias
        assert isinstance(model.get_layer(f"{layer.name}_norm"), keras.layers.BatchNormalization)
        assert isinstance(model.get_layer(f"{layer.name}_relu"), keras.layers.ReLU)


def test_no_row_sees_any_but_the_row_before_it(model: keras.Model) -> None:
    """The paper forwards no features past a row: cutting the graph at a row leaves nothing else that reaches the image."""
    rows = [layer for _, layer in row_layers(model)]
    assert len(rows) > 10
    for layer in rows[:-1]:
        tail = keras.Model(layer.output, model.output)  # raises where another path leads back to the image
        assert tuple(tail.input.shape) == tuple(layer.output.shape)


def test_paths_of_a_module_sum_to_its_outputs_at_any_width() -> None:
    module = Inception(64, 96, 128, 16, 32, 32)
    assert module.outputs == 256
    image: Any = keras.Input((8, 8, 8, 5))
    assert module.apply(image, 0.5, "half").shape[-1] == 128
