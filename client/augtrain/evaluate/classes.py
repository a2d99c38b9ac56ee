"""What the ids of the label maps are called: from a file, or from the headers of the label maps."""

from __future__ import annotations

import json
import tomllib
from collections import Counter
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


class CommonNames:
    """What the headers of all files together call the classes: each id as most of them do, the first of several that are equally common.

    Attributes:
        classes: id -> name; empty where no header names any.
    """

    def __init__(self, files: Iterable[LabelFile]) -> None:
        named: dict[int, Counter[str]] = {}
        self._first: dict[tuple[int, str], Path] = {}
        for file in files:
            for class_id, name in (file.classes or {}).items():
                named.setdefault(class_id, Counter())[name] += 1
                self._first.setdefault((class_id, name), file.path)
        self.classes = {class_id: counts.most_common(1)[0][0] for class_id, counts in sorted(named.items())}

    def check(self, files: Iterable[LabelFile]) -> None:
        """Refuse files that were not made for these classes: scores of two organs as one class mean nothing.

        Raises:
            ConfigError: one calls an id otherwise.
        """
        for file in files:
            for class_id, name in (file.classes or {}).items():
                common = self.classes[class_id]
                if name != common:
                    raise ConfigError(
                        f"class {class_id} is {name!r} in {file.path} and {common!r} in {self._first[class_id, common]}; scores of the two "
                        "as one class mean nothing; if they are the same, name the classes with --classes"
                    )
