"""The steps of a recipe: checked, and drawn for a sample.

Each step reads words of its own, named by (op, occurrence among the same op), at fixed places:

    word 0            whether the step fires            10 + 48 k ...   key k in the order of the declaration: for each of 8 channels and
         1 ..  8      whether channel 0 .. 7 does                       3 axes two words
         9            the key of its noise              then           3 words: whether axis z, y, x does

so that adding, removing, moving or changing a step moves no other step's draw, and changing a key no other key's.
"""

from __future__ import annotations

import functools
import hashlib
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from augclient.contract import MAX_CHANNELS
from augclient.nearest import did_you_mean
from numpy.random import Philox, SeedSequence
from numpy.typing import NDArray

from augserver.augment.affine import IDENTITY, Matrix, Vector, multiply
from augserver.augment.random import to_unit_interval
from augserver.augment.step_declaration import Drawn, Fixed, Step
from augserver.augment.step_values import WORDS_OF_A_VALUE, Distribution, is_number, is_numbers, read_distribution, shown
from augserver.augment.steps import STEPS
from augserver.errors import RecipeError

MAX_STEPS = 64

_AXES = 3
_CHANNEL_GATES, _NOISE, _VALUES = 1, 9, 10
_OF_A_KEY = MAX_CHANNELS * _AXES * WORDS_OF_A_VALUE
_STREAM = 1  # third number of the spawn key: tells these words from those of the sections

