"""An intensity window."""

from collections.abc import Mapping
from typing import Any

from augserver.augment.step_declaration import Drawn, Fixed, Step, Values


def _check(keys: Mapping[str, Any]) -> None:
    (_, low), (high, _) = keys["low"], keys["high"]
    if not high - low > 1e-6 * max(1.0, abs(low), abs(high)):
        raise ValueError(f"every low must be below every high, got low up to {low:g} and high from {high:g}")


def _numbers(values: Values) -> dict[str, Any]:
    return {"low": values["low"], "inverse_width": 1.0 / (values["high"] - values["low"]), "clamp": values["clamp"]}


STEP = Step(
    op="window",
    group="intensity",
    about="Maps low to 0 and high to 1.",
    keys={
        "low": Drawn(low=-1e9, high=1e9, unit="of the image at this step", about="becomes 0"),
        "high": Drawn(low=-1e9, high=1e9, unit="of the image at this step", about="becomes 1"),
        "clamp": Fixed(kind="switch", default=True, about="what lies outside becomes 0 or 1"),
    },
    augments=False,
    numbers=_numbers,
    unit_range=lambda values: bool(values.get("clamp", True)),
    check=_check,
)
