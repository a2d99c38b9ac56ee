"""Where losses break: half precision, certainty, absent classes, ignored voxels, ids and shapes that do not fit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from augclient.errors import ConfigError, GeometryError, RequestError
from augtrain.losses import CrossEntropy, Dice, IoU, MultiResolution, SegmentationLoss, Sum, check_label_ids
from keras import ops
from numpy.typing import NDArray

K = 4
VOXELS = (900, 41, 7, 3)
LOSSES: dict[str, SegmentationLoss] = {
    "cross-entropy": CrossEntropy(),
    "cross-entropy-balanced": CrossEntropy("balanced"),
    "iou": IoU(),
    "iou-power-0.5": IoU(power=0.5),
    "iou-power-1.5": IoU(power=1.5),
    "iou-xy": IoU(fp_weight=0.5, fn_weight=1.5, background=False),
    "dice-square": Dice("square", VOXELS),
    "sa-dice": Dice(reduce="batch"),
    "sum": Sum([IoU(), CrossEntropy()]),
}
each_loss = pytest.mark.parametrize("name", LOSSES)


def draw(seed: int = 0, grid: tuple[int, ...] = (3, 4, 5)) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, K, (2, *grid)).astype(np.uint8)
    p = rng.dirichlet(np.ones(K), labels.shape).astype(np.float32)
    return labels, p


def certain(labels: NDArray[Any]) -> NDArray[np.float32]:
    return np.eye(K, dtype=np.float32)[labels]


@pytest.mark.parametrize("name", ["cross-entropy", "cross-entropy-balanced", "iou", "sa-dice"])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_has_the_value_of_float32_on_the_same_numbers(name: str, dtype: str, graded: Any) -> None:
    labels, p = draw(grid=(12, 16, 20))  # 3840 voxels: float16 stops counting at 2048
    p = np.maximum(p, 1e-3)  # the logarithm ends at 2**-14 for float16
    halved = ops.cast(ops.convert_to_tensor(p), dtype)
    wanted = float(LOSSES[name](labels, ops.cast(halved, "float32")))
    value, gradient = graded(lambda y, q: LOSSES[name](y, ops.cast(q, dtype)), labels, p)
    assert value == pytest.approx(wanted, rel=1e-5)
    assert np.isfinite(gradient).all()
    assert gradient.any()


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        *((name, "float32") for name in LOSSES),
        *((name, half) for name in ("cross-entropy", "iou-power-0.5") for half in ("float16", "bfloat16")),
    ],
)
def test_certainty_right_or_wrong_has_a_finite_loss_and_gradient(name: str, dtype: str, graded: Any) -> None:
    labels, p = draw()
    for predicted in (certain(labels), certain((labels + 1) % K), np.zeros_like(p), np.ones_like(p)):
        value, gradient = graded(lambda y, q: LOSSES[name](y, ops.cast(q, dtype)), labels, predicted)
        assert np.isfinite(value)
        assert np.isfinite(gradient).all()
    value, _ = graded(LOSSES[name], labels, certain(labels))
    assert value == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("name", ["cross-entropy-balanced", "iou-power-0.5"])
def test_gradient_through_a_softmax_of_large_logits_is_finite(name: str, dtype: str, graded: Any) -> None:
    labels, _ = draw()
    logits = np.random.default_rng(1).choice(np.array([-90, -16, 0, 16, 90], np.float32), (*labels.shape, K))
    _, gradient = graded(lambda y, z: LOSSES[name](y, ops.softmax(ops.cast(z, dtype))), labels, logits)
    assert np.isfinite(gradient).all()


def test_cross_entropy_pulls_a_voxel_that_float32_has_badly_wrong(graded: Any) -> None:
    """A floor of 1e-7 would leave it where it is for good: the softmax's slope is p - 1 there."""
    logits = np.array([[[[0.0, 40.0]]]], np.float32)  # p = 4e-18
    _, gradient = graded(lambda y, z: CrossEntropy()(y, ops.softmax(z)), np.zeros((1, 1, 1), np.uint8), logits)
    np.testing.assert_allclose(gradient.ravel(), [-1, 1], rtol=1e-5)


@pytest.mark.parametrize("loss", [IoU(), Dice(), Dice(reduce="batch")], ids=["iou", "dice", "sa-dice"])
def test_absent_classes_have_the_limits_of_the_docstrings(loss: SegmentationLoss, graded: Any) -> None:
    labels, p = draw()
    labels[labels == 2] = 0
    value, gradient = graded(loss, labels, p)  # absent from the truth
    assert not gradient[..., 2].any()
    other = np.where(np.arange(K) == 2, 0.5 * p, p)
    assert float(loss(labels, other)) == pytest.approx(value, abs=1e-6)
    predicted = certain(labels)  # absent from both
    assert float(loss(labels, predicted)) == pytest.approx(1 / K, abs=1e-6)
    there = np.where(np.arange(K) == 3, 0, predicted).astype(np.float32)  # absent from the prediction alone
    value, gradient = graded(loss, labels, there)
    assert value == pytest.approx(2 / K, abs=1e-6)
    assert (gradient[..., 3][labels == 3] < 0).all()


def test_an_absent_class_adds_nothing_to_cross_entropy() -> None:
    labels = np.zeros((1, 3, 5), np.uint8)
    p = np.full((1, 3, 5, K), 0.25, np.float32)
    assert float(CrossEntropy("balanced")(labels, p)) == pytest.approx(np.log(4), rel=1e-6)


