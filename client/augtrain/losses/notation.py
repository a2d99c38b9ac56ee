"""Losses written down: as text for a command line, as a table for TOML.

    iou                                             a name
    dice:weighting=square,reduce=batch              options, KEY=VALUE
    cross_entropy:class_weights=1/4/4               a list
    cross_entropy+0.5*iou                           a sum, with weights
    multi_resolution:trainable=true(dice+iou)       the loss of each resolution in brackets

    {name = "dice", weighting = "square"}           the same as tables
    {name = "sum", losses = ["cross_entropy", {name = "iou", background = false}], weights = [1, 0.5]}
    {name = "multi_resolution", loss = "iou", alphas = [1, 0.1, 0.01]}

Names and options are those of the classes; which values are allowed is theirs to say.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping, Sequence
from typing import Any

from augclient.errors import ConfigError
from augclient.nearest import nearest

from augtrain.losses.class_weights import PerClass
from augtrain.losses.cross_entropy import CrossEntropy
from augtrain.losses.dice import Dice
from augtrain.losses.iou import IoU
from augtrain.losses.multi_resolution import MultiResolution
from augtrain.losses.segmentation_loss import SegmentationLoss
from augtrain.losses.weighted_sum import Sum

LOSSES: Mapping[str, type[SegmentationLoss]] = {
    "cross_entropy": CrossEntropy,
    "dice": Dice,
    "iou": IoU,
    "multi_resolution": MultiResolution,
    "sum": Sum,
}

_UNWRITTEN = {"name", "reduction", "curve"}  # a curve is a function: it has no text
_TERM = re.compile(r"(?:(?P<weight>[^*:()]+)\*)?(?P<name>\w+)(?::(?P<options>[^()]*))?(?P<inner>\(.*\))?")


def parse_loss(loss: str | Mapping[str, Any], *, class_voxels: PerClass | None = None, ignore: int | None = None) -> SegmentationLoss:
    """The loss that a text or a table describes.

    Args:
        loss: as above.
        class_voxels: voxels by id in the dataset, for the losses that weigh by frequency and are not told another.
        ignore: id without a say, unless the description names one.
    Raises:
        ConfigError: a name or key that does not exist (names the nearest), text that has no meaning, or a value that is not allowed.
    """
    told = _build(loss, class_voxels, None)
    return told if ignore is None or told.ignore is not None else _build(loss, class_voxels, ignore)


def _build(table: str | Mapping[str, Any], class_voxels: PerClass | None, ignore: int | None) -> SegmentationLoss:
    if isinstance(table, str):
        table = _read(table)
    if not isinstance(table, Mapping):
        raise ConfigError(f"loss: got {table!r}; allowed: a text such as 'iou', or a table with a name")
    options = dict(table)
    name = str(options.pop("name", ""))
    if name not in LOSSES:
        raise ConfigError(f"loss: there is no {name!r}{_nearest(name, LOSSES)}")
    keys = [key for key in inspect.signature(LOSSES[name]).parameters if key not in _UNWRITTEN]
    for key in options:
        if key not in keys:
            raise ConfigError(f"loss {name}: there is no option {key!r}{_nearest(str(key), keys)}")
    if name == "sum":
        options["losses"] = [_build(each, class_voxels, ignore) for each in _list(name, options, "losses")]
    elif name == "multi_resolution":
        if "loss" not in options:
            raise ConfigError("loss multi_resolution: of what? Allowed: multi_resolution(dice), or a table with a loss")
        options["loss"] = _build(options["loss"], class_voxels, ignore)
    elif class_voxels is not None and "class_voxels" in keys:
        options.setdefault("class_voxels", class_voxels)
    if ignore is not None and "ignore" in keys:
        options.setdefault("ignore", ignore)
    try:
        return LOSSES[name](**options)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"loss {name}: got {options}: {error}") from error


def _read(text: str) -> Mapping[str, Any]:
    """The table of a text."""
    terms = [_TERM.fullmatch(term.strip()) for term in _split(text)]
    if not all(terms):
        raise ConfigError(f"loss: got {text!r}; allowed: such as iou, dice:weighting=square,reduce=batch, cross_entropy+0.5*iou")
    tables, weights = [], []
    for term in filter(None, terms):
        table: dict[str, Any] = {"name": term["name"]}
        for option in filter(None, (term["options"] or "").split(",")):
            key, _, value = (part.strip() for part in option.partition("="))
            if key in table:
                raise ConfigError(f"loss {term['name']}: got a second {key!r}; allowed: each option once")
            table[key] = _value(value)
        if term["inner"]:
            table["loss"] = term["inner"][1:-1]
        tables.append(table)
        weights.append(_value((term["weight"] or "1").strip()))
    if len(tables) == 1 and weights == [1]:
        return tables[0]
    return {"name": "sum", "losses": tables, "weights": weights}


def _split(text: str) -> list[str]:
    """The terms of a sum: parted at each + outside brackets."""
    terms, depth = [""], 0
    for letter in text:
        depth += (letter == "(") - (letter == ")")
        if letter == "+" and depth == 0:
            terms.append("")
        else:
            terms[-1] += letter
    return terms


def _value(text: str) -> Any:
    if "/" in text:
        return [_value(part) for part in text.split("/")]
    if text in ("true", "false"):
        return text == "true"
    for number in (int, float):
        try:
            return number(text)
        except ValueError:
            continue
    return text


def _list(name: str, options: Mapping[str, Any], key: str) -> Sequence[Any]:
    value = options.get(key)
    if not isinstance(value, list | tuple):
        raise ConfigError(f"loss {name}.{key}: got {value!r}; allowed: a list")
    return value


def _nearest(word: str, known: Mapping[str, Any] | Sequence[str]) -> str:
    near = nearest(word, known)
    return f"; did you mean {near!r}?" if near else f"; allowed: {', '.join(known)}"
