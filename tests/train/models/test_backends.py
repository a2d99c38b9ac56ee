"""The same weights give the same outputs and the same training step on every backend of Keras."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from augtrain.models import NETWORKS

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]  # JAX compiles for half a minute where a core is free

TOLERANCE = 2e-5
"""Of probabilities: float32 sums of up to some thousand terms, in another order."""
AFTER_A_STEP = 2e-4
"""Of the loss after one step, relative: sums over all voxels and through normalisations with few voxels at the bottom."""


@pytest.fixture(scope="module")
def reference(child: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """The folder of the weights, and what TensorFlow made of them."""
    folder = tmp_path_factory.mktemp("steps")
    child("tensorflow", "steps.py", str(folder))
    return folder, np.load(folder / "tensorflow.npz")


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_outputs_and_steps_equal_tensorflows_from_weights_that_it_saved(child: Any, reference: tuple[Path, Any], backend: str) -> None:
    folder, expected = reference
    child(backend, "steps.py", str(folder))
    got = np.load(folder / f"{backend}.npz")
    assert sorted(got.files) == sorted(expected.files)
    for key in expected.files:
        tolerance = {"rtol": AFTER_A_STEP} if key.endswith("/losses") else {"rtol": 0, "atol": TOLERANCE}
        np.testing.assert_allclose(got[key], expected[key], err_msg=f"{key} on {backend}", **tolerance)


def test_outputs_are_probabilities_that_differ_and_a_step_lowers_the_loss(reference: tuple[Path, Any]) -> None:
    _, results = reference
    for name, network in NETWORKS.items():
        for head in range(network.heads):
            output = results[f"{name}/output_{head}"]
            np.testing.assert_allclose(output.sum(-1), 1, atol=1e-5)
            assert output.std(axis=(0, 1, 2)).max() > 0.005, f"{name}: the same everywhere, so equal on all backends for nothing"
        before, after = results[f"{name}/losses"]
        assert after < before, name
