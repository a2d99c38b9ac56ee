"""A recipe after its checks: plain numbers that a draw reads in microseconds.

Nothing is validated here; `compile_recipe` makes these and vouches for them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from augserver.augment.step_rules import StepRule

Interval = tuple[float, float]
"""(low, high), finite, low <= high: a value is drawn uniformly between them."""

Axes = tuple[Interval, Interval, Interval]
"""One interval for each of z, y, x; every axis draws its own value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CropRule:
    """Where in the volume the patch is taken; see crop.py for the modes."""

    mode: str = "center"
    pad: bool = False
    patches_per_volume: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class AffineRule:
    """Ranges of the spatial transform; see affine.py for how they compose. `reflect` holds probabilities for z, y, x."""

    rotate_deg: Axes | None
    scale: Axes | None
    shear: Axes | None
    warp: Axes | None
    reflect: tuple[float, float, float] | None
    translate_mm: Axes | None
    probability: float

    @property
    def largest_stretch(self) -> float:
        """No row of a matrix M that this rule draws has a larger sum of absolute entries: the product of its factors' own bounds."""
        return math.sqrt(3.0) * (1 + 2 * _largest(self.shear)) * (_largest(self.scale) or 1.0) * (1 + 3 * _largest(self.warp))

    @property
    def largest_shift_mm(self) -> float:
        """No displacement along an axis is longer."""
        return _largest(self.translate_mm)


@dataclass(frozen=True, slots=True, kw_only=True)
class OccludeRule:
    """A slab of at most `max_voxels` planes; `label` is what its label becomes, None keeps it."""

    max_voxels: int
    probability: float
    label: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CompiledRecipe:
    """Every rule of a recipe for one dataset; None: that section is absent and does nothing.

    Attributes:
        contrast, brightness, gamma, noise_std: the range of the factor, offset, exponent and standard deviation.
        window: ranges of (low, high); every low is below every high.
        steps: of a recipe of steps; affine to window are None then.
        keep_labels: label ids that survive; None: all.
        fill: value outside the volume, in its unit.
        spacing_mm: zyx of the patch; None: the volume's own.
        sampler: "exact", or "texture", which only a GPU has.
        label_rule, outside_label, border, ignore_label: as in SampleParams.
    """

    crop: CropRule
    affine: AffineRule | None
    occlude: OccludeRule | None
    contrast: Interval | None
    brightness: Interval | None
    gamma: Interval | None
    noise_std: Interval | None
    window: tuple[Interval, Interval] | None
    keep_labels: frozenset[int] | None
    fill: float
    spacing_mm: tuple[float, float, float] | None
    sampler: str = "exact"
    label_rule: str = "nearest"
    outside_label: int = 0
    border: str = "fill"
    ignore_label: int | None = None
    steps: tuple[StepRule, ...] = ()

    @property
    def largest_stretch(self) -> float:
        """No row of a matrix M that is drawn has a larger sum of absolute entries: the product of its factors' own bounds."""
        return math.prod(rule.step.stretch(rule.largest) for rule in self.steps) * (self.affine.largest_stretch if self.affine else 1.0)

    @property
    def largest_shift_mm(self) -> float:
        """No displacement along an axis is longer."""
        return sum(rule.step.reach_mm(rule.largest) for rule in self.steps) + (self.affine.largest_shift_mm if self.affine else 0.0)

    @property
    def foreground(self) -> frozenset[int] | None:
        """Label ids of which crop.mode "foreground" draws a voxel; None: all above 0."""
        if self.ignore_label is None:
            return self.keep_labels
        return (frozenset(range(1, 256)) if self.keep_labels is None else self.keep_labels) - {self.ignore_label}


def _largest(axes: Axes | None) -> float:
    return max(max(-low, high) for low, high in axes) if axes else 0.0
