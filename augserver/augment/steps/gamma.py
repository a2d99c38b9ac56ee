"""A gamma curve on the patch's own range."""

from augserver.augment.step_declaration import Drawn, Fixed, Step

STEP = Step(
    op="gamma",
    group="intensity",
    about="A gamma curve between the least and the largest value of the patch.",
    keys={
        "exponent": Drawn(low=1e-3, high=1e3, neutral=1.0, about="1 changes nothing"),
        "invert": Fixed(kind="switch", default=False, about="on the image's negative"),
        "keep_statistics": Fixed(kind="switch", default=False, about="restore the patch's mean and standard deviation"),
    },
    numbers=lambda values: {name: values[name] for name in ("exponent", "invert", "keep_statistics")},
)
