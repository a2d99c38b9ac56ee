"""Gaussian noise."""

from augserver.augment.step_declaration import Drawn, Step

STEP = Step(
    op="noise",
    group="intensity",
    about="Gaussian noise, of its own for every voxel and channel.",
    keys={"std": Drawn(low=0.0, high=1e9, unit="of the image at this step", about="standard deviation")},
    noise=True,
    numbers=lambda values: {"std": values["std"]},
)
