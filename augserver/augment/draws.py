"""Draw the parameters of one sample on the host, deterministically.

A draw is named by (seed, epoch, place): same triple, same parameters, on any machine, in any order, for any number of workers.
Every parameter reads its own words of the sample's stream, whatever the recipe says, so that adding a section or changing one leaves
all other parameters as they were:

    word   0       affine applies      22 .. 24  reflection z y x      34      noise std
           1 ..  3 rotation z y x      25 .. 27  displacement z y x    35, 36  window low, high
           4 ..  6 scale z y x         28        occlusion applies     37..39  place z y x
           7 .. 12 shear, row by row   29, 30    its height, start     40, 41  foreground class, voxel
          13 .. 21 warp, row by row    31 .. 33  contrast,             42      noise key
                                                 brightness, gamma
    new parameters are appended

No voxel is touched here, but for the label's in crop.mode "foreground"; kernel/ applies the result.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from augserver.augment.affine import IDENTITY, Matrix, Vector, compose, place_patch, to_voxels
from augserver.augment.crop import copied_axes, rooms, rooms_transformed
from augserver.augment.foreground import PlaneCounts, draw_voxel
from augserver.augment.random import to_integer, to_unit, words
from augserver.augment.rules import AffineRule, Axes, CompiledRecipe, Interval, OccludeRule
from augserver.augment.sample import SampleParams
from augserver.augment.step_rules import AppliedStep, draw_steps
from augserver.volume import VolumeInfo

WORDS = 43
_AFFINE, _ROTATE, _SCALE, _SHEAR, _WARP, _REFLECT, _TRANSLATE = 0, 1, 4, 7, 13, 22, 25
_OCCLUDE, _HEIGHT, _START, _CONTRAST, _BRIGHTNESS, _GAMMA, _NOISE = 28, 29, 30, 31, 32, 33, 34
_WINDOW, _PLACE, _CLASS, _VOXEL, _KEY = 35, 37, 40, 41, 42

_FLOATS = struct.Struct("<7f")


@dataclass(frozen=True, slots=True)
class Foreground:
    """What crop.mode "foreground" needs of a volume: its label (Z, Y, X) and the counts of it."""

    label: NDArray[np.uint8]
    counts: PlaneCounts


def draw_sample(
    recipe: CompiledRecipe,
    info: VolumeInfo,
    patch: Sequence[int],
    *,
    seed: int,
    epoch: int,
    place: int,
    index: int = 0,
    foreground: Foreground | None = None,
) -> SampleParams:
    """Parameters of the sample at (seed, epoch, place).

    Args:
        recipe: compiled for the dataset of `info`.
        info: the volume it is taken from.
        patch: (Z, Y, X), checked by the plan.
        seed, epoch, place: the address; each below 2**64, 2**64 and random.MAX_PLACES.
        index: kept as provenance.
        foreground: needed for crop.mode "foreground" of a labelled volume; without it such a volume is cropped as `uniform`.
    Returns:
        parameters whose floats are exact in float32, so that the provenance a client receives gives the same bits again.
    """
    stream = words(seed, (epoch, place), WORDS)
    raw: list[int] = stream.tolist()
    unit = to_unit(stream)
    matrix_mm, shift_mm = _draw_affine(recipe.affine, unit)
    applied: tuple[AppliedStep, ...] = ()
    if recipe.steps:
        drawn = draw_steps(recipe.steps, info.shape[0], seed=seed, epoch=epoch, place=place)
        applied, matrix_mm, shift_mm = drawn.applied, drawn.matrix_mm, drawn.shift_mm
    spacing_in = info.spacing_mm
    matrix = to_voxels(matrix_mm, spacing_in, recipe.spacing_mm or spacing_in)
    target = _draw_target(recipe, info, patch, matrix, shift_mm, raw, foreground)

    low, high = (_uniform(recipe.window[0], unit[_WINDOW]), _uniform(recipe.window[1], unit[_WINDOW + 1])) if recipe.window else (0.0, 0.0)
    low, high, fill, contrast, brightness, gamma, noise_std = _FLOATS.unpack(
        _FLOATS.pack(
            low,
            high,
            recipe.fill,
            _uniform(recipe.contrast, unit[_CONTRAST]) if recipe.contrast else 1.0,
            _uniform(recipe.brightness, unit[_BRIGHTNESS]) if recipe.brightness else 0.0,
            _uniform(recipe.gamma, unit[_GAMMA]) if recipe.gamma else 1.0,
            _uniform(recipe.noise_std, unit[_NOISE]) if recipe.noise_std else 0.0,
        )
    )
    return SampleParams(
        index=index,
        epoch=epoch,
        volume=info.id,
        affine=place_patch(matrix, target, patch),
        fill=fill,
        contrast=contrast,
        pivot=_to_float32((low + high) / 2),
        brightness=brightness,
        gamma=gamma,
        noise_std=noise_std,
        noise_key=raw[_KEY],
        window=(low, high) if recipe.window else None,
        occlusion=_draw_occlusion(recipe.occlude, patch[0], unit, raw) if recipe.occlude else None,
        occlusion_label=recipe.occlude.label if recipe.occlude else 0,
        keep_labels=recipe.keep_labels,
        sampler=recipe.sampler,
        label_rule=recipe.label_rule,
        outside_label=recipe.outside_label,
        border=recipe.border,
        ignore_label=recipe.ignore_label,
        steps=applied,
    )


def _draw_affine(rule: AffineRule | None, unit: list[float]) -> tuple[Matrix, Vector]:
    """M in mm, and the displacement d in mm."""
    if rule is None or unit[_AFFINE] >= rule.probability:
        return IDENTITY, (0.0, 0.0, 0.0)
    axes = _draw_axes(rule.scale, unit, _SCALE) if rule.scale else (1.0, 1.0, 1.0)
    if rule.reflect:
        z, y, x = (-k if unit[_REFLECT + axis] < rule.reflect[axis] else k for axis, k in enumerate(axes))
        axes = z, y, x
    matrix = compose(
        rotate_deg=_draw_axes(rule.rotate_deg, unit, _ROTATE) if rule.rotate_deg else None,
        shear=_draw_rows(rule.shear, unit, _SHEAR, 2) if rule.shear else None,
        axes=axes,
        warp=_draw_rows(rule.warp, unit, _WARP, 3) if rule.warp else None,
    )
    return matrix, _draw_axes(rule.translate_mm, unit, _TRANSLATE) if rule.translate_mm else (0.0, 0.0, 0.0)


def _draw_target(
    recipe: CompiledRecipe,
    info: VolumeInfo,
    patch: Sequence[int],
    matrix: Matrix,
    shift_mm: Vector,
    raw: list[int],
    foreground: Foreground | None,
) -> Vector:
    """c + d: the input position zyx, in voxels, of the patch's centre."""
    shape, spacing_in, crop = info.shape[1:], info.spacing_mm, recipe.crop
    if crop.mode == "valid":
        z, y, x = (room.anywhere(raw[_PLACE + axis]) for axis, room in enumerate(rooms_transformed(shape, patch, matrix)))
        return z, y, x
    here = rooms(shape, patch, spacing_in, recipe.spacing_mm or spacing_in)
    voxel = draw_voxel(foreground.label, foreground.counts, recipe.foreground, raw[_CLASS], raw[_VOXEL]) if foreground else None
    if crop.mode == "center":
        copied = all(copied_axes(matrix)) and not any(shift_mm)
        centre = [room.middle() if copied else (room.size - 1) / 2 for room in here]
    elif crop.mode == "foreground" and voxel is not None:
        centre = [room.around(v, p, crop.pad) for room, v, p in zip(here, voxel, patch, strict=True)]
    else:
        centre = [room.anywhere(raw[_PLACE + axis]) for axis, room in enumerate(here)]
    z, y, x = (c + d / s for c, d, s in zip(centre, shift_mm, spacing_in, strict=True))
    return z, y, x


