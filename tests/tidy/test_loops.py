"""A test whose every assert lies in a loop passes if the loop has nothing to go over: it also asserts how many came.

A loop over what is written out in the test needs no such assert: a display that is not empty, a range of numbers, a constant of the module,
a parameter, or a comprehension, product, or strict zip of these.
"""

from __future__ import annotations

import ast
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent.parent
FILES = [path for path in sorted(TESTS.rglob("*.py")) if "benchmarks" not in path.parts]
_KEEP_LENGTH = {"enumerate", "sorted", "list", "tuple", "reversed", "set", "map", "product", "permutations", "items", "keys", "values"}
_NUMBERS = (ast.Constant, ast.UnaryOp, ast.BinOp)


def is_written_out(node: ast.expr, known: set[str]) -> bool:
    """Whether what a loop goes over is certain to hold something."""
    match node:
        case ast.Tuple(elts=elements) | ast.List(elts=elements) | ast.Set(elts=elements):
            return any(not isinstance(each, ast.Starred) or is_written_out(each.value, known) for each in elements)
        case ast.Dict(keys=keys):
            return bool(keys)
        case ast.Constant(value=str(text)):
            return bool(text)
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name in known or name.isupper()
        case (
            ast.ListComp(generators=parts)
            | ast.SetComp(generators=parts)
            | ast.GeneratorExp(generators=parts)
            | ast.DictComp(generators=parts)
        ):
            return all(not part.ifs and is_written_out(part.iter, known) for part in parts)
        case ast.BinOp(left=left, op=ast.Mult()):
            return is_written_out(left, known)
        case ast.Call(func=ast.Name(id="range"), args=args):
            return all(isinstance(each, _NUMBERS) or is_written_out(each, known) for each in args)
        case ast.Call(func=ast.Name(id="zip"), args=args):
            return any(is_written_out(each, known) for each in args)
        case ast.Call(func=ast.Attribute(value=of, attr=name), args=args) if name in _KEEP_LENGTH:
            return all(is_written_out(each, known) for each in args or [of])
        case ast.Call(func=ast.Name(id=name), args=args) if name in _KEEP_LENGTH:
            return all(is_written_out(each, known) for each in args[-1:])
    return False


def asserts(node: ast.AST) -> bool:
    match node:
        case ast.Assert():
            return True
        case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name)):
            return "assert" in name or "check" in name or name in {"raises", "fail"}
    return False


def places_of_asserts(node: ast.AST, known: set[str], *, in_loop: bool = False) -> Iterator[bool]:
    """For each assert, whether it lies in a loop that may have nothing to go over."""
    for child in ast.iter_child_nodes(node):
        within = in_loop
        match child:
            case ast.Assign(targets=[ast.Name(id=name)], value=value) if is_written_out(value, known):
                known.add(name)
            case ast.For(target=target, iter=over):
                if is_written_out(over, known):
                    known |= {each.id for each in ast.walk(target) if isinstance(each, ast.Name)}
                else:
                    within = True
        if asserts(child):
            yield in_loop
        yield from places_of_asserts(child, known, in_loop=within)


def parameters(function: ast.FunctionDef) -> set[str]:
    texts = [each.value for mark in function.decorator_list for each in ast.walk(mark) if isinstance(each, ast.Constant)]
    return {name.strip() for text in texts if isinstance(text, str) for name in text.split(",")}


def passing_on_nothing(source: str) -> list[str]:
    """The tests of a file whose asserts all lie in loops that may have nothing to go over."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            places = list(places_of_asserts(node, parameters(node)))
            if places and all(places):
                found.append(f"{node.lineno} {node.name}")
    return found


def test_no_test_passes_on_nothing() -> None:
    assert len(FILES) > 150
    found = {str(path.relative_to(TESTS)): passing_on_nothing(path.read_text(encoding="utf-8")) for path in FILES}
    assert {name: tests for name, tests in found.items() if tests} == {}, "assert outside of the loop how many came"


def test_no_test_ends_quietly_with_the_shorter_of_two() -> None:
    found = []
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            match node:
                case ast.Call(func=ast.Name(id="zip"), keywords=[ast.keyword(arg="strict", value=ast.Constant(value=False))]):
                    found.append(f"{path.relative_to(TESTS)}:{node.lineno}")
    assert found == [], "zip(strict=True), or take the items one by one"


@pytest.mark.parametrize(
    ("body", "wrong"),
    [
        ("for batch in stream: assert batch.step == 0", True),
        ("for batch, other in zip(stream, wanted, strict=True): assert batch == other", True),
        ("with open_stream() as stream:\n  for k, batch in enumerate(stream):\n    for z in range(3):\n      assert batch[z] == k", True),
        ("for k in range(len(items)): np.testing.assert_array_equal(items[k], 0)", True),
        ("for line in text.splitlines():\n  with pytest.raises(ValueError): read(line)", True),
        ("for batch in stream: assert batch.step == 0\nassert stream.steps == 3", False),
        ("for batch, k in zip(stream, range(3), strict=True): assert batch.step == k", False),
        ("items = [make(k) for k in range(3)]\nfor each in items: assert each", False),
        ("for each in ITEMS.items(): assert each", False),
        ("for each in (*rows, 1): assert each", False),
        ("for each in rows: print(each)", False),
        ("for each in given: assert each", False),
    ],
)
def test_the_rule_itself(body: str, wrong: bool) -> None:
    source = f"@pytest.mark.parametrize('given', [[1]])\ndef test_it(stream, given):\n{textwrap.indent(body, '  ')}\n"
    assert bool(passing_on_nothing(source)) == wrong
