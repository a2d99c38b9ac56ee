"""Write this machine's settings of pip into one file, and print the paths that they name: what a build elsewhere has to mount.

python pip_settings.py OUT
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path


def read_settings() -> dict[str, str]:
    """Of all files and of the environment, which wins, as pip does it."""
    listed = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True).stdout
    settings = {}
    for line in sorted(listed.splitlines(), key=lambda line: line.startswith(":env:")):
        name, _, value = line.partition("=")
        settings[name.rpartition(".")[2]] = str(ast.literal_eval(value))
    return settings


def paths_in(value: str) -> Iterator[Path]:
    """The files and folders that a setting names; of an index the folder above it, as its pages link to files beside it."""
    for word in value.split():
        is_url = word.startswith("file:")
        path = Path(re.sub(r"^file:(//(localhost)?)?", "", word))
        if path.is_absolute() and path.exists():
            yield path.parent if is_url and path.is_dir() else path


def main() -> None:
    settings = read_settings()
    indented = {name: value.strip().replace("\n", "\n    ") for name, value in settings.items()}
    Path(sys.argv[1]).write_text("[global]\n" + "".join(f"{name} = {value}\n" for name, value in indented.items()))
    for path in sorted({path for value in settings.values() for path in paths_in(value)}):
        print(path)


if __name__ == "__main__":
    main()
