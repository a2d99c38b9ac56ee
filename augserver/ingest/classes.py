"""Read class names from a file: TOML, JSON or CSV, id -> name."""

from __future__ import annotations

import csv
import io
import json
import tomllib
from pathlib import Path
from typing import Any

from augserver.errors import ConfigError


def read_classes(path: Path) -> dict[int, str]:
    """Class names by label id.

    TOML and JSON hold one table, id -> name; a table "classes" at the top is taken if there is one. CSV has the columns id and name,
    with or without that header. Names may stand for ids that no label has.

    Raises:
        ConfigError: the file cannot be read or parsed, an id is not 0..255, or a name or id is empty or repeated.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        pairs = _PARSERS[path.suffix.lower()](text)
    except KeyError:
        raise ConfigError(f"--classes {path.name}: suffix {path.suffix!r} is not known; allowed: {', '.join(_PARSERS)}") from None
    except (OSError, ValueError) as error:  # both parsers' errors are ValueErrors
        raise ConfigError(f"--classes {path.name}: cannot be read: {error}") from error
    classes: dict[int, str] = {}
    for key, name in pairs:
        if not key.strip().isascii() or not key.strip().isdigit() or int(key) > 255:
            raise ConfigError(f"--classes {path.name}: id {key!r} is not a whole number 0 to 255; each entry is id -> name")
        if not isinstance(name, str) or not name.strip():
            raise ConfigError(f"--classes {path.name}: the name of id {key} is {name!r}, must be text")
        if int(key) in classes:
            raise ConfigError(f"--classes {path.name}: id {int(key)} is there twice")
        if name.strip() in classes.values():
            first = next(known for known, other in classes.items() if other == name.strip())
            raise ConfigError(
                f"--classes {path.name}: ids {first} and {int(key)} are both called {name.strip()!r}; names must differ: to join two "
                "classes, renumber them in the labels"
            )
        classes[int(key)] = name.strip()
    return classes


def _table(table: Any) -> list[tuple[str, Any]]:
    inner = table.get("classes", table) if isinstance(table, dict) else None
    if not isinstance(inner, dict):
        raise ValueError("expected one table, id -> name")
    return list(inner.items())


def _rows(text: str) -> list[tuple[str, Any]]:
    rows = [row for row in csv.reader(io.StringIO(text, newline=""), skipinitialspace=True) if row]
    if rows and [cell.strip().lower() for cell in rows[0]] == ["id", "name"]:
        rows = rows[1:]
    for row in rows:
        if len(row) != 2:
            raise ValueError(f"expected two columns, id and name, got {row}")
    return [(row[0], row[1]) for row in rows]


_PARSERS = {".toml": lambda text: _table(tomllib.loads(text)), ".json": lambda text: _table(json.loads(text)), ".csv": _rows}
