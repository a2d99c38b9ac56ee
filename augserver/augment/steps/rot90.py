"""Rotation by quarter turns."""

from augserver.augment.affine import Matrix, rotation
from augserver.augment.step_declaration import Drawn, Fixed, Step, Values

_PLANES = {"yx": 0, "zx": 1, "zy": 2}


def _matrix(values: Values, axes: tuple[bool, bool, bool]) -> Matrix:
    angles = [0.0, 0.0, 0.0]
    angles[_PLANES[values["plane"]]] = 90.0 * values["turns"]
    return rotation((angles[0], angles[1], angles[2]))


STEP = Step(
    op="rot90",
    group="spatial",
    about="Rotation in a plane by quarter turns. Where both axes of the plane have one spacing, every voxel is copied.",
    keys={
        "turns": Drawn(low=0.0, high=3.0, default={"choice": [1, 2, 3]}, whole=True, about="quarter turns"),
        "plane": Fixed(kind="choice", default="yx", choices=tuple(_PLANES), about="the two axes that change places"),
    },
    matrix=_matrix,
    stretch=lambda largest: 1.0,
)
