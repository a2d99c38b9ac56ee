"""An exit code means one thing: reports on many scans have theirs, and errors and wrong options have others."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any

import augclient.errors
import augtrain.cli
import pytest
from augclient.contract import EXIT_NOTHING_USABLE, EXIT_SOME_REFUSED
from augclient.errors import AugError, RequestError

import augserver.cli
from augserver.backends import EXIT_DEVICE_LOST

CLASSES = {each.__name__: each for _, each in inspect.getmembers(augclient.errors, inspect.isclass) if issubclass(each, AugError)}
COMMANDS = [(program, name) for program in (augserver.cli, augtrain.cli) for name in ("", *program._COMMANDS)]


def test_the_drawing_of_the_tree_has_every_class_with_its_status_and_exit_code() -> None:
    drawn = re.findall(r"(\w+Error) +([A-Z_]+) +(?:exit )?(\d+)", augclient.errors.__doc__ or "")
    assert {name: (status, int(code)) for name, status, code in drawn} == {
        name: (each.status.name, each.exit_code) for name, each in CLASSES.items()
    }


def test_no_error_ends_with_the_code_of_a_report() -> None:
    codes = {each.exit_code for each in CLASSES.values()}
    assert len(codes) > 8
    assert not codes & {0, EXIT_NOTHING_USABLE, EXIT_SOME_REFUSED, EXIT_DEVICE_LOST}


@pytest.mark.parametrize(("program", "name"), COMMANDS, ids=[f"{program.__name__} {name}" for program, name in COMMANDS])
@pytest.mark.parametrize(
    "arguments", [["--no-such-option"], ["--out"]], ids=["an unknown option", "an option that lacks its value or is unknown"]
)
def test_an_option_that_a_command_does_not_know_is_no_report(
    program: Any, name: str, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    run: Callable[[list[str]], None] = program.main
    with pytest.raises(SystemExit) as stop:
        run([*filter(None, [name]), *arguments])
    assert stop.value.code == RequestError.exit_code
    assert "Error: " in capsys.readouterr().err
