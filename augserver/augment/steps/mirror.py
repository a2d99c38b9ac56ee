"""Reflection."""

from augserver.augment.affine import Matrix
from augserver.augment.step_declaration import Fixed, Step, Values


def _matrix(values: Values, axes: tuple[bool, bool, bool]) -> Matrix:
    z, y, x = (-1.0 if fired else 1.0 for fired in axes)
    return (z, 0.0, 0.0), (0.0, y, 0.0), (0.0, 0.0, x)


STEP = Step(
    op="mirror",
    group="spatial",
    about="Reflection of each axis by itself.",
    keys={"axis_probability": Fixed(kind="axes", default=0.5, low=0.0, high=1.0, about="that an axis is reflected")},
    axis_gates="axis_probability",
    matrix=_matrix,
)
