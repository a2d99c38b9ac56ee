"""Check what a recipe means, and turn it into the rules that draws read.

Clients of any language send the protobuf message, so every check of meaning is made here, before any work is done. Each refusal names
the key as it is written in TOML, what was got and what is allowed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NoReturn, TypeVar

from augclient.contract import BORDERS, DEFAULT_FILL, IGNORE_CLASS, LABEL_RULES, SAMPLERS, ignored_label
from augclient.nearest import did_you_mean
from augclient.recipe import AUGMENTING_SECTIONS, plain_values
from augclient.wire.v1 import augserver_pb2 as pb
from google.protobuf.message import Message
from google.protobuf.struct_pb2 import Struct
from google.protobuf.unknown_fields import UnknownFieldSet

from augserver.augment.rules import AffineRule, Axes, CompiledRecipe, CropRule, Interval, OccludeRule
from augserver.augment.step_rules import read_steps
from augserver.augment.steps import STEPS
from augserver.errors import RecipeError

T = TypeVar("T")

CROP_MODES = ("center", "uniform", "valid", "foreground")

MAX_PATCHES_PER_VOLUME = 65_536
MAX_INTENSITY = 1e9  # far above any scanner's values, and products of it stay finite in the kernel's float32
MAX_ANGLE_DEG = 36_000.0
MAX_TRANSLATE_MM = 1e5
MIN_SCALE, MAX_SCALE = 0.01, 100.0  # with the limit on spacing it keeps coordinates far below the kernel's 2**31 voxels
MIN_SPACING_MM, MAX_SPACING_MM = 0.01, 100.0
# below 1/2 and 1/3, I + shear and I + warp are strictly diagonally dominant, hence never singular and never a reflection
MAX_SHEAR = 0.49
MAX_WARP = 0.33
_SINGULAR = ", beyond which the transform could become singular"


def compile_recipe(recipe_pb: pb.Recipe, *, modality: str, classes: Mapping[int, str]) -> CompiledRecipe:
    """Check a recipe against a dataset and make its rules.

    Args:
        recipe_pb: as it came over the wire.
        modality: "ct" or "mr"; decides the default fill.
        classes: label id -> name, of the dataset.
    Raises:
        RecipeError: a value without meaning: a reversed range, NaN, a negative std, an unknown mode, sampler or label name, a window
            whose limits can meet, a shear or warp that could make the transform singular, fields that this server does not know.
    """
    refuse_unknown_fields(recipe_pb, "recipe")
    steps = read_steps([(step.op, plain_values(step.values)) for step in recipe_pb.steps])
    _refuse_mixing(recipe_pb)
    window = _window(recipe_pb.window) if recipe_pb.HasField("window") else None
    if recipe_pb.HasField("gamma") and window is None:
        raise RecipeError("gamma works on the window's [0, 1], but the recipe has no [window]; add window.low and window.high")
    output = recipe_pb.output
    for key, allowed in (("sampler", SAMPLERS), ("labels", LABEL_RULES), ("border", BORDERS)):
        if (name := getattr(output, key)) not in ("", *allowed):
            _refuse_name(f"output.{key}", name, allowed)
    if output.sampler == "texture" and output.border == "edge":
        raise RecipeError('output.border: got "edge", which output.sampler "texture" does not have; use "exact"')
    ignore = ignored_label(classes)
    fill = output.fill if output.HasField("fill") else DEFAULT_FILL[modality]
    return CompiledRecipe(
        crop=_crop(recipe_pb.crop),
        affine=_affine(recipe_pb.affine) if recipe_pb.HasField("affine") else None,
        occlude=_occlude(recipe_pb.occlude) if recipe_pb.HasField("occlude") else None,
        contrast=_single(recipe_pb, "contrast", "factor", -MAX_INTENSITY),
        brightness=_single(recipe_pb, "brightness", "offset", -MAX_INTENSITY),
        gamma=_single(recipe_pb, "gamma", "exponent", 1e-3, 1e3),
        noise_std=_single(recipe_pb, "noise", "std", 0.0),
        window=window,
        keep_labels=_keep_labels(recipe_pb.labels.keep, classes, ignore) if recipe_pb.HasField("labels") else None,
        fill=_within("output.fill", fill, -MAX_INTENSITY, MAX_INTENSITY),
        spacing_mm=_numbers("output.spacing_mm", output.spacing_mm, MIN_SPACING_MM, MAX_SPACING_MM),
        sampler=output.sampler or SAMPLERS[0],
        label_rule=output.labels or LABEL_RULES[0],
        outside_label=_outside_label(output, ignore),
        border=output.border or BORDERS[0],
        ignore_label=ignore,
        steps=steps,
    )


def makes_unit_range(recipe_pb: pb.Recipe) -> bool:
    """Whether the last intensity step makes every image one in [0, 1]; `compile_recipe` has checked them."""
    intensity = [step for step in recipe_pb.steps if STEPS[step.op].group == "intensity"]
    if not intensity:
        return False
    values = plain_values(intensity[-1].values)
    always = values.get("probability", 1) == values.get("channel_probability", 1) == 1
    return always and STEPS[intensity[-1].op].unit_range(values)


def _refuse_mixing(recipe_pb: pb.Recipe) -> None:
    """RecipeError for a recipe with steps and with sections that are steps themselves: their order would be anybody's guess."""
    both = [section for section in AUGMENTING_SECTIONS if recipe_pb.HasField(section)]
    if recipe_pb.steps and both:
        raise RecipeError(f"a recipe has either steps or [{both[0]}]; write [{both[0]}] as a step at its place among the others")


