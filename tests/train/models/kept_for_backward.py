"""Run in a child on PyTorch: bytes that a forward pass at the papers' widths keeps for the backward pass, per voxel of input, as JSON.

python kept_for_backward.py      one float32 image of one channel, 2 classes
"""

from __future__ import annotations

import json
import math
from typing import Any

import keras
import numpy as np
import torch
from augtrain.models import NETWORKS, Network


def kept_bytes_per_voxel(network: Network) -> float:
    """What a patch of twice the size keeps more, per voxel (pixel): so copies of the weights, which do not grow, are not counted."""
    model = network.build(2)
    small = (32, 32, 32) if network.dimensions == 3 else (64, 128)
    large = (*small[:-1], 2 * small[-1])
    return (_kept_bytes(model, large) - _kept_bytes(model, small)) / math.prod(small)


def _kept_bytes(model: keras.Model, shape: tuple[int, ...]) -> int:
    """Bytes of the distinct storages that autograd saves in a forward pass over one image."""
    saved: dict[int, Any] = {}  # holds the storages, so that no address comes twice

    def save(tensor: torch.Tensor) -> torch.Tensor:
        saved[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage()
        return tensor

    image = np.random.default_rng(0).uniform(size=(1, *shape, 1)).astype(np.float32)
    with torch.autograd.graph.saved_tensors_hooks(save, lambda tensor: tensor):
        model(image, training=True)
    return sum(storage.nbytes() for storage in saved.values())


if __name__ == "__main__":
    print(json.dumps({name: kept_bytes_per_voxel(network) for name, network in NETWORKS.items()}))
