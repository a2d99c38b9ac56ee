"""Displacement."""

from augserver.augment.affine import Vector
from augserver.augment.step_declaration import Drawn, Step, Values


def _shift(values: Values, axes: tuple[bool, bool, bool]) -> Vector:
    z, y, x = values["mm"]
    return z, y, x


STEP = Step(
    op="translate",
    group="spatial",
    about="Displacement of the patch in the volume.",
    keys={"mm": Drawn(low=-1e5, high=1e5, unit="mm", plus_minus=True, per_axis=True, about="along each axis")},
    shift_mm=_shift,
    reach_mm=lambda largest: largest["mm"],
)
