"""Every file that a comment or a docstring names is there: a move or a new name leaves none of them behind."""

from __future__ import annotations

import ast
import io
import re
import subprocess
import tokenize
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SOURCES = (".py", ".js", ".css", ".h", ".cpp", ".cu", ".sh", ".yaml", ".toml", ".proto")
# A name alone may be one of the user's files or of the system's, where it is not one of a program.
NAMED = re.compile(
    r"(?<![\w/.:*{-])((?:[\w.-]+/)+[\w-]+\.(?:py|js|css|cpp|cu|sh|html|h|md|toml|txt|yaml|proto)|[\w-]+\.(?:py|js|css|cpp|cu|sh))\b(?![\w/*(])"
)
OTHERS = {"keys/tokens.toml", "Node.js"}


def tracked() -> list[str]:
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode == 0:
        return listed.stdout.splitlines()
    # An archive has no git, and no list of what was built in it.
    return [str(path.relative_to(ROOT)) for path in ROOT.rglob("*.*") if path.relative_to(ROOT).parts[0] not in (".venv", "build", "dist")]


def prose_of(path: Path) -> str:
    """The comments and docstrings of a source."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        comments = [token.string for token in tokenize.generate_tokens(io.StringIO(text).readline) if token.type == tokenize.COMMENT]
        kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
        docstrings = [ast.get_docstring(node) or "" for node in ast.walk(ast.parse(text)) if isinstance(node, kinds)]
        return "\n".join([*comments, *docstrings])
    if path.suffix in (".sh", ".yaml", ".toml"):
        return "\n".join(re.findall(r"(?:^|\s)#.*", text))
    return "\n".join(re.findall(r"//[^\n]*|/\*.*?\*/", text, re.DOTALL))


def absent(prose: str, files: list[str]) -> list[str]:
    return [name for name in NAMED.findall(prose) if name not in OTHERS and not any(f"/{file}".endswith(f"/{name}") for file in files)]


def test_every_file_that_a_comment_names_is_there() -> None:
    files = tracked()
    sources = [file for file in files if file.endswith(SOURCES) and "_pb2" not in file and (ROOT / file).is_file()]
    assert len(sources) > 400
    found = {file: absent(prose_of(ROOT / file), files) for file in sources}
    assert {file: names for file, names in found.items() if names} == {}


def test_the_rule_itself() -> None:
    files = ["augserver/kernel/cuda/backend.py", "cuda/voxel.h", "tests/gpu/check.sh"]
    prose = "see voxel.h, backend.py, cuda/backend.py, tests/gpu/check.sh and cuda.h; not kernel/cuda_backend.py, check.py or cuda/old.h"
    assert absent(prose, files) == ["kernel/cuda_backend.py", "check.py", "cuda/old.h"]
