"""Units of length as headers name them. Their standards allow any; a volume is in mm."""

from __future__ import annotations

from collections.abc import Collection

from augserver.augment.recipe import MAX_SPACING_MM, MIN_SPACING_MM
from augserver.errors import VolumeError
from augserver.geometry import Affine, check_affine, spacing_of

_MM = {
    "mm": 1.0, "millimeter": 1.0, "millimetre": 1.0,
    "cm": 10.0, "centimeter": 10.0, "centimetre": 10.0,
    "m": 1000.0, "meter": 1000.0, "metre": 1000.0,
    "um": 1e-3, "µm": 1e-3, "μm": 1e-3, "micron": 1e-3, "micrometer": 1e-3, "micrometre": 1e-3,
}  # fmt: skip


def affine_in_mm(affine: Affine, units: Collection[str], *, name: str) -> tuple[Affine, tuple[str, ...]]:
    """The affine of a header whose lengths are in `units` (names of one unit; none: mm), in mm, and a note if that changed it.

    Many programs ignore the unit, so that a wrong one stays unnoticed: voxels that no scanner makes are refused.

    Raises:
        VolumeError: a unit is no length, there are several, or it makes voxels smaller than MIN_SPACING_MM or larger than MAX_SPACING_MM.
    """
    factors = {_MM.get(unit.lower(), _MM.get(unit.lower().removesuffix("s"))) for unit in units} or {1.0}
    factor = factors.pop()
    told = " and ".join(repr(unit) for unit in sorted(units))
    if factor is None or factors:
        raise VolumeError(f"{name}: lengths are in {told}; allowed is one of mm, cm, m and um; convert the header")
    if factor == 1:
        return affine, ()
    scaled = affine.copy()
    scaled[:3] *= factor
    spacing = spacing_of(scaled)
    if not all(MIN_SPACING_MM <= size <= MAX_SPACING_MM for size in spacing):
        raise VolumeError(
            f"{name}: lengths are in {told}, which makes voxels of {'x'.join(f'{size:.4g}' for size in spacing)} mm (z, y, x), not "
            f"within {MIN_SPACING_MM:g} to {MAX_SPACING_MM:g} mm; correct the unit in the header, it is probably mm"
        )
    return check_affine(scaled), (f"lengths converted from {told} to mm, as the header asks; nibabel and others ignore its unit",)
