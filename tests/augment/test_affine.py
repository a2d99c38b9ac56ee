"""The spatial transform against SciPy's and SimpleITK's geometry."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import SimpleITK as sitk
from scipy.spatial.transform import Rotation

from augserver.augment.affine import compose, place_patch, rotation, sin_cos_deg, to_voxels

ANGLES = (20.0, -35.0, 65.0)
FLIP = np.eye(3)[::-1]  # zyx <-> xyz


def test_sine_and_cosine_agree_with_libm_and_are_exact_at_right_angles() -> None:
    for angle in np.linspace(-800, 800, 3001).tolist():
        s, c = sin_cos_deg(angle)
        assert s == pytest.approx(math.sin(math.radians(angle)), abs=4e-15)
        assert c == pytest.approx(math.cos(math.radians(angle)), abs=4e-15)
        assert s * s + c * c == pytest.approx(1.0, abs=3e-16)
    assert [sin_cos_deg(90.0 * k) for k in (-1, 0, 1, 2)] == [(-1.0, 0.0), (0.0, 1.0), (1.0, 0.0), (0.0, -1.0)]


def test_rotation_is_scipys_about_x_then_y_then_z() -> None:
    z, y, x = ANGLES
    expected = FLIP @ Rotation.from_euler("xyz", [x, y, z], degrees=True).as_matrix() @ FLIP
    np.testing.assert_allclose(rotation(ANGLES), expected, atol=1e-15)


def test_parts_compose_in_the_documented_order() -> None:
    shear, warp = [0.1, -0.2, 0.15, 0.05, -0.3, 0.25], [0.01 * k for k in range(9)]
    h = np.array([[0, 0.1, -0.2], [0.15, 0, 0.05], [-0.3, 0.25, 0]])
    expected = np.array(rotation(ANGLES)) @ (np.eye(3) + h) @ np.diag([2.0, -0.5, 1.5]) @ (np.eye(3) + np.reshape(warp, (3, 3)))
    np.testing.assert_allclose(compose(rotate_deg=ANGLES, shear=shear, axes=(2.0, -0.5, 1.5), warp=warp), expected, atol=1e-14)


def test_a_rotation_in_mm_is_simpleitks_rotation_at_anisotropic_spacing() -> None:
    """Voxels of an oblong image, rotated about its centre by SimpleITK in physical space."""
    spacing, shape = (3.0, 1.0, 0.5), (5, 7, 11)
    image = sitk.GetImageFromArray(np.zeros(shape, np.float32))
    image.SetSpacing(spacing[::-1])
    centre_xyz = image.TransformContinuousIndexToPhysicalPoint([(n - 1) / 2 for n in shape[::-1]])
    about = sitk.Euler3DTransform()
    about.SetComputeZYX(True)  # Rz Ry Rx, not SimpleITK's default order
    about.SetCenter(centre_xyz)
    about.SetRotation(*np.radians(ANGLES[::-1]))
    matrix = to_voxels(compose(rotate_deg=ANGLES, shear=None, axes=(1.0, 1.0, 1.0), warp=None), spacing, spacing)
    affine = place_patch(matrix, tuple((n - 1) / 2 for n in shape), shape)
    for voxel in itertools.product((0, 4), (0, 6), (0, 3, 10)):
        point = image.TransformContinuousIndexToPhysicalPoint([float(v) for v in voxel[::-1]])
        expected = image.TransformPhysicalPointToContinuousIndex(about.TransformPoint(point))[::-1]
        np.testing.assert_allclose(affine @ [*voxel, 1], expected, atol=2e-5)


def test_output_spacing_scales_the_grid() -> None:
    matrix = to_voxels(((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)), (3.0, 1.0, 0.5), (2.0, 2.0, 2.0))
    np.testing.assert_allclose(matrix, np.diag([2 / 3, 2.0, 4.0]))


def test_the_patch_centre_lands_on_the_target_within_float32() -> None:
    matrix = compose(rotate_deg=ANGLES, shear=None, axes=(1.1, 0.9, -1.0), warp=None)
    patch, target = (160, 121, 250), (88.25, 101.5, 33.75)
    affine = place_patch(matrix, target, patch)
    assert affine.dtype == np.float32
    centre = affine[:, :3].astype(np.float64) @ [(n - 1) / 2 for n in patch] + affine[:, 3]
    np.testing.assert_allclose(centre, target, atol=1e-5)
