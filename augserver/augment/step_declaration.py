"""What a step of a recipe declares about itself. Checks, draws, provenance and the kernel's numbers all follow from it.

A declaration is a module of augserver/augment/steps, named as its op, with STEP = Step(...); it is found by its being there. The arithmetic
of an intensity step is the header of the same name in cuda/steps.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from augserver.augment.affine import Matrix, Vector

Values = Mapping[str, Any]
"""A step's values, none of them a range: numbers, switches, names; a key per axis has three, z, y, x."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """A key whose value is drawn.

    Attributes:
        low, high: what a value may be.
        default: what stands for the key where it is left out; None: it must be given.
        unit: of the value, for people.
        neutral: the value that changes nothing; where a two-sided distribution splits.
        plus_minus: a bare number v means [-v, v], as for angles; else v every time.
        whole: a number every time, or a choice of them, all whole.
        per_axis: it takes one entry for all axes, each of which draws its own value, or three for z, y, x.
        about: one line for people.
    """

    low: float
    high: float
    default: Any = None
    unit: str = ""
    neutral: float = 0.0
    plus_minus: bool = False
    whole: bool = False
    per_axis: bool = False
    about: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fixed:
    """A key whose value is the same for all samples.

    Attributes:
        kind: "switch": true or false; "number"; "choice": one of `choices`, or a number where `low` is given; "axes": a number, or three.
        default: what stands for the key where it is left out.
    """

    kind: Literal["switch", "number", "choice", "axes"]
    default: Any
    choices: tuple[str, ...] = ()
    low: float | None = None
    high: float | None = None
    about: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A step of a recipe.

    Attributes:
        op: its name.
        group: "spatial" steps make up the map from output to input voxels, in order; "intensity" steps change the interpolated values.
        about: a sentence or two for people.
        keys: name -> Drawn or Fixed, beside `probability` and, of an intensity step, `per_channel` and `channel_probability`.
        augments: whether Recipe.without_augmentation() leaves it out.
        axis_gates: the key of `axes` kind that holds each axis' own probability.
        noise: it has a 64-bit key of its own for noise.
        matrix: of a spatial step: values, and which axes' gates fired -> M in mm, zyx.
        shift_mm: the same -> displacement.
        stretch: the largest sum of absolute entries in a row of M, by the largest absolute value of each drawn key.
        reach_mm: the longest displacement along an axis, by the same.
        numbers: of an intensity step: values of one channel -> the kernel's numbers by name; a list for the last one only.
        unit_range: values, or none of a step that did not fire -> whether its result lies in [0, 1].
        check: what the keys' own ranges cannot say; takes the keys with their distributions' bounds (low, high), raises ValueError(text).
    """

    op: str
    group: Literal["spatial", "intensity"]
    about: str
    keys: Mapping[str, Drawn | Fixed]
    augments: bool = True
    axis_gates: str = ""
    noise: bool = False
    matrix: Callable[[Values, tuple[bool, bool, bool]], Matrix] | None = None
    shift_mm: Callable[[Values, tuple[bool, bool, bool]], Vector] | None = None
    stretch: Callable[[Mapping[str, float]], float] = field(default=lambda largest: 1.0)
    reach_mm: Callable[[Mapping[str, float]], float] = field(default=lambda largest: 0.0)
    numbers: Callable[[Values], dict[str, Any]] | None = None
    unit_range: Callable[[Values], bool] = field(default=lambda values: False)
    check: Callable[[Mapping[str, Any]], None] = field(default=lambda keys: None)
