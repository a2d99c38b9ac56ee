"""Gaussian blur."""

from typing import Any

from augserver.augment.exact_math import exp
from augserver.augment.step_declaration import Drawn, Fixed, Step, Values

MAX_SIGMA = 16.0


def _numbers(values: Values) -> dict[str, Any]:
    radii, weights = [], []
    for sigma in values["sigma"]:
        radius = int(sigma * values["truncate"] + 0.25) if sigma > 0 else 0  # nnU-Net's size: the odd number next to 6 sigma + 0.5
        side = [exp(-0.5 * (k / sigma) ** 2) if radius else 1.0 for k in range(radius + 1)]
        total = side[0] + 2.0 * sum(side[1:])
        radii.append(radius)
        weights += [weight / total for weight in side]
    return {"radius_z": radii[0], "radius_y": radii[1], "radius_x": radii[2], "weights": weights}


STEP = Step(
    op="blur",
    group="intensity",
    about="A Gaussian along each axis, mirrored at the patch's border.",
    keys={
        "sigma": Drawn(low=0.0, high=MAX_SIGMA, unit="voxels", per_axis=True, about="standard deviation along each axis; 0: none"),
        "truncate": Fixed(kind="number", default=3.0, low=1.0, high=6.0, about="standard deviations that the kernel reaches to each side"),
    },
    numbers=_numbers,
)
