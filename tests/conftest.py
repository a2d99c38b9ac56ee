"""Fixtures that every test folder shares, the choice of the backend under test, and the list of skips that are allowed.

pytest --backend cuda tests/kernel tests/service tests/e2e      the same suites on a GPU; tests/gpu/check.sh runs them
pytest --allowed-skips tests/allowed_skips.txt                  fails if a test is skipped that the file does not name; .ci/run does so
"""

from __future__ import annotations

import fnmatch
import os
import signal
from pathlib import Path
from typing import NamedTuple

import pytest

from augserver.config import CudaConfig

REPOSITORY = Path(__file__).resolve().parent.parent
MIB = 1 << 20


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--backend", choices=("cpu", "cuda"), default="cpu", help="what computes the samples in tests of any backend")
    parser.addoption("--allowed-skips", type=Path, metavar="FILE", help="fail if a test is skipped for a reason that FILE does not name")


class AllowedSkip(NamedTuple):
    """A line of the list: skips of the files that match `files`, whose reason begins with `reason`."""

    files: str
    reason: str
    why: str

    def covers(self, file: str, reason: str) -> bool:
        return fnmatch.fnmatchcase(file, self.files) and reason.startswith(self.reason)


class SkipWatch:
    """Fails the session if a test is skipped for a reason that the list does not name."""

    def __init__(self, listed: Path) -> None:
        lines = (line.split("#", 1)[0].strip() for line in listed.read_text(encoding="utf-8").splitlines())
        self._listed = listed
        parts = [[part.strip() for part in line.split("|")] for line in lines if line]
        if any(len(each) != len(AllowedSkip._fields) or not all(each) for each in parts):
            raise pytest.UsageError(f"{listed}: each line needs a file, a reason and why the skip is allowed, apart by |")
        self._allowed = [AllowedSkip(*each) for each in parts]
        self._others: set[str] = set()  # a module's own skip comes from every worker

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._look_at(report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        self._look_at(report)

    def _look_at(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        if not report.skipped or hasattr(report, "wasxfail"):
            return
        reason = str(report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr).removeprefix("Skipped: ")
        file = report.nodeid.partition("::")[0].removeprefix("tests/")
        if not any(allowed.covers(file, reason) for allowed in self._allowed):
            self._others.add(f"{report.nodeid}: {reason}")

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self._others and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self._others:
            terminalreporter.section(f"skips that {self._listed} does not allow", red=True)
            for other in sorted(self._others):
                terminalreporter.line(other)


def pytest_configure(config: pytest.Config) -> None:
    # A shell starts what it puts in the background (`make test &`) with Ctrl-C ignored, and every child would inherit that.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    listed = config.getoption("--allowed-skips")
    if listed is not None and not hasattr(config, "workerinput"):  # workers of pytest-xdist send their reports to the one process
        config.pluginmanager.register(SkipWatch(listed))


@pytest.fixture(scope="session")
def backend_name(request: pytest.FixtureRequest) -> str:
    """ "cpu" or "cuda"."""
    name: str = request.config.getoption("--backend")
    return name


@pytest.fixture(scope="session")
def cuda_config() -> CudaConfig:
    """Sizes that any card has several times; AUGSERVER_FATBIN names kernels that are not the package's."""
    return CudaConfig(fatbin=os.environ.get("AUGSERVER_FATBIN", ""), slot_bytes=32 * MIB, volume_bytes=16 * MIB, texture_bytes=16 * MIB)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real scans that lies beside the repository; skips where it is absent."""
    folder = Path(os.environ.get("AUGSERVER_SHARED_DATA", REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip("the real scans of shared/data are not here; set AUGSERVER_SHARED_DATA to their folder")
    return folder


@pytest.fixture(scope="session")
def shared_cases(shared_data: Path) -> Path:
    """The folder of odd and broken inputs beside the real scans, one folder a case with a README; skips where it is absent."""
    folder = shared_data.parent / "cases" / "ingest"
    if not folder.is_dir():
        pytest.skip("the cases of ../shared are not here")
    return folder
