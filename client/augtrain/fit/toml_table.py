"""Read a TOML table into a frozen dataclass: every key is known, every value of its field's type."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from augclient.errors import ConfigError
from augclient.nearest import did_you_mean

T = TypeVar("T")

_READERS: dict[Any, tuple[str, Callable[[Any], bool]]] = {
    bool: ("true or false", lambda value: isinstance(value, bool)),
    int: ("a whole number", lambda value: isinstance(value, int) and not isinstance(value, bool)),
    float: ("a number", lambda value: isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)),
    str: ("a text in quotes", lambda value: isinstance(value, str)),
}


def read_table(kind: type[T], table: Mapping[str, Any], where: str) -> T:
    """The dataclass `kind` with the table's values; keys that are absent keep the dataclass's defaults.

    Args:
        kind: a dataclass whose fields are bool, int, float, str, tuples of one of these, or one of them or None.
        table: what the TOML file has there, its keys checked.
        where: its name, for messages.
    Raises:
        ConfigError: a value of another type; and what `kind` itself refuses.
    """
    hints = get_type_hints(kind)
    return kind(**{key: read_value(value, hints[key], f"{where}.{key}") for key, value in table.items()})


def check_keys(table: Mapping[str, Any], known: Collection[str], where: str) -> None:
    """Refuse keys that are not known; ConfigError names the nearest one."""
    for key in table:
        if key not in known:
            raise ConfigError(f"unknown key {f'{where}.{key}' if where else key!r}{name_nearest(key, known)}")


def name_nearest(got: str, known: Collection[str]) -> str:
    """The end of a message on an unknown name: the nearest one, and all of them."""
    return f"; {did_you_mean(got, known)}allowed: {', '.join(sorted(known))}"


def read_value(value: object, hint: Any, where: str) -> Any:
    """The value as the type of a dataclass field has it; ConfigError where it is of another one."""
    if get_origin(hint) is tuple:
        if not isinstance(value, list | tuple):
            raise ConfigError(f"{where}: got {value!r}; allowed: a list in brackets")
        return tuple(read_value(each, get_args(hint)[0], where) for each in value)
    options = [each for each in get_args(hint) if each is not type(None)] or [hint]
    if len(options) == 1 and options[0] not in _READERS:
        return read_value(value, options[0], where)
    for option in options:
        if _READERS[option][1](value):
            return option(value)
    raise ConfigError(f"{where}: got {value!r}; allowed: {' or '.join(_READERS[option][0] for option in options)}")
