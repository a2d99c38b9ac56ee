"""What the ids of the label maps are called: from a file, or from the headers of the label maps."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from augclient.errors import ConfigError, NotFoundError

from augtrain.label_map import LabelFile


def read_classes(path: Path) -> dict[int, str]:
    """Class names by id, from a TOML or JSON table id -> name, or from such a table named "classes" within it.

    The card.json that `augtrain fit` writes is such a file.

    Raises:
        NotFoundError: there is no such file.
        ConfigError: it cannot be read or parsed, or an entry is no id from 0 to 65535 with a name.
    """
    if not path.is_file():
        raise NotFoundError(f"--classes: there is no file {path}")
    try:
        text = path.read_text(encoding="utf-8-sig")
        table: Any = json.loads(text) if path.suffix.lower() == ".json" else tomllib.loads(text)
    except (OSError, ValueError) as error:  # both parsers' errors are ValueErrors
        raise ConfigError(f"--classes {path.name}: is no readable TOML or JSON: {error}") from error
    table = table.get("classes", table) if isinstance(table, dict) else table
    if not isinstance(table, dict) or not table:
        raise ConfigError(f'--classes {path.name}: must hold a table id -> name, such as 1 = "liver"')
    for key, name in table.items():
        if not (key.isascii() and key.isdigit() and int(key) <= 65535) or not isinstance(name, str) or not name.strip():
            raise ConfigError(f"--classes {path.name}: {key!r} = {name!r} is no id from 0 to 65535 with a name")
    return {int(key): name.strip() for key, name in table.items()}


def classes_of(files: Iterable[LabelFile]) -> dict[int, str] | None:
    """The classes that the headers name, taken together; None where none names any.

    Raises:
        ConfigError: two files give one id different names, so they were not made for the same classes.
    """
    named: dict[int, tuple[str, Path]] = {}
    for file in files:
        for class_id, name in (file.classes or {}).items():
            other, path = named.setdefault(class_id, (name, file.path))
            if other != name:
                raise ConfigError(
                    f"class {class_id} is {other!r} in {path} and {name!r} in {file.path}; scores of the two as one class mean nothing; "
                    "if they are the same, name the classes with --classes"
                )
    return {class_id: name for class_id, (name, _) in sorted(named.items())} or None
