"""An augmentation recipe: TOML or keyword arguments in, the protobuf message `Recipe` out.

The message is the schema: sections, keys and types are read off its descriptor, so a field added to the .proto is a key here. How a
key is written follows from its type:

    Range              [low, high], or one number v: v every time, or anything in [-v, v] for the keys of PLUS_MINUS
    repeated Range     one range for all axes (each axis draws its own value from it), or three of them for z, y, x
    repeated double    one number for all axes, or three for z, y, x
    repeated string    a list of names
    repeated Step      [[steps]] tables: `op` and that step's keys, in order; numbers, ranges, tables of a distribution, switches, texts
    oneof x, word_x    x = number, or x = "word"
    double, uint32, bool, string: themselves

Here a value's type and length are checked; what it means (reversed ranges, NaN, unknown labels) is checked by the server, so that
clients in all languages get the same answers.
"""

from __future__ import annotations

import functools
import hashlib
import json
import math
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.struct_pb2 import Struct, Value

from augclient.errors import NotFoundError, RecipeError
from augclient.nearest import nearest
from augclient.wire.v1 import augserver_pb2 as pb

AUGMENTING_SECTIONS = ("affine", "occlude", "contrast", "brightness", "gamma", "noise", "window")
"""Sections that are steps at a fixed place; a recipe of steps has none of them."""

PLUS_MINUS = frozenset({"rotate_deg", "shear", "warp", "translate_mm", "offset"})
"""Keys that are zero when nothing happens: a bare number v there means [-v, v], elsewhere [v, v]."""

_UINT32_MAX = 2**32 - 1


class Recipe:
    """An immutable recipe; equal recipes have equal digests, and `Recipe()` is the identity.

    Args:
        sections: one mapping per section, as in the TOML file: Recipe(affine={"rotate_deg": 15}, noise={"std": [0, 30]}); and `steps`,
            a list of them: Recipe(steps=[{"op": "rotate", "degrees": 30, "probability": 0.2}, {"op": "gamma", "exponent": [0.7, 1.5]}]).
    Raises:
        RecipeError: a section or key that does not exist (names the nearest), or a value of the wrong type or length.
    """

    def __init__(self, **sections: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> None:
        self._proto = pb.Recipe()
        _fill(self._proto, sections, "")

    @classmethod
    def from_dict(cls, sections: Mapping[str, Any]) -> Recipe:
        """A recipe of the mapping that a TOML file would give; errors as for Recipe."""
        recipe = cls()
        _fill(recipe._proto, _table(sections, "recipe"), "")
        return recipe

    @classmethod
    def load(cls, path: str | Path) -> Recipe:
        """Read a TOML file.

        Raises:
            NotFoundError: there is no such file.
            RecipeError: it cannot be read, is not TOML, or is no recipe; the message starts with the path.
        """
        try:
            return cls.from_dict(tomllib.loads(Path(path).read_text(encoding="utf-8")))
        except FileNotFoundError:
            raise NotFoundError(f"recipe file {str(path)!r} does not exist") from None
        except OSError as error:
            raise RecipeError(f"recipe file {str(path)!r} cannot be read: {error.strerror}") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise RecipeError(f"recipe file {str(path)!r} is not TOML: {error}") from error
        except RecipeError as error:
            raise RecipeError(f"recipe file {str(path)!r}: {error}") from error

    def without_augmentation(self) -> Recipe:
        """What is left for validation: place, labels, output, and steps that bring values into the network's range, such as a window.

        Their ranges give way to their middle, and they apply to every sample, unless their probability is 0. A step that this
        client does not know is left out.
        """
        sections = {name: keys for name, keys in self.to_dict().items() if name == "window" or name not in AUGMENTING_SECTIONS}
        if "window" in sections:
            sections["window"] = {key: sum(limits) / 2 for key, limits in sections["window"].items()}
        kept = [_always(table) for table in sections.pop("steps", []) if _is_kept(table)]
        return Recipe.from_dict({**sections, "steps": kept} if kept else sections)

    @property
    def proto(self) -> pb.Recipe:
        """The message for the wire; a copy, so the recipe stays as it is."""
        copy = pb.Recipe()
        copy.CopyFrom(self._proto)
        return copy

    @property
    def digest(self) -> str:
        """SHA-256 in hex of the recipe's content: the same in every process, and whatever protobuf's version."""
        canonical = json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()

    def to_dict(self) -> dict[str, Any]:
        """What is set, in a form that from_dict takes; ranges as [low, high]."""
        return _table_of(self._proto)

    def to_toml(self) -> str:
        """The text of a TOML file that loads as an equal recipe."""
        blocks = []
        for section, keys in self.to_dict().items():
            if isinstance(keys, list):
                for table in keys:
                    blocks.append("\n".join([f"[[{section}]]", *(f"{key} = {_toml_value(value)}" for key, value in table.items())]) + "\n")
                continue
            lines = [f"{key} = {_toml_value(value)}" for key, value in keys.items()]
            blocks.append("\n".join([f"[{section}]", *lines]) + "\n")
        return "\n".join(blocks)

    def __eq__(self, other: object) -> bool:
        return self.digest == other.digest if isinstance(other, Recipe) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.digest)

    def __repr__(self) -> str:
        return f"Recipe({', '.join(f'{section}={keys}' for section, keys in self.to_dict().items())})"


