"""Importing the client chooses gRPC's engine, and leaves no variable behind; who has chosen already is left alone."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

SHOW = "import os; print(os.environ.get('GRPC_EXPERIMENTS'))"
# as augclient finds the variable when gRPC is imported
SPY = (
    "import builtins, os, sys\n"
    "real, seen = builtins.__import__, []\n"
    "def spy(name, *rest):\n"
    "    if name == 'grpc' and not seen: seen.append(os.environ.get('GRPC_EXPERIMENTS'))\n"
    "    return real(name, *rest)\n"
    "builtins.__import__ = spy\n"
    "import augclient\n"
    "print(seen[0])\n"
)


@pytest.mark.parametrize(
    ("given", "seen", "after"),
    [(None, "-event_engine_client", "None"), ("", "", ""), ("-x", "-x", "-x")],
)
def test_the_variable_is_set_for_the_import_alone_and_only_where_nobody_set_it(given: str | None, seen: str, after: str) -> None:
    environment = {key: value for key, value in os.environ.items() if key != "GRPC_EXPERIMENTS"}
    environment |= {} if given is None else {"GRPC_EXPERIMENTS": given}
    done = subprocess.run([sys.executable, "-P", "-c", SPY + SHOW], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.split("\n")[:2] == [seen, after]


def test_a_program_that_imported_grpc_before_is_left_alone() -> None:
    environment = {key: value for key, value in os.environ.items() if key != "GRPC_EXPERIMENTS"}
    code = "import grpc, os\nos.environ.__class__.__setitem__ = None\nimport augclient\nprint('kept')"
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout == "kept\n"
