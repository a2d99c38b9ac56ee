"""Multiplication."""

from typing import Any

from augserver.augment.step_declaration import Drawn, Fixed, Step, Values


def _numbers(values: Values) -> dict[str, Any]:
    about = values["about"]
    return {"factor": values["factor"], "about_mean": about == "mean", "pivot": about if isinstance(about, float) else 0.0}


STEP = Step(
    op="multiply",
    group="intensity",
    about="All values times a factor, about 0, the patch's mean, or a fixed value.",
    keys={
        "factor": Drawn(low=-1e6, high=1e6, neutral=1.0, about="1 changes nothing"),
        "about": Fixed(kind="choice", default="zero", choices=("zero", "mean"), low=-1e9, high=1e9, about="the value that stays"),
    },
    numbers=_numbers,
)
