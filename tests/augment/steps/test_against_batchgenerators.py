"""Given the same drawn values, voxels equal batchgeneratorsv2's: at most 1e-4 of a channel's standard deviation apart."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("batchgeneratorsv2")
from batchgeneratorsv2.transforms.intensity.brightness import MultiplicativeBrightnessTransform  # noqa: E402
from batchgeneratorsv2.transforms.intensity.contrast import ContrastTransform  # noqa: E402
from batchgeneratorsv2.transforms.intensity.gamma import GammaTransform  # noqa: E402
from batchgeneratorsv2.transforms.noise.gaussian_blur import blur_dimension  # noqa: E402

VALUES = (0.75, 1.2)
BOTH = torch.tensor([0, 1])


@pytest.mark.parametrize("clamp", [True, False])
def test_contrast(image: Any, apply: Any, equal: Any, clamp: bool) -> None:
    ours = apply(image, {"op": "contrast", "factor": VALUES, "per_channel": True, "clamp": clamp})
    theirs = ContrastTransform((0.5, 2), preserve_range=clamp, synchronize_channels=False)._apply_to_image(
        torch.from_numpy(image.copy()), apply_to_channel=BOTH, multipliers=torch.tensor(VALUES)
    )
    equal(ours, theirs.numpy())


@pytest.mark.parametrize("invert", [True, False])
@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("exponents", [(0.7, 1.5), (1.0, 0.4), (4.0, 2.2)])
def test_gamma(image: Any, apply: Any, equal: Any, invert: bool, keep: bool, exponents: tuple[float, float]) -> None:
    ours = apply(image, {"op": "gamma", "exponent": exponents, "per_channel": True, "invert": invert, "keep_statistics": keep})
    theirs = GammaTransform((0.7, 1.5), 0, False, 1, 1)._apply_to_image(
        torch.from_numpy(image.copy()),
        apply_to_channel=BOTH,
        retain_stats=torch.tensor([keep, keep]),
        invert_image=torch.tensor([invert, invert]),
        gamma=torch.tensor(exponents),
    )
    equal(ours, theirs.numpy())


def test_multiply(image: Any, apply: Any, equal: Any) -> None:
    ours = apply(image, {"op": "multiply", "factor": VALUES, "per_channel": True})
    theirs = MultiplicativeBrightnessTransform((0.75, 1.25), synchronize_channels=False)._apply_to_image(
        torch.from_numpy(image.copy()), apply_to_channel=BOTH, multipliers=torch.tensor(VALUES)
    )
    equal(ours, theirs.numpy(), 1e-6)


@pytest.mark.parametrize("sigmas", [(0.5, 0.6, 1.0), (0.9, 1.0, 0.55), (0.0, 0.7, 0.7), (2.0, 1.5, 1.2)])
def test_blur(image: Any, apply: Any, equal: Any, sigmas: tuple[float, float, float]) -> None:
    ours = apply(image, {"op": "blur", "sigma": sigmas})
    theirs = torch.from_numpy(image.copy())
    for axis, sigma in enumerate(sigmas):
        theirs = blur_dimension(theirs, sigma, axis, force_use_fft=False) if sigma else theirs
    assert theirs.shape == image.shape
    equal(ours, theirs.numpy())


def test_a_channel_that_is_not_named_stays_as_it_is(image: Any, apply: Any) -> None:
    ours = apply(image, {"op": "blur", "sigma": [1, 1, 1], "channels": [1]}, {"op": "multiply", "factor": 2, "channels": [1]})
    assert np.array_equal(ours[0], image[0])
    assert not np.array_equal(ours[1], image[1])
