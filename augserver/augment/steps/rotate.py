"""Rotation."""

from augserver.augment.affine import Matrix, rotation
from augserver.augment.step_declaration import Drawn, Fixed, Step, Values


def _matrix(values: Values, axes: tuple[bool, bool, bool]) -> Matrix:
    z, y, x = (degrees if fired else 0.0 for degrees, fired in zip(values["degrees"], axes, strict=True))
    return rotation((z, y, x))


STEP = Step(
    op="rotate",
    group="spatial",
    about="Rotation about the z, y and x axis by angles of their own, x first.",
    keys={
        "degrees": Drawn(low=-36_000.0, high=36_000.0, unit="degrees", plus_minus=True, per_axis=True, about="the angle about each axis"),
        "axis_probability": Fixed(kind="axes", default=1.0, low=0.0, high=1.0, about="that an axis is rotated about, if the step applies"),
    },
    axis_gates="axis_probability",
    matrix=_matrix,
    stretch=lambda largest: 3.0**0.5,
)
