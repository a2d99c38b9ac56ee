"""Scaling of the sampling grid."""

from augserver.augment.affine import Matrix
from augserver.augment.step_declaration import Drawn, Fixed, Step, Values


def _matrix(values: Values, axes: tuple[bool, bool, bool]) -> Matrix:
    z, y, x = values["factor"]
    return (z, 0.0, 0.0), (0.0, y, 0.0), (0.0, 0.0, x)


STEP = Step(
    op="scale",
    group="spatial",
    about="Scaling of the sampling grid: above 1 the patch covers more of the body, which appears smaller.",
    keys={
        "factor": Drawn(low=0.01, high=100.0, neutral=1.0, per_axis=True, about="input voxels per output voxel, of each axis"),
        "same_for_all_axes": Fixed(kind="switch", default=False, about="one draw for all axes"),
    },
    matrix=_matrix,
    stretch=lambda largest: largest["factor"],
)