def refuse_unknown_fields(message: Message, where: str) -> None:
    """Refuse a message with fields of a newer contract: they must not be dropped in silence.

    Args:
        message: as it came over the wire; its submessages are searched too.
        where: its name in the error.
    Raises:
        RecipeError: there are some; gives their numbers.
    """
    numbers = sorted({field.field_number for field in UnknownFieldSet(message)})
    if numbers:
        raise RecipeError(f"{where} has fields that this server does not know (numbers {numbers}); upgrade the server, or leave them out")
    for field, value in message.ListFields():
        if field.message_type is Struct.DESCRIPTOR:
            continue  # its keys are checked as a step's
        if field.message_type is not None:
            for one in [value] if isinstance(value, Message) else value:
                refuse_unknown_fields(one, field.name)


def _crop(crop: pb.Recipe.Crop) -> CropRule:
    mode = crop.mode or CROP_MODES[0]
    if mode not in CROP_MODES:
        _refuse_name("crop.mode", mode, CROP_MODES)
    patches = crop.patches_per_volume or 1
    if patches > MAX_PATCHES_PER_VOLUME:
        raise RecipeError(f"crop.patches_per_volume: got {patches}; allowed: 1 to {MAX_PATCHES_PER_VOLUME}")
    return CropRule(mode=mode, pad=crop.pad, patches_per_volume=patches)


def _affine(affine: pb.Recipe.Affine) -> AffineRule:
    return AffineRule(
        rotate_deg=_axes("affine.rotate_deg", affine.rotate_deg, -MAX_ANGLE_DEG, MAX_ANGLE_DEG),
        scale=_axes("affine.scale", affine.scale, MIN_SCALE, MAX_SCALE),
        shear=_axes("affine.shear", affine.shear, -MAX_SHEAR, MAX_SHEAR, _SINGULAR),
        warp=_axes("affine.warp", affine.warp, -MAX_WARP, MAX_WARP, _SINGULAR),
        reflect=_numbers("affine.reflect", affine.reflect, 0.0, 1.0),
        translate_mm=_axes("affine.translate_mm", affine.translate_mm, -MAX_TRANSLATE_MM, MAX_TRANSLATE_MM),
        probability=_probability("affine", affine),
    )


def _occlude(occlude: pb.Recipe.Occlude) -> OccludeRule:
    if occlude.label > 255:
        raise RecipeError(f'occlude.label: got {occlude.label}; allowed: 0 to 255, as labels are uint8, or "keep"')
    return OccludeRule(
        max_voxels=occlude.max_voxels,
        probability=_probability("occlude", occlude),
        label=None if occlude.keep_label else occlude.label,
    )


