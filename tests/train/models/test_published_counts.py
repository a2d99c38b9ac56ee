"""Parameters against the counts that others published, and against what our docstrings say."""

from __future__ import annotations

import json
import re
from typing import Any

import keras
import pytest
from augtrain.models import NETWORKS, unet2d, unet3d
from augtrain.models.resnet18 import resnet18


def test_unet3d_has_the_19069955_parameters_of_cicek_2016() -> None:
    """Their count is of convolutions alone, for 3 channels and 3 classes; normalisation is not in it."""
    kinds = keras.layers.Conv3D | keras.layers.Conv3DTranspose
    assert sum(layer.count_params() for layer in unet3d(3, channels=3).layers if isinstance(layer, kinds)) == 19_069_955


def test_resnet18_has_the_parameters_of_torchvisions_without_its_classifier() -> None:
    image: Any = keras.Input((64, 64, 3))
    model = keras.Model(image, resnet18(image, 1.0)[1])
    assert sum(_size(weight.shape) for weight in model.trainable_weights) == 11_689_512 - 513_000


def test_the_convolutions_of_vgg16_have_the_names_and_kernels_of_keras_applications() -> None:
    theirs = keras.applications.VGG16(include_top=False, weights=None, input_shape=(32, 32, 3))
    expected = {layer.name: tuple(layer.kernel.shape) for layer in theirs.layers if isinstance(layer, keras.layers.Conv2D)}
    ours = unet2d(2, channels=3)
    assert {name: tuple(ours.get_layer(name).kernel.shape) for name in expected} == expected
    assert len(expected) == 13


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_the_docstring_tells_the_parameters(name: str) -> None:
    network = NETWORKS[name]
    said = re.search(r"([\d,]+)\s+trained parameters for (\d+) classes", network.build.__doc__ or "")
    assert said
    model = network.build(int(said[2]))
    assert sum(_size(weight.shape) for weight in model.trainable_weights) == int(said[1].replace(",", ""))


@pytest.mark.slow
def test_the_docstring_tells_what_a_forward_pass_keeps(child: Any) -> None:
    kept = json.loads(child("torch", "kept_for_backward.py"))
    for name, network in NETWORKS.items():
        said = re.search(r"keeps\s+([\d.]+)\s+kB\s+per\s+(?:voxel|pixel)", network.build.__doc__ or "")
        assert said, name
        assert float(said[1]) == pytest.approx(kept[name] / 1000, rel=0.01), name


def _size(shape: Any) -> int:
    count = 1
    for side in shape:
        count *= int(side)
    return count
