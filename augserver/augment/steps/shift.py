"""Addition."""

from augserver.augment.step_declaration import Drawn, Step

STEP = Step(
    op="shift",
    group="intensity",
    about="An offset on all values.",
    keys={"offset": Drawn(low=-1e9, high=1e9, unit="of the image at this step", plus_minus=True, about="0 changes nothing")},
    numbers=lambda values: {"offset": values["offset"]},
)
