"""Continuous integration fails on a skip that tests/allowed_skips.txt does not name."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
SKIPPED = """
import pytest
@pytest.mark.skipif(True, reason="no card here")
def test_marked(): ...
def test_at_run_time(): pytest.skip("no scans; set SCANS")
@pytest.mark.xfail(reason="not yet", strict=True)
def test_expected_to_fail(): assert False
def test_that_runs(): ...
"""
MODULE = 'import pytest\npytest.importorskip("no_such_module_at_all", reason="no such module")\ndef test_never(): ...\n'


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    """A folder `tests` with this repository's conftest.py and two files of tests that skip."""
    folder = tmp_path / "tests"
    folder.mkdir()
    shutil.copy(HERE / "conftest.py", folder)
    (folder / "test_skipped.py").write_text(SKIPPED)
    (folder / "test_module.py").write_text(MODULE)
    return folder


def run(suite: Path, listed: str, *options: str) -> tuple[int, str]:
    (suite / "list.txt").write_text(listed)
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--rootdir", str(suite.parent), *options, str(suite)]
    done = subprocess.run([*command, "--allowed-skips", suite / "list.txt"], cwd=suite.parent, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("options", [(), ("-n", "2")], ids=["one process", "workers"])
def test_a_skip_that_is_not_listed_fails_and_a_listed_one_does_not(suite: Path, options: tuple[str, ...]) -> None:
    allowed = "test_skipped.py | no card | there is none\n* | no scans | they are elsewhere   # of everybody\n\n"
    code, said = run(suite, allowed, *options)
    assert code == pytest.ExitCode.TESTS_FAILED, said
    assert "tests/test_module.py: no such module" in said.rpartition("does not allow")[2]
    assert "no card" not in said.rpartition("does not allow")[2]
    code, said = run(suite, allowed + "test_module.py | no such module | it is of another world\n", *options)
    assert (code, "does not allow" in said) == (pytest.ExitCode.OK, False), said


@pytest.mark.slow
def test_a_list_of_another_file_or_reason_or_without_a_why_is_no_leave(suite: Path) -> None:
    for listed in ("test_other.py | no | x\n", "test_skipped.py | absent card | x\n"):
        code, said = run(suite, listed)
        assert code == pytest.ExitCode.TESTS_FAILED
        for node, reason in (("test_marked", "no card here"), ("test_at_run_time", "no scans; set SCANS")):
            assert f"tests/test_skipped.py::{node}: {reason}" in said
    for listed in ("test_skipped.py | no card |\n", "test_skipped.py | no card\n"):
        code, said = run(suite, listed)
        assert (code, "why the skip is allowed" in said) == (pytest.ExitCode.USAGE_ERROR, True)


def test_the_list_names_files_that_exist() -> None:
    lines = [line for line in (HERE / "allowed_skips.txt").read_text().splitlines() if line and not line.startswith("#")]
    assert len(lines) > 3
    for line in lines:
        pattern = line.split("|")[0].strip()
        assert any(HERE.glob(pattern)), line
