"""The kernel's benchmark workload: one synthetic CT, its labels, and random draws of all four operations.

The sizes are those of the paper's setting, a patch of (160, 120, 120) from a volume of (200, 170, 170); the affine combines rotation,
shear, scale and reflection, and a slab of up to 40 planes is occluded.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

VOLUME_SHAPE = (200, 170, 170)
PATCH_SHAPE = (160, 120, 120)
CLASSES = 6
WINDOW = (-160.0, 240.0)
FILL = 0.0
DRAWS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Draw:
    """One draw: affine float32 (3, 4) output -> input voxel, noise std in HU, occluded planes [start, stop), noise key."""

    affine: NDArray[np.float32]
    noise_std: float
    occlusion: tuple[int, int] | None
    key: int


def make_ct(seed: int = 0) -> tuple[NDArray[np.int16], NDArray[np.uint8]]:
    """An elliptic body with 20 ellipsoid organs in five classes, in air, with scanner noise: HU in [-1000, 1500]."""
    rng = np.random.default_rng(seed)
    z, y, x = np.ogrid[tuple(slice(-1, 1, n * 1j) for n in VOLUME_SHAPE)]
    image = np.where((y / 0.8) ** 2 + (x / 0.95) ** 2 + 0 * z < 1, 20.0, -1000.0)
    label = np.zeros(VOLUME_SHAPE, np.uint8)
    for organ in range(20):
        centre, radii = rng.uniform(-0.6, 0.6, 3), rng.uniform(0.1, 0.35, 3)
        inside = sum(((axis - c) / r) ** 2 for axis, c, r in zip((z, y, x), centre, radii, strict=True)) < 1
        image[inside] = rng.uniform(-300, 1200)
        label[inside] = 1 + organ % (CLASSES - 1)
    image += rng.normal(0, 20, VOLUME_SHAPE)
    return np.rint(image.clip(-1000, 1500)).astype(np.int16), label


def _rotation(axis: int, angle_rad: float) -> NDArray[np.float64]:
    turn = np.eye(3)
    i, j = (k for k in range(3) if k != axis)
    turn[i, i] = turn[j, j] = math.cos(angle_rad)
    turn[i, j], turn[j, i] = -math.sin(angle_rad), math.sin(angle_rad)
    return turn


def make_draws(count: int = DRAWS, seed: int = 1) -> list[Draw]:
    """Rotation to 20 degrees per axis, shear to 0.1, scale 0.8..1.25, x reflected half of the time, any crop of the unrotated volume."""
    rng = np.random.default_rng(seed)
    draws = []
    for _ in range(count):
        rotation = np.linalg.multi_dot([_rotation(axis, math.radians(rng.uniform(-20, 20))) for axis in range(3)])
        shear = np.eye(3) + (1 - np.eye(3)) * rng.uniform(-0.1, 0.1, (3, 3))
        scale = rng.uniform(0.8, 1.25, 3) * (1, 1, rng.choice([-1, 1]))
        matrix = rotation @ shear @ np.diag(scale)
        room = (np.array(VOLUME_SHAPE) - PATCH_SHAPE) / 2
        centre = (np.array(VOLUME_SHAPE) - 1) / 2 + rng.uniform(-1, 1, 3) * room
        offset = centre - matrix @ ((np.array(PATCH_SHAPE) - 1) / 2)
        height = int(rng.integers(0, 41))
        start = int(rng.integers(0, PATCH_SHAPE[0] - height + 1))
        draws.append(
            Draw(
                affine=np.hstack([matrix, offset[:, None]]).astype(np.float32),
                noise_std=float(rng.uniform(5, 50)),
                occlusion=(start, start + height) if height else None,
                key=int(rng.integers(2**63)),
            )
        )
    return draws


def scipy_sample(
    image: NDArray[np.float32], label: NDArray[np.uint8], draw: Draw, rng: np.random.Generator | None, mode: str = "grid-constant"
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """The whole sample with SciPy and NumPy, float32 throughout, every step after sampling in place; `rng` None: without noise."""
    matrix, offset = draw.affine[:, :3].astype(np.float64), draw.affine[:, 3].astype(np.float64)
    out = ndimage.affine_transform(image, matrix, offset, PATCH_SHAPE, np.float32, order=1, mode=mode, cval=FILL, prefilter=False)
    ids = ndimage.affine_transform(label, matrix, offset, PATCH_SHAPE, np.uint8, order=0, mode="constant", cval=0, prefilter=False)
    if rng is not None:
        noise = rng.standard_normal(PATCH_SHAPE, np.float32)
        noise *= np.float32(draw.noise_std)
        out += noise
    low, high = (np.float32(limit) for limit in WINDOW)
    if draw.occlusion:
        out[slice(*draw.occlusion)] = FILL
    np.clip(out, low, high, out=out)
    out -= low
    out *= np.float32(1) / (high - low)
    return out, ids
