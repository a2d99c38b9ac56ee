"""Values against the papers' formulas, written here voxel by voxel in NumPy, and gradients against their finite differences.

Runs on the backend that KERAS_BACKEND names; test_on_every_backend.py starts it on each.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
from augtrain.losses import CrossEntropy, Dice, IoU, MultiResolution, SegmentationLoss, Sum
from numpy.typing import NDArray

Array = NDArray[np.float64]
Formula = Callable[[Array, Array], float]

CLASSES = 4
VOXELS = (900.0, 41.0, 7.0, 0.0)  # of a dataset; no voxel of class 3
GRIDS = [(3, 4, 5), (5, 7)]


def draw(grid: tuple[int, ...], images: int = 2, seed: int = 0) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Labels, unbalanced and without class 3 in image 1, and probabilities."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(CLASSES, (images, *grid), p=(0.6, 0.2, 0.1, 0.1)).astype(np.uint8)
    labels[0].flat[:CLASSES] = range(CLASSES)
    labels[1][labels[1] == 3] = 0
    logits = rng.normal(0, 1.5, (images, *grid, CLASSES))
    p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    return labels, p.astype(np.float32)


def widened(p: NDArray[np.float32]) -> Array:
    """Probabilities that float32 cannot hold."""
    roots = np.sqrt(p.astype(np.float64))
    return roots / roots.sum(-1, keepdims=True)


def one_hot(labels: NDArray[Any]) -> Array:
    return np.eye(CLASSES)[labels]


def flat(p: Array) -> Array:
    """(N, ..., K) -> (N, voxels, K)"""
    return p.reshape(len(p), -1, p.shape[-1])


def rister_eq_5(p: Array, y: Array) -> float:
    """Of one class of one image."""
    return 1 - np.sum(p * y) / (np.sum(p) + np.sum(y) - np.sum(p * y))


def rister_eq_8(p: Array, y: Array, m: float) -> float:
    return 1 - np.sum(p**m * y) / (np.sum(p**m) + np.sum(y) - np.sum(p**m * y))


def furtado_iou_xy(p: Array, y: Array, alpha: float, beta: float) -> float:
    tp, fp, fn = np.sum(p * y), np.sum(p * (1 - y)), np.sum((1 - p) * y)
    return 1 - tp / (tp + alpha * fp + beta * fn)


def furtado_dice(p: Array, y: Array) -> float:
    tp, fp, fn = np.sum(p * y), np.sum(p * (1 - y)), np.sum((1 - p) * y)
    return 1 - 2 * tp / (2 * tp + fp + fn)


def over_classes(formula: Formula, first: int = 0) -> Formula:
    """The mean over images of the mean over the classes from `first` on."""

    def mean(p: Array, y: Array) -> float:
        p, y = flat(p), flat(y)
        return float(np.mean([[formula(p[j, :, k], y[j, :, k]) for k in range(first, CLASSES)] for j in range(len(p))]))

    return mean


def shen_eq_6(weight: Callable[[float, float], float]) -> Formula:
    """1/L sum w L_DSC with eq. 2's minus, plus 1/L sum w."""

    def mean(p: Array, y: Array) -> float:
        p, y = flat(p), flat(y)
        w = [weight(sum(VOXELS), r) for r in VOXELS]
        images = []
        for j in range(len(p)):
            eq_2 = [-2 * np.sum(p[j, :, k] * y[j, :, k]) / (np.sum(p[j, :, k]) + np.sum(y[j, :, k])) for k in range(CLASSES)]
            images.append(sum(w[k] * eq_2[k] for k in range(CLASSES)) / CLASSES + sum(w) / CLASSES)
        return float(np.mean(images))

    return mean


def nguyen_eq_5(p: Array, y: Array) -> float:
    p, y = flat(p), flat(y)
    d = [2 * np.sum(p[:, :, k] * y[:, :, k]) / (np.sum(p[:, :, k]) + np.sum(y[:, :, k])) for k in range(CLASSES)]
    return float(1 - np.mean(d))


def furtado_cross_entropy(weights: tuple[float, ...]) -> Formula:
    def mean(p: Array, y: Array) -> float:
        return float(np.mean(-np.sum(np.array(weights) * y * np.log(p), -1)))

    return mean


def rister_balanced(p: Array, y: Array) -> float:
    """All objects of an image weigh the same: the mean over its classes of the mean over their voxels."""
    p, y = flat(p), flat(y)
    images = []
    for j in range(len(p)):
        k_of = y[j].argmax(-1)
        images.append(np.mean([np.mean(-np.log(p[j, k_of == k, k])) for k in np.unique(k_of)]))
    return float(np.mean(images))


