"""The values that a key of a step may take in a recipe, and one of them drawn.

0.3                      0.3 every time; of keys like angles, where nothing happens at 0, anything in [-0.3, 0.3]
[0.7, 1.4]               uniform
{two_sided = [0.7, 1.5]} half the time uniform from 0.7 to the value that changes nothing, else from there to 1.5
{normal = [0, 0.5]}      mean and standard deviation
{log_uniform = [1, 8]}
{choice = [1, 2, 3]}     each alike
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from augserver.augment.affine import sin_cos_deg
from augserver.augment.exact_math import exp, ln
from augserver.augment.random import to_integer, to_unit_interval
from augserver.augment.step_declaration import Drawn

DISTRIBUTIONS = ("uniform", "two_sided", "normal", "log_uniform", "choice")
WORDS_OF_A_VALUE = 2


@dataclass(frozen=True, slots=True)
class Distribution:
    """A checked distribution: its kind, and its two numbers, or all of a choice."""

    kind: str
    numbers: tuple[float, ...]

    @property
    def bounds(self) -> tuple[float, float]:
        """No value lies outside; a normal one is cut at 8 standard deviations, which no draw of 53 bits passes."""
        if self.kind == "normal":
            mean, std = self.numbers
            return mean - 8.6 * std, mean + 8.6 * std
        return min(self.numbers), max(self.numbers)

    def draw(self, first: int, second: int, neutral: float) -> float:
        """A value, by two 64-bit words."""
        u = to_unit_interval(first)
        if self.kind == "choice":
            return self.numbers[to_integer(first, len(self.numbers))]
        low, high = self.numbers
        if self.kind == "two_sided":
            v = to_unit_interval(second)
            return low + (neutral - low) * v if u < 0.5 else neutral + (high - neutral) * v
        if self.kind == "normal":
            radius = math.sqrt(-2.0 * ln(1.0 - u))
            return low + high * radius * sin_cos_deg(360.0 * to_unit_interval(second))[1]
        if self.kind == "log_uniform":
            return min(max(exp(ln(low) + (ln(high) - ln(low)) * u), low), high)
        return low + (high - low) * u


def read_distribution(value: Any, key: Drawn, where: str) -> Distribution:
    """What a recipe says of one value; ValueError where it says nothing that is allowed."""
    allowed = f"a number, [low, high], or a table with one of {', '.join(DISTRIBUTIONS)}; values from {key.low:.4g} to {key.high:.4g}"
    if is_number(value):
        found = Distribution("uniform", (-float(value) if key.plus_minus else float(value), float(value)))
    elif isinstance(value, Mapping) and len(value) == 1 and next(iter(value)) in DISTRIBUTIONS:
        ((kind, numbers),) = value.items()
        if not (is_numbers(numbers) and (len(numbers) == 2 or (kind == "choice" and numbers))):
            raise ValueError(f"{where}: got {shown(value)}; allowed: {allowed}")
        found = Distribution(kind, tuple(map(float, numbers)))
    elif is_numbers(value) and len(value) == 2:
        found = Distribution("uniform", (float(value[0]), float(value[1])))
    else:
        raise ValueError(f"{where}: got {shown(value)}; allowed: {allowed}")
    low, high = found.numbers[0], found.numbers[-1]
    if found.kind in ("uniform", "log_uniform") and low > high:
        raise ValueError(f"{where}: got [{low:g}, {high:g}], which is reversed; allowed: low <= high")
    if found.kind == "two_sided" and not low <= key.neutral <= high:
        raise ValueError(f"{where}: got two_sided [{low:g}, {high:g}]; allowed: from at most {key.neutral:g} to at least {key.neutral:g}")
    if found.kind == "log_uniform" and low <= 0:
        raise ValueError(f"{where}: got log_uniform [{low:g}, {high:g}]; allowed: numbers above 0")
    if found.kind == "normal" and high < 0:
        raise ValueError(f"{where}: got a standard deviation of {high:g}; allowed: 0 or more")
    if key.whole and not ((found.kind == "choice" or low == high) and all(number.is_integer() for number in found.numbers)):
        raise ValueError(f"{where}: got {shown(value)}; allowed: a whole number, or {{choice = [...]}} of whole numbers")
    least, most = found.bounds
    if not key.low <= least <= most <= key.high:
        raise ValueError(f"{where}: got {shown(value)}, which may be {least:g} to {most:g}; allowed: {key.low:.4g} to {key.high:.4g}")
    return found


def is_number(value: Any) -> bool:
    """A finite number that is no switch."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def is_numbers(value: Any) -> bool:
    """A list of such numbers."""
    return isinstance(value, Sequence) and not isinstance(value, str) and all(map(is_number, value))


def shown(value: Any) -> str:
    """A value as an error shows it, cut where it is long."""
    text = f"{value:g}" if is_number(value) else repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