def _draw_occlusion(rule: OccludeRule, planes: int, unit: list[float], raw: list[int]) -> tuple[int, int] | None:
    """The slab [z0, z1), or None.

    Starting before plane 0 as often as at any plane inside is what gives every plane the same chance, height / (planes + height).
    Source: Rister et al. 2018, IV; there the start is drawn from [-max, Z), where a low slab misses the patch more often.
    """
    if unit[_OCCLUDE] >= rule.probability:
        return None
    height = to_integer(raw[_HEIGHT], rule.max_voxels + 1)
    start = to_integer(raw[_START], planes + height) - height
    z0, z1 = max(start, 0), min(start + height, planes)
    return (z0, z1) if z0 < z1 else None


def _uniform(interval: Interval, u: float) -> float:
    low, high = interval
    return low + (high - low) * u


def _draw_axes(axes: Axes, unit: list[float], first: int) -> Vector:
    z, y, x = axes
    return _uniform(z, unit[first]), _uniform(y, unit[first + 1]), _uniform(x, unit[first + 2])


def _draw_rows(axes: Axes, unit: list[float], first: int, entries: int) -> list[float]:
    return [_uniform(axes[k // entries], unit[first + k]) for k in range(3 * entries)]


def _to_float32(value: float) -> float:
    rounded: float = struct.unpack("<f", struct.pack("<f", value))[0]
    return rounded
