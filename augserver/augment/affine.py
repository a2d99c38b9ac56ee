"""The spatial transform of a sample: ranges in degrees and mm in, one float32 matrix from output to input voxels out.

    M = Rz Ry Rx . (I + H) . diag(scale) . diag(+-1) . (I + W)        in mm, vectors zyx
    A = diag(1 / s_in) . M . diag(s_out)                              in voxels
    b = c + d - A c_out                                               so that the patch's centre lands on c + d

Rotations are right-handed about the volume's x, y and z axes (x first), as scipy's Rotation.from_euler("xyz", ...). H is zero on its
diagonal. Everything maps output to input: a scale above 1 samples more of the body. Plain Python floats: a 3x3 product is faster so
than as an array, and IEEE arithmetic without libm gives the same bits on every machine.
Source: Rister et al. 2018, IV; we differ in working in mm, so that ranges mean the same at any spacing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Vector = tuple[float, float, float]
Matrix = tuple[Vector, Vector, Vector]

IDENTITY: Matrix = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))

_RADIANS = math.pi / 180.0


def sin_cos_deg(angle_deg: float) -> tuple[float, float]:
    """Sine and cosine to about 1e-16, exact at multiples of 90 degrees; own polynomials, as libm differs between machines."""
    quarters = math.floor(angle_deg / 90.0 + 0.5)
    x = (angle_deg - 90.0 * quarters) * _RADIANS  # exact before the product; |x| <= pi / 4
    q = x * x
    s = x * (1 - q / 6 * (1 - q / 20 * (1 - q / 42 * (1 - q / 72 * (1 - q / 110 * (1 - q / 156 * (1 - q / 210)))))))
    c = 1 - q / 2 * (1 - q / 12 * (1 - q / 30 * (1 - q / 56 * (1 - q / 90 * (1 - q / 132 * (1 - q / 182 * (1 - q / 240)))))))
    return ((s, c), (c, -s), (-s, -c), (-c, s))[quarters % 4]


def rotation(angles_deg: Vector) -> Matrix:
    """Rz Ry Rx for angles (z, y, x), acting on zyx vectors."""
    (sz, cz), (sy, cy), (sx, cx) = map(sin_cos_deg, angles_deg)
    return (
        (cy * cx, cy * sx, -sy),
        (sz * sy * cx - cz * sx, sz * sy * sx + cz * cx, sz * cy),
        (cz * sy * cx + sz * sx, cz * sy * sx - sz * cx, cz * cy),
    )


def multiply(left: Matrix, right: Matrix) -> Matrix:
    """The matrix product."""
    (a, b, c), (d, e, f), (g, h, i) = right
    rows = [(p * a + q * d + r * g, p * b + q * e + r * h, p * c + q * f + r * i) for p, q, r in left]
    return rows[0], rows[1], rows[2]


def compose(*, rotate_deg: Vector | None, shear: Sequence[float] | None, axes: Vector, warp: Sequence[float] | None) -> Matrix:
    """M of the module's docstring.

    Args:
        rotate_deg: (z, y, x), or None.
        shear: the six off-diagonal entries zy, zx, yz, yx, xz, xy, or None.
        axes: scale times reflection (+-1) of each axis zyx.
        warp: the nine entries of W, row by row, or None.
    """
    kz, ky, kx = axes
    if shear is None:
        m: Matrix = ((kz, 0.0, 0.0), (0.0, ky, 0.0), (0.0, 0.0, kx))
    else:
        zy, zx, yz, yx, xz, xy = shear
        m = ((kz, zy * ky, zx * kx), (yz * kz, ky, yx * kx), (xz * kz, xy * ky, kx))
    if rotate_deg is not None:
        m = multiply(rotation(rotate_deg), m)
    if warp is not None:
        zz, zy, zx, yz, yy, yx, xz, xy, xx = warp
        m = multiply(m, ((1 + zz, zy, zx), (yz, 1 + yy, yx), (xz, xy, 1 + xx)))
    return m


def to_voxels(matrix_mm: Matrix, spacing_in_mm: Vector, spacing_out_mm: Vector) -> Matrix:
    """A: output voxel offsets -> input voxel offsets."""
    z, y, x = spacing_out_mm
    rows = [(row[0] * (z / s), row[1] * (y / s), row[2] * (x / s)) for row, s in zip(matrix_mm, spacing_in_mm, strict=True)]
    return rows[0], rows[1], rows[2]


def place_patch(matrix: Matrix, target: Vector, patch: Sequence[int]) -> NDArray[np.float32]:
    """The 3x4 matrix that puts the centre of the patch on `target`.

    Args:
        matrix: A, in voxels.
        target: c + d, input voxels zyx.
        patch: (Z, Y, X) output voxels.
    Returns:
        float32 (3, 4). b is made from A as rounded to float32, so that the centre maps to the target within b's own rounding.
    """
    affine = np.empty((3, 4), np.float32)
    affine[:, :3] = matrix
    z, y, x = ((n - 1) / 2 for n in patch)
    affine[:, 3] = [t - (row[0] * z + row[1] * y + row[2] * x) for t, row in zip(target, affine[:, :3].tolist(), strict=True)]
    return affine