def smoothstep(p: Any) -> Any:
    return p * p * (3 - 2 * p)


CASES: dict[str, tuple[SegmentationLoss, Formula]] = {
    "iou": (IoU(), over_classes(rister_eq_5)),
    "iou-power-2": (IoU(power=2), over_classes(lambda p, y: rister_eq_8(p, y, 2))),
    "iou-power-0.5": (IoU(power=0.5), over_classes(lambda p, y: rister_eq_8(p, y, 0.5))),
    "iou-curve": (IoU(curve=smoothstep), over_classes(lambda p, y: rister_eq_5(smoothstep(p), y))),
    "iou-0.5-1.5": (IoU(fp_weight=0.5, fn_weight=1.5), over_classes(lambda p, y: furtado_iou_xy(p, y, 0.5, 1.5))),
    "iou-2-0": (IoU(fp_weight=2, fn_weight=0), over_classes(lambda p, y: furtado_iou_xy(p, y, 2, 0))),
    "iou-no-background": (IoU(background=False), over_classes(rister_eq_5, first=1)),
    "dice": (Dice(), over_classes(furtado_dice)),
    "diceBK": (Dice(background=False), over_classes(furtado_dice, first=1)),
    "dice-uniform": (Dice("uniform"), shen_eq_6(lambda n, r: 1)),
    "dice-simple": (Dice("simple", VOXELS), shen_eq_6(lambda n, r: n / (CLASSES * r + 1))),
    "dice-square": (Dice("square", VOXELS), shen_eq_6(lambda n, r: n / (CLASSES * r**2 + 1))),
    "sa-dice": (Dice(reduce="batch"), nguyen_eq_5),
    "cross-entropy": (CrossEntropy(), furtado_cross_entropy((1, 1, 1, 1))),
    "cross-entropy-given": (CrossEntropy((0.1, 2, 3, 0.5)), furtado_cross_entropy((0.1, 2, 3, 0.5))),
    "cross-entropy-inverse": (
        CrossEntropy("inverse", class_voxels=dict(enumerate(VOXELS))),
        furtado_cross_entropy(tuple(948 / (4 * r + 1) for r in VOXELS)),
    ),
    "cross-entropy-balanced": (CrossEntropy("balanced"), rister_balanced),
    "sum": (Sum([IoU(), CrossEntropy()], [0.5, 2]), lambda p, y: 0.5 * over_classes(rister_eq_5)(p, y) + 2 * np.mean(-np.log(p[y == 1]))),
}


@pytest.mark.parametrize("grid", GRIDS, ids=["3-D", "2-D"])
@pytest.mark.parametrize("name", CASES)
def test_value_is_the_formula_of_the_paper(name: str, grid: tuple[int, ...]) -> None:
    loss, formula = CASES[name]
    labels, p = draw(grid)
    wanted = formula(p.astype(np.float64), one_hot(labels))
    assert float(loss(labels, p)) == pytest.approx(wanted, rel=1e-5, abs=1e-5)
    assert float(loss(one_hot(labels).astype(np.uint8), p)) == pytest.approx(wanted, rel=1e-5, abs=1e-5)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("name", CASES)
def test_value_in_float64_is_the_formula_to_12_digits(name: str) -> None:
    loss, formula = CASES[name]
    labels, p = draw((3, 4, 5))
    p = widened(p)
    wanted = formula(p, one_hot(labels))
    per_image = keras.ops.convert_to_numpy(loss.call(labels, keras.ops.convert_to_tensor(p)))
    assert per_image.dtype == np.float64
    assert per_image.mean() == pytest.approx(wanted, rel=1e-12)
    if keras.backend.backend() != "torch":  # there Keras takes the mean in float32
        value = loss(labels, p)
        assert keras.backend.standardize_dtype(value.dtype) == "float64"
        assert float(value) == pytest.approx(wanted, rel=1e-12)


@pytest.mark.parametrize("name", CASES)
def test_gradient_is_the_formulas_finite_difference(name: str, graded: Any) -> None:
    loss, formula = CASES[name]
    labels, p = draw((2, 3, 4), seed=1)
    value, gradient = graded(loss, labels, p)
    wanted = finite_differences(lambda q: formula(q, one_hot(labels)), p.astype(np.float64))
    assert value == pytest.approx(formula(p.astype(np.float64), one_hot(labels)), rel=1e-5, abs=1e-5)
    assert np.abs(wanted).max() > 1e-4
    np.testing.assert_allclose(gradient, wanted, rtol=2e-4, atol=2e-6 * np.abs(wanted).max())


