"""Affines and orders of axes, against nibabel and by following single points."""

from __future__ import annotations

from itertools import permutations, product

import nibabel
import numpy as np
import pytest

from augserver.errors import GeometryError
from augserver.geometry import (
    affine_from_itk,
    affine_from_ras,
    affine_of,
    affine_to_ras,
    check_affine,
    check_spacing,
    common_spacing,
    skew_deg,
    spacing_of,
    to_canonical,
    voxel_to_voxel,
)

OBLIQUE = np.array([[0.94, -0.34, 0.0], [0.34, 0.94, 0.0], [0.0, 0.0, 1.0]])


def test_itk_geometry_maps_zyx_voxels_to_xyz_lps() -> None:
    affine = affine_from_itk((10.0, 20.0, 30.0), (0.5, 1.0, 3.0), (0, 1, 0, -1, 0, 0, 0, 0, 1))
    # One step in x (0.5 mm) moves along direction column 0 = (0, -1, 0); one in z (3 mm) along (0, 0, 1).
    np.testing.assert_allclose(affine @ [0, 0, 1, 1], [10.0, 19.5, 30.0, 1])
    np.testing.assert_allclose(affine @ [1, 0, 0, 1], [10.0, 20.0, 33.0, 1])
    assert spacing_of(affine) == (3.0, 1.0, 0.5)


def test_ras_geometry_is_lps_with_x_and_y_negated_and_goes_back() -> None:
    ras = np.array([[2.0, 0, 0, -7], [0, 3.0, 0, 5], [0, 0, 4.0, 11], [0, 0, 0, 1]])
    affine = affine_from_ras(ras)
    np.testing.assert_allclose(affine @ [1, 1, 1, 1], [7.0 - 2.0, -5.0 - 3.0, 15.0, 1])
    np.testing.assert_array_equal(affine_to_ras(affine), ras)


def test_an_upright_affine_has_its_axes_in_canonical_order() -> None:
    affine = affine_of((3, 1, 0.5), (10, 20, 30))
    np.testing.assert_array_equal(affine @ [1, 0, 0, 1], [10, 20, 33, 1])
    np.testing.assert_array_equal(affine @ [0, 1, 0, 1], [10, 21, 30, 1])
    np.testing.assert_array_equal(affine @ [0, 0, 1, 1], [10.5, 20, 30, 1])


@pytest.mark.parametrize("turn", [np.eye(3), OBLIQUE], ids=["upright", "oblique"])
@pytest.mark.parametrize("axes", list(permutations(range(3))))
@pytest.mark.parametrize("signs", list(product((1, -1), repeat=3)))
def test_canonical_order_keeps_every_voxel_in_its_place_for_all_48_orientations(
    axes: tuple[int, ...], signs: tuple[int, ...], turn: np.ndarray
) -> None:
    matrix = np.eye(4)
    matrix[:3, :3] = (turn @ (np.eye(3)[:, list(axes)] * signs)) * [3.0, 1.0, 0.5]
    matrix[:3, 3] = 10, 20, 30
    affine = check_affine(matrix)
    array = np.arange(5 * 7 * 11).reshape(5, 7, 11)
    moved, canonical = to_canonical(array, affine)
    codes = nibabel.aff2axcodes(affine_to_ras(canonical))
    assert codes == ("L", "P", "S")  # nibabel's words for x, y, z
    for voxel in [(0, 0, 0), (4, 0, 0), (0, 6, 0), (0, 0, 10), (1, 2, 3)]:
        back = np.linalg.solve(canonical, affine @ [*voxel, 1])[:3]
        assert moved[tuple(np.rint(back).astype(int))] == array[voxel]
        np.testing.assert_allclose(back, np.rint(back), atol=1e-9)


def test_canonical_order_leaves_leading_axes_alone() -> None:
    array = np.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)
    moved, _ = to_canonical(array, check_affine(np.eye(4)))  # z is Left, x is Superior
    np.testing.assert_array_equal(moved, array.transpose(0, 3, 2, 1))


def test_skew_is_zero_for_rotations_and_the_angle_for_a_tilted_gantry() -> None:
    turned = np.eye(4)
    turned[:3, :3] = OBLIQUE / np.linalg.norm(OBLIQUE, axis=0)
    assert skew_deg(check_affine(turned)) == pytest.approx(0, abs=1e-6)
    tilted = np.eye(4)
    tilted[1, 0] = np.tan(np.radians(14.0))
    assert skew_deg(check_affine(tilted)) == pytest.approx(14.0)


def test_voxel_to_voxel_meets_in_mm() -> None:
    source, target = affine_of((3, 1, 0.5), (10, 20, 30)), affine_of((1, 2, 0.25), (9, 18, 33))
    np.testing.assert_allclose(voxel_to_voxel(source, target) @ [1, 2, 3, 1], [0, 2, 10, 1])


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        (np.eye(3), "4x4"),
        (np.ones((4, 4)), "last row"),
        (np.diag([1, 1, np.nan, 1]), "not finite"),
        (np.diag([1.0, 1, 0, 1]), "singular"),
        (np.array([[1.0, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]), "singular"),
    ],
)
def test_affines_without_meaning_are_refused(matrix: np.ndarray, message: str) -> None:
    with pytest.raises(GeometryError, match=message):
        check_affine(matrix)


@pytest.mark.parametrize("spacing", [(1, 1), (1, 0, 1), (1, -1, 1), (1, np.inf, 1), (1, np.nan, 1)])
def test_spacings_without_meaning_are_refused(spacing: tuple[float, ...]) -> None:
    with pytest.raises(GeometryError, match="three finite numbers > 0"):
        check_spacing(spacing)


@pytest.mark.parametrize(
    ("spacings", "common"),
    [
        ([], None),
        ([(3.0, 1.0, 0.123456789)], (3.0, 1.0, 0.123456789)),
        ([(3.0, 1.0, 0.123456789)] * 2, (3.0, 1.0, 0.123456789)),
        ([(3.0, 1.0, 0.5), (3.0000000000000004, 1.0, 0.49999998)], (3.0, 1.0, 0.5)),
        ([(3.0, 1.0, 0.5), (3.0, 1.0, 0.50009)], (3.0, 1.0, 0.5)),
        ([(3.0, 1.0, 0.5), (3.0, 1.0, 0.5002)], None),
        ([(3.0, 1.0, 0.5), (3.0, 0.5, 1.0)], None),
        ([(1.0, 1.0, 1.0 + k * 9e-5) for k in range(3)], None),  # neighbours alike, the ends not
    ],
)
def test_spacings_are_common_but_for_rounding(spacings: list[tuple[float, float, float]], common: tuple[float, ...] | None) -> None:
    assert common_spacing(spacings) == common
