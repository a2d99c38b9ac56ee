"""Properties 1 to 4 of Rister et al. 2018, V-C, of the IoU losses and Dice, on drawn images of one class.

The paper states them for the score where it writes loss (the loss falls where the score rises), and for truths that are not empty: an
empty one has the loss 1 whatever is predicted. Decreasing where y = 0 is strict only if something of the truth was hit.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
from augtrain.losses import Dice, IoU, SegmentationLoss
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

N = 7
LOSSES: dict[str, SegmentationLoss] = {
    "iou": IoU(),
    "power-3": IoU(power=3),
    "power-0.5": IoU(power=0.5),
    "iou-xy": IoU(fp_weight=0.5, fn_weight=1.5),
    "curve": IoU(curve=lambda p: keras.ops.sin(p * np.pi / 2)),
    "dice": Dice(),
    "sa-dice": Dice(reduce="batch"),
}
# grid points, so that float32 can tell two of them apart in any sum
probability = st.integers(0, 64).map(lambda i: i / 64)
probabilities = arrays(np.float32, N, elements=probability)
binary = arrays(np.float32, N, elements=st.sampled_from([0.0, 1.0]))
truths = binary.filter(lambda y: bool(y.any()))
each_loss = pytest.mark.parametrize("name", LOSSES)


def steady(test: Callable[..., None]) -> Callable[..., None]:
    return settings(max_examples=30, deadline=None, derandomize=True, database=None)(test)


def score(name: str, p: NDArray[np.float32], y: NDArray[np.float32]) -> float:
    """The loss of one image (1, 1, N, 1) with a single class."""
    return float(LOSSES[name](y.reshape(1, 1, N, 1), p.reshape(1, 1, N, 1)))


@each_loss
@steady
@given(p=binary, y=binary)
def test_1_binary_predictions_have_the_loss_of_the_sets(name: str, p: NDArray[Any], y: NDArray[Any]) -> None:
    a, b = set(np.flatnonzero(p)), set(np.flatnonzero(y))
    tp, fp, fn = len(a & b), len(a - b), len(b - a)
    if "dice" in name:
        wanted = 1 - 2 * tp / (len(a) + len(b)) if a or b else 1.0
    elif name == "iou-xy":
        wanted = 1 - tp / (tp + 0.5 * fp + 1.5 * fn) if a or b else 1.0
    else:
        wanted = 1 - len(a & b) / len(a | b) if a or b else 1.0
    assert score(name, p, y) == pytest.approx(wanted, abs=1e-6)


@each_loss
@steady
@given(p=probabilities, y=truths, k=st.integers(0, N - 1), more=st.integers(1, 64))
def test_2_the_loss_falls_with_p_where_the_class_is_and_rises_where_it_is_not(
    name: str, p: NDArray[Any], y: NDArray[Any], k: int, more: int
) -> None:
    raised = p.copy()
    raised[k] = min(1.0, p[k] + more / 64)
    if raised[k] == p[k]:
        p[k] = raised[k] - more / 64
    before, after = score(name, p, y), score(name, raised, y)
    hit = bool((p * y).any())
    if y[k] == 1:
        assert after < before
    elif hit and name != "power-3":
        assert after > before
    else:  # nothing hit yet, or p**3 too small a share of float32's sum
        assert after >= before


@each_loss
@steady
@given(p=probabilities, y=truths)
def test_3_only_the_truth_has_loss_0_and_only_what_misses_all_of_it_has_loss_1(name: str, p: NDArray[Any], y: NDArray[Any]) -> None:
    assert score(name, y, y) == pytest.approx(0, abs=1e-6)
    assert score(name, 1 - y, y) == pytest.approx(1, abs=1e-6)
    value = score(name, p, y)
    if not np.array_equal(p, y):
        assert value > 1e-7
    if (p * y).any():
        assert value < 1
    else:
        assert value == 1  # the paper says p = 1 - y only; any p that is 0 on the truth has it


@each_loss
@steady
@given(p=probabilities, y=binary)
def test_4_the_loss_is_smooth_and_1_where_all_is_empty(name: str, p: NDArray[Any], y: NDArray[Any], graded: Any) -> None:
    assert score(name, np.zeros(N, np.float32), np.zeros(N, np.float32)) == 1
    value, gradient = graded(LOSSES[name], y.reshape(1, 1, N, 1), p.reshape(1, 1, N, 1))
    assert 0 <= value <= 1
    assert np.isfinite(gradient).all()
    if not y.any():
        assert value == 1
        assert not gradient.any()
    elif (p.min() >= 1 / 64) and name != "power-0.5":
        step = np.float32(1e-3)
        ahead = np.clip(p + step, 0, 1).astype(np.float32)
        behind = (p - step).astype(np.float32)
        change = score(name, ahead, y) - score(name, behind, y)
        assert change == pytest.approx(float(np.sum(gradient.ravel() * (ahead - behind))), abs=2e-5)
