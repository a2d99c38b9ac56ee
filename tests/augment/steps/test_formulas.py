"""Steps whose formula is a line of NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np

from augserver.kernel import _cpu


def test_shift(image: Any, apply: Any) -> None:
    assert np.array_equal(apply(image, {"op": "shift", "offset": [0.5, -3], "per_channel": True})[1], image[1] - np.float32(3))


def test_multiply_about_the_mean_and_about_a_value(image: Any, apply: Any, equal: Any) -> None:
    mean = image.mean(axis=(1, 2, 3), keepdims=True, dtype=np.float64)
    equal(apply(image, {"op": "multiply", "factor": 1.3, "about": "mean"}), (image - mean) * 1.3 + mean)
    equal(apply(image, {"op": "multiply", "factor": 1.3, "about": 7}), (image.astype(np.float64) - 7) * 1.3 + 7)


def test_window(image: Any, apply: Any, equal: Any) -> None:
    place = (image.astype(np.float64) + 1) / 3.0
    equal(apply(image, {"op": "window", "low": -1, "high": 2}), np.clip(place, 0, 1))
    equal(apply(image, {"op": "window", "low": -1, "high": 2, "clamp": False}), place)


def test_noise_is_the_kernels_normals_under_its_key(image: Any, apply: Any) -> None:
    plain = np.zeros_like(image)
    ours = apply(plain, {"op": "noise", "std": 2, "noise_key": [11, 5]})
    normals = np.zeros((2, -(-plain[0].size // 64) * 64), np.float32)
    for channel in range(2):
        _cpu.normals("scalar", 11 | 5 << 32, channel, 0, normals[channel])
    assert np.array_equal(ours.reshape(2, -1), normals[:, : plain[0].size] * np.float32(2))


def test_steps_work_in_their_order(image: Any, apply: Any) -> None:
    first = apply(image, {"op": "shift", "offset": 1}, {"op": "multiply", "factor": 2})
    second = apply(image, {"op": "multiply", "factor": 2}, {"op": "shift", "offset": 1})
    assert np.array_equal(first, (image + np.float32(1)) * np.float32(2))
    assert np.array_equal(second, image * np.float32(2) + np.float32(1))
