"""FFT morphology against scipy.ndimage, voxel by voxel."""

from __future__ import annotations

from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from numpy.typing import NDArray
from scipy import ndimage

from augserver.errors import GeometryError
from augserver.labels.fft_morphology import FftMorphology, ball


@st.composite
def masks(draw: st.DrawFn) -> tuple[NDArray[np.bool_], list[float]]:
    """A mask of 1 to 3 axes, some a voxel thin, and a spacing per axis."""
    shape = draw(st.lists(st.integers(1, 13), min_size=1, max_size=3))
    spacing = draw(st.lists(st.floats(0.3, 5.0), min_size=len(shape), max_size=len(shape)))
    density = draw(st.sampled_from([0.0, 0.03, 0.3, 0.8, 0.98, 1.0]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return rng.random(shape) < density, spacing


def assert_same_as_scipy(mask: NDArray[np.bool_], element: NDArray[np.bool_], *, outside: bool) -> None:
    morphology = FftMorphology(element)
    dilated = ndimage.binary_dilation(mask, element, border_value=outside)
    eroded = ndimage.binary_erosion(mask, element, border_value=outside)
    np.testing.assert_array_equal(morphology.dilate(mask, outside=outside), dilated)
    np.testing.assert_array_equal(morphology.erode(mask, outside=outside), eroded)
    np.testing.assert_array_equal(morphology.close(mask, outside=outside), ndimage.binary_erosion(dilated, element, border_value=outside))
    np.testing.assert_array_equal(morphology.open(mask, outside=outside), ndimage.binary_dilation(eroded, element, border_value=outside))


@settings(deadline=None, max_examples=300, derandomize=True)
@given(masks(), st.floats(0.2, 30.0), st.booleans())
def test_balls_give_scipys_voxels(case: tuple[NDArray[np.bool_], list[float]], diameter_mm: float, outside: bool) -> None:
    mask, spacing = case
    assert_same_as_scipy(mask, ball(diameter_mm, spacing), outside=outside)


@settings(deadline=None, max_examples=300, derandomize=True)
@given(masks(), st.integers(0, 2**32 - 1), st.booleans())
def test_lopsided_elements_give_scipys_voxels(case: tuple[NDArray[np.bool_], list[float]], seed: int, outside: bool) -> None:
    mask, _ = case
    rng = np.random.default_rng(seed)
    element = rng.random(2 * rng.integers(0, 5, mask.ndim) + 1) < 0.4
    element.flat[rng.integers(element.size)] = True
    assert_same_as_scipy(mask, element, outside=outside)


def test_opening_and_closing_have_scipys_names_and_border() -> None:
    mask = np.random.default_rng(0).random((5, 17, 23)) < 0.5
    element = ball(5.0, (3.0, 1.0, 0.8))
    np.testing.assert_array_equal(FftMorphology(element).open(mask), ndimage.binary_opening(mask, element))
    np.testing.assert_array_equal(FftMorphology(element).close(mask), ndimage.binary_closing(mask, element))


def test_a_ball_holds_the_voxels_within_its_radius_in_mm() -> None:
    element = ball(6.0, (3.0, 1.0, 2.0))
    assert element.shape == (3, 7, 3)
    expected = [(z, y, x) for z in (-1, 0, 1) for y in range(-3, 4) for x in (-1, 0, 1) if 9 * z**2 + y**2 + 4 * x**2 <= 9]
    assert sorted(map(tuple, (np.argwhere(element) - (1, 3, 1)).tolist())) == sorted(expected)


def test_a_radius_of_whole_voxels_includes_the_last_one_whatever_the_rounding() -> None:
    assert ball(2 * 0.3, (0.1,)).shape == (7,)
    assert ball(2 * 0.7, (0.1,)).shape == (15,)


def test_one_voxel_that_decides_is_not_rounded_away() -> None:
    """The hardest counts: 0 against 1 beside a full half, and all against all but one."""
    element = ball(25.0, (1.0, 1.0, 1.0))
    mask = np.zeros((40, 60, 80), bool)
    mask[:, :, :40] = True
    dilated = FftMorphology(element).dilate(mask)
    assert dilated[:, :, 51].all()  # 12 voxels beyond the face the ball's single outermost voxels decide
    assert not dilated[:, :, 52:].any()
    hole = np.ones((40, 60, 80), bool)
    hole[20, 30, 40] = False
    eroded = FftMorphology(element).erode(hole, outside=True)
    np.testing.assert_array_equal(~eroded[8:33, 18:43, 28:53], element)
    assert (~eroded).sum() == element.sum()


def test_counts_stay_near_whole_numbers_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """The claim of the module: no count of the largest real case is off by as much as 0.05, so that float64 is never needed."""
    seen: list[float] = []
    original = FftMorphology._convolve

    def convolve(self: FftMorphology, mask: Any, dtype: Any, *, reflect: bool) -> Any:
        counts = original(self, mask, dtype, reflect=reflect)
        seen.append(float(np.abs(counts - np.rint(counts)).max()))
        assert dtype is np.float32
        return counts

    monkeypatch.setattr(FftMorphology, "_convolve", convolve)
    mask = np.random.default_rng(1).random((128, 128, 128)) < 0.97
    FftMorphology(ball(25.0, (1.0, 1.0, 1.0))).close(mask)
    assert len(seen) == 2
    assert max(seen) < 0.05


def test_a_transform_that_errs_is_done_again_in_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    original = FftMorphology._convolve

    def convolve(self: FftMorphology, mask: Any, dtype: Any, *, reflect: bool) -> Any:
        return original(self, mask, dtype, reflect=reflect) + (0.4 if dtype is np.float32 else 0.0)

    monkeypatch.setattr(FftMorphology, "_convolve", convolve)
    mask = np.random.default_rng(2).random((9, 11)) < 0.2
    element = ball(4.0, (1.0, 1.0))
    np.testing.assert_array_equal(FftMorphology(element).dilate(mask), ndimage.binary_dilation(mask, element))


def test_the_elements_transform_is_reused() -> None:
    morphology = FftMorphology(ball(4.0, (1.0, 1.0)))
    mask = np.eye(9, dtype=bool)
    morphology.dilate(mask)
    kept = dict(morphology._transforms)
    morphology.dilate(mask)
    assert len(kept) == 1
    assert all(morphology._transforms[key] is value for key, value in kept.items())


@pytest.mark.parametrize("arguments", [(0.0, (1.0,)), (np.nan, (1.0,)), (5.0, (1.0, 0.0)), (5.0, (1.0, np.inf)), (5.0, ())])
def test_balls_without_meaning_are_refused(arguments: Any) -> None:
    with pytest.raises(GeometryError, match="> 0"):
        ball(*arguments)


@pytest.mark.parametrize("element", [np.ones((3, 4), bool), np.zeros((3, 3), bool)])
def test_elements_without_a_middle_or_a_voxel_are_refused(element: NDArray[np.bool_]) -> None:
    with pytest.raises(GeometryError, match="odd sizes and a voxel set"):
        FftMorphology(element)


def test_a_mask_of_other_dimensions_is_refused() -> None:
    with pytest.raises(GeometryError, match="3 axes"):
        FftMorphology(ball(3.0, (1.0, 1.0))).dilate(np.zeros((3, 3, 3), bool))