def _window(window: pb.Recipe.Window) -> tuple[Interval, Interval]:
    if not (window.HasField("low") and window.HasField("high")):
        raise RecipeError("window needs both window.low and window.high; give each a range or one number, or leave [window] out")
    low = _interval("window.low", window.low, -MAX_INTENSITY, MAX_INTENSITY)
    high = _interval("window.high", window.high, -MAX_INTENSITY, MAX_INTENSITY)
    # the kernel divides by high - low in float32, whose relative resolution is 6e-8
    if not high[0] - low[1] > 1e-6 * max(1.0, abs(low[1]), abs(high[0])):
        raise RecipeError(f"window: every low must be below every high, got low up to {low[1]:g} and high from {high[0]:g}")
    return low, high


def _keep_labels(names: Sequence[str], classes: Mapping[int, str], ignore: int | None) -> frozenset[int]:
    if not names:
        raise RecipeError(f"labels.keep names no class; allowed: {_listed(classes.values())}; leave [labels] out to keep all")
    for name in names:
        if name not in classes.values():
            _refuse_name("labels.keep", name, list(classes.values()))
    return frozenset(label for label, name in classes.items() if name in names or label == ignore)


def _outside_label(output: pb.Recipe.Output, ignore: int | None) -> int:
    if output.ignore_outside_label:
        if ignore is None:
            raise RecipeError(f'output.outside_label: got "ignore", but no class of the dataset is named {IGNORE_CLASS!r}; give a number')
        return ignore
    if output.outside_label > 255:
        raise RecipeError(f'output.outside_label: got {output.outside_label}; allowed: 0 to 255, as labels are uint8, or "ignore"')
    return output.outside_label


def _probability(section: str, message: pb.Recipe.Affine | pb.Recipe.Occlude) -> float:
    return _within(f"{section}.probability", message.probability, 0.0, 1.0) if message.HasField("probability") else 1.0


def _single(recipe_pb: pb.Recipe, section: str, key: str, minimum: float, maximum: float = MAX_INTENSITY) -> Interval | None:
    """The one range of a section such as [noise]; a section that is there without its key is a slip."""
    if not recipe_pb.HasField(section):
        return None
    message = getattr(recipe_pb, section)
    if not message.HasField(key):
        raise RecipeError(f"{section} needs {section}.{key}; give it a range or one number, or leave [{section}] out")
    return _interval(f"{section}.{key}", getattr(message, key), minimum, maximum)


def _axes(key: str, ranges: Sequence[pb.Range], minimum: float, maximum: float, why: str = "") -> Axes | None:
    return _per_axis(key, [_interval(key, one, minimum, maximum, why) for one in ranges])


def _numbers(key: str, values: Sequence[float], minimum: float, maximum: float) -> tuple[float, float, float] | None:
    return _per_axis(key, [_within(key, value, minimum, maximum) for value in values])


def _per_axis(key: str, entries: Sequence[T]) -> tuple[T, T, T] | None:
    match entries:
        case []:
            return None
        case [every]:
            return every, every, every
        case [z, y, x]:
            return z, y, x
    raise RecipeError(f"{key}: got {len(entries)} entries; allowed: one for all axes, or three for z, y, x")


def _interval(key: str, given: pb.Range, minimum: float, maximum: float, why: str = "") -> Interval:
    low, high = _within(key, given.low, minimum, maximum, why), _within(key, given.high, minimum, maximum, why)
    if low > high:
        raise RecipeError(f"{key}: got [{low:g}, {high:g}], which is reversed; allowed: low <= high")
    return low, high


def _within(key: str, value: float, minimum: float, maximum: float, why: str = "") -> float:
    if not (math.isfinite(value) and minimum <= value <= maximum):
        raise RecipeError(f"{key}: got {value:g}; allowed: {minimum:.4g} to {maximum:.4g}{why}")
    return value


def _refuse_name(key: str, name: str, known: Sequence[str]) -> NoReturn:
    raise RecipeError(f"{key}: got {name!r}; {did_you_mean(name, known)}allowed: {_listed(known)}")


def _listed(names: Iterable[str]) -> str:
    return ", ".join(map(repr, names))