def finite_differences(formula: Callable[[Array], float], p: Array, step: float = 1e-6) -> Array:
    gradient = np.zeros_like(p)
    for at in np.ndindex(p.shape):
        ahead, behind = p.copy(), p.copy()
        step_here = step * p[at]  # the logarithm bends more the smaller p is
        ahead[at] += step_here
        behind[at] -= step_here
        gradient[at] = (formula(ahead) - formula(behind)) / (2 * step_here)
    return gradient


def test_equation_4_as_printed_is_given_weights_and_balanced_is_it_with_the_weights_exchanged() -> None:
    rng = np.random.default_rng(3)
    y = (rng.random((1, 3, 5, 4)) < 0.2).astype(np.uint8)
    p1 = rng.uniform(0.05, 0.95, y.shape).astype(np.float32)
    p = np.stack([1 - p1, p1], -1)
    w = float(y.mean())
    l_k = -(y * np.log(p1) + (1 - y) * np.log(1 - p1))
    printed = np.mean(((1 - y) * (1 - w) + y * w) * l_k)
    exchanged = np.mean(((1 - y) * w + y * (1 - w)) * l_k)
    assert float(CrossEntropy((1 - w, w))(y, p)) == pytest.approx(printed, rel=1e-5)
    assert float(CrossEntropy("balanced")(y, p)) == pytest.approx(exchanged / (2 * w * (1 - w)), rel=1e-5)


@pytest.mark.usefixtures("float64")
def test_equation_6_sums_levels_with_labels_of_each_level(graded: Any) -> None:
    labels, p = draw((4, 4, 6), seed=4)
    _, p_half = draw((2, 2, 3), seed=5)
    _, p_slab = draw((2, 1, 1), seed=6)  # another factor on each axis
    loss = MultiResolution(Dice(), alphas=(1, 0.1, 0.01))

    def majority(grid: tuple[int, ...]) -> NDArray[np.uint8]:
        out = np.zeros((2, *grid), np.uint8)
        f = [a // b for a, b in zip((4, 4, 6), grid, strict=True)]
        for j, z, y, x in np.ndindex(out.shape):
            cell = labels[j, z * f[0] : (z + 1) * f[0], y * f[1] : (y + 1) * f[1], x * f[2] : (x + 1) * f[2]]
            votes = np.bincount(cell.ravel(), minlength=CLASSES)
            first = cell[0, 0, 0]
            out[j, z, y, x] = first if votes[first] == votes.max() else votes.argmax()
        return out

    def eq_6(predictions: list[Array]) -> float:
        truths = [labels, majority((2, 2, 3)), majority((2, 1, 1))]
        terms = [over_present(q, one_hot(t)) for q, t in zip(predictions, truths, strict=True)]
        return terms[0] + 0.1 * terms[1] + 0.01 * terms[2]

    over_present = over_classes(furtado_dice)
    predictions = [p, p_half, p_slab]
    value, gradients = graded(loss, labels, predictions)
    wide = [each.astype(np.float64) for each in predictions]
    assert value == pytest.approx(eq_6(wide), abs=1e-5)
    trainable = MultiResolution(Dice(), (1, 0.1, 0.01), trainable=True)
    assert graded(trainable, labels, predictions)[0] == pytest.approx(eq_6(wide), abs=1e-5)
    widest = [widened(each) for each in predictions]
    for each in (loss, trainable):
        per_image = keras.ops.convert_to_numpy(each.call(labels, [keras.ops.convert_to_tensor(level) for level in widest]))
        assert per_image.dtype == np.float64
        assert per_image.mean() == pytest.approx(eq_6(widest), rel=1e-12)
    for level in (1, 2):
        wanted = finite_differences(lambda q, level=level: eq_6([*wide[:level], q, *wide[level + 1 :]]), wide[level])
        np.testing.assert_allclose(gradients[level], wanted, rtol=1e-3, atol=1e-7)


def test_many_voxels_are_counted_in_full() -> None:
    labels = np.zeros((2, 4096, 2080), np.uint8)  # 17 million in the batch, more than float32 counts one by one
    labels[:, :, ::5] = 1
    p = np.zeros((*labels.shape, 2), np.float16)
    p[..., 0] = 1
    dice = 1 - 2 * 0.8 / (1 + 0.8)
    assert float(Dice(reduce="batch")(labels, p)) == pytest.approx((dice + 1) / 2, abs=1e-5)
