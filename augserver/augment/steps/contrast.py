"""Contrast about the mean of the patch."""

from augserver.augment.step_declaration import Drawn, Fixed, Step

STEP = Step(
    op="contrast",
    group="intensity",
    about="Distance of all values from the patch's mean times a factor.",
    keys={
        "factor": Drawn(low=-1e3, high=1e3, neutral=1.0, about="1 changes nothing"),
        "clamp": Fixed(kind="switch", default=True, about="clamp to the range that the patch had before"),
    },
    numbers=lambda values: {"factor": values["factor"], "clamp": values["clamp"]},
)