COMMON = {
    "probability": Fixed(kind="number", default=1.0, low=0.0, high=1.0, about="that the step applies to a sample"),
    "per_channel": Fixed(kind="switch", default=False, about="each channel draws its own values"),
    "channel_probability": Fixed(kind="number", default=1.0, low=0.0, high=1.0, about="that it then applies to a channel"),
}
"""Keys of every step; the last two of intensity steps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AppliedStep:
    """What a step did to one sample.

    Attributes:
        op: its name.
        fired: whether it applied at all; if not, the rest is empty.
        channels: those that it changed; of a spatial step none.
        values: name -> value. A drawn one of a step with `per_channel` has an entry for every channel; one per axis has three numbers,
            z, y, x. "noise_key": the low and the high half of a key. "axes": of a step with a probability per axis, which of them fired.
    """

    op: str
    fired: bool
    channels: tuple[int, ...] = ()
    values: Mapping[str, Any] = field(default_factory=dict)

    def of_channel(self, channel: int) -> dict[str, Any]:
        """The values of one channel."""
        keys = STEPS[self.op].keys
        each = self.values.get("per_channel", False)
        return {name: value[channel] if each and isinstance(keys.get(name), Drawn) else value for name, value in self.values.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRule:
    """A checked step of a recipe; `drawn` has one distribution per key, or three where it is per axis."""

    step: Step
    occurrence: int
    fixed: Mapping[str, Any]
    drawn: Mapping[str, tuple[Distribution, ...]]

    @property
    def largest(self) -> dict[str, float]:
        """The largest absolute value of each drawn key."""
        return {name: max(max(map(abs, each.bounds)) for each in some) for name, some in self.drawn.items()}


def read_steps(tables: Sequence[tuple[str, Mapping[str, Any]]]) -> tuple[StepRule, ...]:
    """Check the steps of a recipe.

    Args:
        tables: the op and the keys of each, in order.
    Raises:
        RecipeError: names the step, the key, what was got and what is allowed.
    """
    if len(tables) > MAX_STEPS:
        raise RecipeError(f"steps: got {len(tables)}; allowed: at most {MAX_STEPS}")
    seen: Counter[str] = Counter()
    rules = []
    for number, (op, keys) in enumerate(tables, 1):
        step = STEPS.get(op)
        if step is None:
            raise RecipeError(f"steps[{number}].op: got {op!r}; {did_you_mean(op, STEPS)}allowed: {', '.join(STEPS)}")
        try:
            rules.append(_read_step(step, keys, f"steps[{number}] ({op})", seen[op]))
        except ValueError as error:
            raise RecipeError(str(error)) from None
        seen[op] += 1
    return tuple(rules)


def keys_of(step: Step) -> dict[str, Drawn | Fixed]:
    """All keys of a step, those of every step included."""
    common = {name: key for name, key in COMMON.items() if name == "probability" or step.group == "intensity"}
    return {**common, **step.keys}


def _read_step(step: Step, given: Mapping[str, Any], where: str, occurrence: int) -> StepRule:
    keys = keys_of(step)
    for name in given:
        if name not in keys:
            raise ValueError(f"{where}: unknown key {name!r}; {did_you_mean(name, keys)}allowed: {', '.join(keys)}")
    fixed, drawn = {}, {}
    for name, key in keys.items():
        value = given.get(name, key.default)
        if value is None:
            raise ValueError(f"{where} needs {name}; give it a number or a range, or leave the step out")
        if isinstance(key, Fixed):
            fixed[name] = _read_fixed(value, key, f"{where}.{name}")
        else:
            drawn[name] = _read_drawn(value, key, f"{where}.{name}")
    bounds = {name: some[0].bounds if len(some) == 1 else tuple(each.bounds for each in some) for name, some in drawn.items()}
    try:
        step.check({**fixed, **bounds})
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
    return StepRule(step=step, occurrence=occurrence, fixed=fixed, drawn=drawn)


def _read_fixed(value: Any, key: Fixed, where: str) -> Any:
    def in_range(number: Any) -> bool:
        return is_number(number) and key.low is not None and key.low <= number <= (math.inf if key.high is None else key.high)

    if key.kind == "switch" and isinstance(value, bool):
        return value
    if key.kind == "choice" and isinstance(value, str) and value in key.choices:
        return value
    if key.kind != "switch" and in_range(value):
        return (float(value),) * _AXES if key.kind == "axes" else float(value)
    if key.kind == "axes" and is_numbers(value) and len(value) == _AXES and all(map(in_range, value)):
        return tuple(map(float, value))
    limits = "" if key.low is None else f"{key.low:.4g} to {math.inf if key.high is None else key.high:.4g}"
    allowed = {
        "switch": "true or false",
        "number": f"a number from {limits}",
        "axes": f"a number from {limits}, or three for z, y, x",
        "choice": ", ".join(map(repr, key.choices)) + (f", or a number from {limits}" if limits else ""),
    }[key.kind]
    near = did_you_mean(value, key.choices) if isinstance(value, str) else ""
    raise ValueError(f"{where}: got {shown(value)}; {near}allowed: {allowed}")


def _read_drawn(value: Any, key: Drawn, where: str) -> tuple[Distribution, ...]:
    if not key.per_axis:
        return (read_distribution(value, key, where),)
    if isinstance(value, Sequence) and not isinstance(value, str) and len(value) == _AXES:
        return tuple(read_distribution(each, key, f"{where}[{axis}]") for each, axis in zip(value, "zyx", strict=True))
    return (read_distribution(value, key, where),) * _AXES


def read_applied(op: str, channels: tuple[int, ...], given: Mapping[str, Any], number: int, count: int) -> AppliedStep:
    """An intensity step with explicit values, as Warp takes it; `count`: channels of the volume.

    Raises:
        RecipeError: names the step, the key, what was got and what is allowed.
    """
    where = f"steps[{number}] ({op})"
    step = STEPS.get(op)
    if step is None or step.group != "intensity":
        allowed = ", ".join(name for name, each in STEPS.items() if each.group == "intensity")
        raise RecipeError(
            f"steps[{number}].op: got {op!r}; {did_you_mean(op, STEPS)}allowed: {allowed}; the affine says what spatial steps do"
        )
    values: dict[str, Any] = {"per_channel": True} if given.get("per_channel") else {}
    try:
        for name in given:
            if name not in step.keys and name not in ("per_channel", "noise_key"):
                raise ValueError(f"{where}: unknown key {name!r}; {did_you_mean(name, step.keys)}allowed: {', '.join(step.keys)}")
        for name, key in step.keys.items():
            if isinstance(key, Fixed):
                values[name] = _read_fixed(given.get(name, key.default), key, f"{where}.{name}")
            elif name not in given:
                raise ValueError(f"{where} needs {name}")
            elif "per_channel" in values:
                entries = given[name]
                if not isinstance(entries, Sequence) or len(entries) != count:
                    raise ValueError(f"{where}.{name}: got {shown(entries)}; allowed: one entry for each of {count} channels")
                values[name] = tuple(_read_explicit(entry, key, f"{where}.{name}") for entry in entries)
            else:
                values[name] = _read_explicit(given[name], key, f"{where}.{name}")
        if step.noise:
            values["noise_key"] = _read_noise_key(given.get("noise_key", (number, 0)), f"{where}.noise_key")
        applied = AppliedStep(op=op, fired=True, channels=channels, values=values)
        for channel in channels:
            _check_explicit(step, applied.of_channel(channel), where)
    except ValueError as error:
        raise RecipeError(str(error)) from None
    return applied


def _read_noise_key(halves: Any, where: str) -> tuple[int, int]:
    if not (is_numbers(halves) and len(halves) == 2 and all(0 <= half < 2**32 and half == int(half) for half in halves)):
        raise ValueError(f"{where}: got {shown(halves)}; allowed: the low and the high half of a key, whole numbers of 32 bits")
    return int(halves[0]), int(halves[1])


def _check_explicit(step: Step, values: Mapping[str, Any], where: str) -> None:
    """What `Step.check` says of values that are no ranges; ValueError."""

    def bounds(name: str, value: Any) -> Any:
        key = step.keys.get(name)
        if not isinstance(key, Drawn):
            return value
        return tuple((one, one) for one in value) if key.per_axis else (value, value)

    try:
        step.check({name: bounds(name, value) for name, value in values.items()})
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def _read_explicit(value: Any, key: Drawn, where: str) -> Any:
    numbers = value if key.per_axis else [value]
    if key.per_axis and is_number(value):
        numbers = [value] * _AXES
    if key.whole and not (is_number(value) and float(value).is_integer()):
        raise ValueError(f"{where}: got {shown(value)}; allowed: a whole number")
    if not is_numbers(numbers) or (key.per_axis and len(numbers) != _AXES) or not all(key.low <= number <= key.high for number in numbers):
        raise ValueError(
            f"{where}: got {shown(value)}; allowed: {'three numbers z, y, x' if key.per_axis else 'a number'} "
            f"from {key.low:.4g} to {key.high:.4g}"
        )
    return tuple(map(float, numbers)) if key.per_axis else float(value)


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawnSteps:
    """A sample's steps: what they did, and the map that the spatial ones make up, in mm."""

    applied: tuple[AppliedStep, ...]
    matrix_mm: Matrix
    shift_mm: Vector