@functools.cache
def _known_steps() -> dict[str, Any]:
    """Of each step whether it augments and what it draws, as proto/generate.sh wrote it down from the declarations."""
    known: dict[str, Any] = json.loads(Path(__file__).with_name("steps.json").read_text(encoding="utf-8"))
    return known


def _is_kept(table: Mapping[str, Any]) -> bool:
    """Whether a step is more than augmentation."""
    known = _known_steps().get(table["op"])
    return known is not None and not known["augments"] and table.get("probability") != 0


def _always(table: Mapping[str, Any]) -> dict[str, Any]:
    """A step that applies always, with the middle of what it draws."""
    dropped = ("probability", "channel_probability", "per_channel")
    drawn = _known_steps()[table["op"]]["drawn"]
    return {key: _middle(value) if key in drawn else value for key, value in table.items() if key not in dropped}


def _middle(value: Any) -> Any:
    if isinstance(value, Mapping):
        ((kind, numbers),) = value.items()
        if kind == "choice":
            return sorted(numbers)[len(numbers) // 2]
        if kind == "log_uniform":
            return math.sqrt(numbers[0] * numbers[1])
        return numbers[0] if kind == "normal" else sum(numbers) / 2
    if isinstance(value, list):
        return sum(value) / 2 if len(value) == 2 else [_middle(one) for one in value]
    return value


def _fill(message: Message, table: Mapping[str, Any], where: str) -> None:
    fields = _keys(message.DESCRIPTOR)
    for key, value in table.items():
        if key not in fields:
            raise RecipeError(_unknown(f"{where}{key}", where))
        _set(message, fields[key], value, f"{where}{key}")


def _set(message: Message, field: FieldDescriptor, value: Any, key: str) -> None:
    worded = _worded_field(field)
    if field.message_type is pb.Recipe.Step.DESCRIPTOR:
        getattr(message, field.name).extend(steps_message(value, key))
    elif worded is not None and isinstance(value, str):
        if value != _word(worded, field):
            raise RecipeError(f'{key}: got {value!r}; allowed: a whole number or "{_word(worded, field)}"')
        setattr(message, worded.name, True)
    elif _is_repeated(field):
        read = _ranges if field.message_type is not None else _names if field.cpp_type == field.CPPTYPE_STRING else _numbers
        getattr(message, field.name).extend(read(value, key))
    elif field.message_type is None:
        setattr(message, field.name, _SCALARS[field.cpp_type](value, key))
    elif field.message_type is pb.Range.DESCRIPTOR:
        getattr(message, field.name).CopyFrom(_range(value, key))
    else:
        section = getattr(message, field.name)
        section.SetInParent()  # a section without keys is still a section
        _fill(section, _table(value, key), f"{key}.")


def _keys(descriptor: Descriptor) -> dict[str, FieldDescriptor]:
    """Key -> field; the `word_x` beside an `x` in a oneof is not a key but a value of `x`."""
    fields = {field.name: field for field in descriptor.fields}
    values = {worded.name for worded in map(_worded_field, descriptor.fields) if worded is not None}
    return {name: field for name, field in fields.items() if name not in values}


def _worded_field(field: FieldDescriptor) -> FieldDescriptor | None:
    oneof = field.containing_oneof.fields if field.containing_oneof is not None else []
    return next((other for other in oneof if other.name.endswith(f"_{field.name}")), None)


def _word(worded: FieldDescriptor, field: FieldDescriptor) -> str:
    word: str = worded.name.removesuffix(f"_{field.name}")
    return word


def _is_repeated(field: FieldDescriptor) -> bool:
    # `is_repeated` came with protobuf 6 and `label` warns from then on; this holds for 5 as well
    return isinstance(field.default_value, list)


def _unknown(key: str, where: str) -> str:
    """Name the nearest key: first among the neighbours, then in the whole recipe."""
    sections = _keys(pb.Recipe.DESCRIPTOR)
    leaf = key.removeprefix(where)
    here = list(_keys(sections[where[:-1]].message_type) if where else sections)
    elsewhere = {
        f"{name}.{its_leaf}": its_leaf for name, field in sections.items() if name != "steps" for its_leaf in _keys(field.message_type)
    }
    near = nearest(leaf, here)
    meant = where + near if near else next((name for name, its_leaf in elsewhere.items() if its_leaf == leaf), nearest(leaf, elsewhere))
    guess = f"did you mean {meant!r}? " if meant else ""
    return f"unknown recipe key {key!r}; {guess}allowed here: {', '.join(here)}"


def _table(value: Any, key: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise RecipeError(f"{key}: got {value!r}; allowed: a table of keys and values")
    return value


def _range(value: Any, key: str, allowed: str = "[low, high] or one number") -> pb.Range:
    if not isinstance(value, (list, tuple)):
        number = _number(value, key, allowed)
        return pb.Range(low=-number if key.rpartition(".")[2] in PLUS_MINUS else number, high=number)
    if len(value) != 2:
        raise RecipeError(f"{key}: got {value!r} of length {len(value)}; allowed: {allowed}")
    return pb.Range(low=_number(value[0], key, allowed), high=_number(value[1], key, allowed))


def steps_message(value: Any, key: str) -> list[pb.Recipe.Step]:
    """The messages of a list of steps; RecipeError for what is none."""
    if not isinstance(value, (list, tuple)):
        raise RecipeError(
            f'{key}: got {value!r}; allowed: a list of tables, each with op = "..." and that step\'s keys ([[{key}]] in TOML)'
        )
    messages = []
    for number, table in enumerate(value, 1):
        where = f"{key}[{number}]"
        keys = dict(_table(table, where))
        op = keys.pop("op", None)
        if op is None:
            raise RecipeError(f'{where} has no op; allowed: a table with op = "..." and that step\'s keys')
        message = pb.Recipe.Step(op=_text(op, f"{where}.op"))
        message.values.update({_text(name, where): _step_value(one, f"{where} ({op}).{name}") for name, one in keys.items()})
        messages.append(message)
    return messages


def _step_value(value: Any, key: str) -> Any:
    """A value of a step as JSON has it."""
    if isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _text(value, key)
    if isinstance(value, Mapping):
        return {_text(name, key): _step_value(one, key) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_step_value(one, key) for one in value]
    number = _number(value, key, "a number, a range, a table of a distribution, true or false, or a text")
    if not math.isfinite(number):
        raise RecipeError(f"{key}: got {value!r}; allowed: a finite number")
    return number


def plain_values(values: Struct) -> dict[str, Any]:
    """The keys of a step's message as Python has them; whole numbers as int."""
    return {name: _plain_value(value) for name, value in sorted(values.fields.items())}


def _plain_value(value: Value) -> Any:
    kind = value.WhichOneof("kind")
    if kind == "number_value":
        return int(value.number_value) if value.number_value.is_integer() and abs(value.number_value) < 2**53 else value.number_value
    if kind == "list_value":
        return [_plain_value(one) for one in value.list_value.values]
    if kind == "struct_value":
        return plain_values(value.struct_value)
    return getattr(value, kind) if kind in ("bool_value", "string_value") else None


def _ranges(value: Any, key: str) -> list[pb.Range]:
    allowed = "one range for all axes ([low, high] or one number), or three of them for z, y, x"
    several = value if isinstance(value, (list, tuple)) and len(value) == 3 else [value]
    return [_range(one, key, allowed) for one in several]


def _numbers(value: Any, key: str) -> list[float]:
    allowed = "one number for all axes, or three for z, y, x"
    if not isinstance(value, (list, tuple)):
        return [_number(value, key, allowed)]
    if len(value) != 3:
        raise RecipeError(f"{key}: got {value!r} of length {len(value)}; allowed: {allowed}")
    return [_number(one, key, allowed) for one in value]


def _names(value: Any, key: str) -> list[str]:
    if not isinstance(value, (list, tuple)):
        raise RecipeError(f"{key}: got {value!r}; allowed: a list of names")
    return [_text(name, key) for name in value]


def _number(value: Any, key: str, allowed: str = "a number") -> float:
    # bool is an int in Python, but `scale = true` is a slip; NumPy's scalars are numbers through __float__ alone
    if isinstance(value, (bool, str, bytes)) or not hasattr(value, "__float__") or hasattr(value, "__len__"):
        raise RecipeError(f"{key}: got {value!r}; allowed: {allowed}")
    try:
        return float(value)
    except OverflowError:
        raise RecipeError(f"{key}: got a whole number of {value.bit_length()} bits; allowed: {allowed}, in double precision") from None


def _count(value: Any, key: str) -> int:
    if isinstance(value, bool) or not hasattr(value, "__index__") or not 0 <= int(value) <= _UINT32_MAX:
        raise RecipeError(f"{key}: got {value!r}; allowed: a whole number from 0 to {_UINT32_MAX}")
    return int(value)


def _switch(value: Any, key: str) -> bool:
    if not isinstance(value, bool):
        raise RecipeError(f"{key}: got {value!r}; allowed: true or false")
    return value


def _text(value: Any, key: str) -> str:
    # lone surrogates, which os.fsdecode and JSON can make, have no UTF-8
    if not isinstance(value, str) or any("\ud800" <= character <= "\udfff" for character in value):
        raise RecipeError(f"{key}: got {value!r}; allowed: a text in quotes")
    return value


_SCALARS: dict[int, Callable[[Any, str], Any]] = {
    FieldDescriptor.CPPTYPE_DOUBLE: _number,
    FieldDescriptor.CPPTYPE_UINT32: _count,
    FieldDescriptor.CPPTYPE_BOOL: _switch,
    FieldDescriptor.CPPTYPE_STRING: _text,
}


def _table_of(message: Message) -> dict[str, Any]:
    table: dict[str, Any] = {}
    for field, value in message.ListFields():
        keys = _keys(field.containing_type)
        if field.name in keys:
            table[field.name] = _plain(field, value)
        elif value:
            key = next(key for key in keys.values() if _worded_field(key) is field)
            table[key.name] = _word(field, key)
    return table


def _plain(field: FieldDescriptor, value: Any) -> Any:
    if field.message_type is pb.Recipe.Step.DESCRIPTOR:
        return [{"op": step.op, **plain_values(step.values)} for step in value]
    if field.message_type is pb.Range.DESCRIPTOR:
        ranges = [[one.low, one.high] for one in (value if _is_repeated(field) else [value])]
        return ranges[0] if len(ranges) == 1 else ranges
    if field.message_type is not None:
        return _table_of(value)
    if not _is_repeated(field):
        return value
    values = list(value)
    return values[0] if field.cpp_type == field.CPPTYPE_DOUBLE and len(values) == 1 else values


def _toml_value(value: Any) -> str:
    if isinstance(value, (bool, str)):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")  # TOML's basic strings take JSON's escapes
    if isinstance(value, Mapping):
        return f"{{ {', '.join(f'{key} = {_toml_value(one)}' for key, one in value.items())} }}"
    if isinstance(value, list):
        return f"[{', '.join(map(_toml_value, value))}]"
    return repr(value)