def test_sa_dice_learns_from_images_without_the_class_where_dice_does_not(graded: Any) -> None:
    labels, p = draw()
    labels[1] = 0
    _, single = graded(Dice(), labels, p)
    _, batch = graded(Dice(reduce="batch"), labels, p)
    assert not single[1, ..., 1:].any()
    assert (batch[1, ..., 1:] > 0).all()


@each_loss
def test_ignored_voxels_are_as_if_cut_off(name: str, graded: Any) -> None:
    ignore = 255
    loss = Sum([LOSSES[name]], ignore=ignore)
    labels, p = draw()
    hidden = labels.copy()
    hidden[:, :, 2] = ignore
    kept = [0, 1, 3]
    value, gradient = graded(loss, hidden, p)
    assert value == pytest.approx(float(LOSSES[name](labels[:, :, kept], p[:, :, kept])), rel=1e-5, abs=1e-6)
    assert not gradient[:, :, 2].any()
    rows = np.where((hidden == ignore)[..., None], 0, certain(labels)).astype(np.uint8)
    assert float(loss(rows, p)) == pytest.approx(value, rel=1e-6)


def test_a_class_that_is_ignored_is_not_in_the_mean_either() -> None:
    labels, p = draw()
    hidden = labels == 3
    cut = np.where(hidden[..., None], 0, p)
    others = [
        1 - np.sum(cut[j, ..., k] * (labels[j] == k)) / np.sum(np.maximum(cut[j, ..., k], labels[j] == k)) for j in (0, 1) for k in range(3)
    ]
    assert float(IoU(ignore=3)(labels, p)) == pytest.approx(np.mean(others), rel=1e-5)
    assert float(IoU(ignore=3)(certain(labels).astype(np.uint8), p)) == pytest.approx(np.mean(others), rel=1e-5)


@each_loss
def test_a_batch_without_a_say_has_a_finite_loss_and_no_gradient(name: str, graded: Any) -> None:
    labels, p = draw()
    value, gradient = graded(Sum([LOSSES[name]], ignore=9), np.full_like(labels, 9), p)
    assert np.isfinite(value)
    assert not gradient.any()


def test_coarse_cells_ignore_what_the_voxels_ignore(graded: Any) -> None:
    labels = np.array([[[9, 1, 9, 9], [9, 9, 9, 9], [0, 0, 1, 0], [2, 1, 1, 0]]], np.uint8)  # cells: 1 by its one voter, none; 0, 1 by tie
    fine, coarse = certain(np.where(labels == 9, 0, labels)), certain(np.array([[[1, 3], [0, 1]]]))
    value, gradients = graded(MultiResolution(CrossEntropy(ignore=9), (0, 1)), labels, [fine, coarse])
    assert value == pytest.approx(0, abs=1e-6)  # what is said of the cell that none voted in does not matter
    assert not gradients[1][0, 0, 1].any()


@each_loss
def test_a_network_that_diverged_shows(name: str) -> None:
    labels, p = draw()
    p[0, 1, 2, 3] = np.nan
    assert np.isnan(float(LOSSES[name](labels, p)))


@pytest.mark.parametrize("dtype", ["uint8", "int16", "int32", "int64", "float32"])
def test_ids_of_any_type_are_the_same(dtype: str) -> None:
    labels, p = draw()
    assert float(IoU()(labels.astype(dtype), p)) == float(IoU()(labels, p))


def test_an_id_outside_the_classes_is_an_error_in_an_array_and_nan_in_a_tensor(graded: Any) -> None:
    labels, p = draw()
    labels[1, 0, 0, 0] = 17
    with pytest.raises(RequestError, match=r"got the ids \[17\]; allowed: 0 to 3"):
        IoU()(labels, p)
    value, gradient = graded(IoU(), labels, p)
    assert np.isnan(value)
    assert not gradient.any()
    for strange in (-1, 1.5):
        with pytest.raises(RequestError):
            check_label_ids([0, strange], K)
        assert np.isnan(graded(CrossEntropy(), np.where(labels == 17, strange, labels).astype(np.float32), p)[0])
    check_label_ids(labels, K, ignore=17)
    assert np.isfinite(graded(IoU(ignore=17), labels, p)[0])


def test_shapes_that_do_not_belong_together_are_named() -> None:
    labels, p = draw()
    with pytest.raises(GeometryError, match=r"\(2, 3, 4, 4\).*\(2, 3, 4, 5\)"):
        IoU()(labels[..., :4], p)
    with pytest.raises(GeometryError, match="y_true"):
        IoU()(labels[..., None], p)
    with pytest.raises(GeometryError, match="y_pred"):
        IoU()(labels[0, 0], p[0, 0])
    with pytest.raises(GeometryError, match="multi_resolution"):
        IoU()(labels, [p, p])
    with pytest.raises(GeometryError, match="divided by a whole number"):
        MultiResolution(IoU(), (1, 1))(labels, [p, p[:, :2]])
    with pytest.raises(ConfigError, match="got 3 for 1 predictions"):
        MultiResolution(IoU())(labels, [p])
    with pytest.raises(ConfigError, match="numbers for 3 classes; allowed: 4"):
        CrossEntropy((1, 2, 3))(labels, p)
    with pytest.raises(ConfigError, match="numbers for 5 classes; allowed: 4"):
        Dice("simple", [1, 2, 3, 4, 5])(labels, p)