def draw_steps(rules: Sequence[StepRule], channels: int, *, seed: int, epoch: int, place: int) -> DrawnSteps:
    """Draw every step of the sample at (seed, epoch, place)."""
    key = SeedSequence(seed, spawn_key=(epoch, place, _STREAM)).generate_state(2, np.uint64)
    applied = []
    matrix, shift = IDENTITY, (0.0, 0.0, 0.0)
    for rule in rules:
        step = rule.step
        one = _draw_step(rule, Philox(key=key, counter=_counter(step.op, rule.occurrence)), channels)
        applied.append(one)
        if not one.fired or step.group != "spatial":
            continue
        axes = one.values.get("axes", (True, True, True))
        if step.matrix is not None:
            matrix = multiply(matrix, step.matrix(one.values, axes))
        if step.shift_mm is not None:
            z, y, x = (a + b for a, b in zip(shift, step.shift_mm(one.values, axes), strict=True))
            shift = z, y, x
    return DrawnSteps(applied=tuple(applied), matrix_mm=matrix, shift_mm=shift)


@functools.cache
def _counter(op: str, occurrence: int) -> NDArray[np.uint64]:
    """Where the words of a step begin."""
    name = int.from_bytes(hashlib.blake2b(op.encode(), digest_size=8).digest(), "big")
    return np.array([0, 0, name, occurrence], np.uint64)


def _draw_step(rule: StepRule, stream: Philox, channels: int) -> AppliedStep:
    step, fixed = rule.step, rule.fixed
    gate = int(stream.random_raw())
    if to_unit_interval(gate) >= fixed["probability"]:
        return AppliedStep(op=step.op, fired=False)
    words: list[int] = [gate, *stream.random_raw(_VALUES + _OF_A_KEY * len(rule.drawn) + _AXES - 1).tolist()]
    values: dict[str, Any] = {name: value for name, value in fixed.items() if name not in COMMON}
    if step.group == "spatial":
        for number, (name, some) in enumerate(rule.drawn.items()):
            values[name] = _draw_value(step, name, some, words, number, 0, shared=bool(fixed.get("same_for_all_axes")))
        if step.axis_gates:
            gates = words[_VALUES + _OF_A_KEY * len(rule.drawn) :]
            values["axes"] = tuple(to_unit_interval(word) < p for word, p in zip(gates, fixed[step.axis_gates], strict=True))
            del values[step.axis_gates]
        return AppliedStep(op=step.op, fired=True, values=values)
    changed = tuple(c for c in range(channels) if to_unit_interval(words[_CHANNEL_GATES + c]) < fixed["channel_probability"])
    if not changed:
        return AppliedStep(op=step.op, fired=False)
    each = fixed["per_channel"]
    if each:
        values["per_channel"] = True
    for number, (name, some) in enumerate(rule.drawn.items()):
        drawn = [_draw_value(step, name, some, words, number, c, shared=False) for c in range(channels if each else 1)]
        values[name] = tuple(drawn) if each else drawn[0]
    if step.noise:
        values["noise_key"] = (words[_NOISE] & 0xFFFFFFFF, words[_NOISE] >> 32)
    return AppliedStep(op=step.op, fired=True, channels=changed, values=values)


def _draw_value(step: Step, name: str, some: tuple[Distribution, ...], words: list[int], number: int, channel: int, *, shared: bool) -> Any:
    key = step.keys[name]
    assert isinstance(key, Drawn)
    first = _VALUES + _OF_A_KEY * number + channel * _AXES * WORDS_OF_A_VALUE
    places = [first + (0 if shared else axis * WORDS_OF_A_VALUE) for axis in range(len(some))]
    values = tuple(each.draw(words[at], words[at + 1], key.neutral) for each, at in zip(some, places, strict=True))
    return values if key.per_axis else values[0]
