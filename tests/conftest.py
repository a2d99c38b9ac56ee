"""Fixtures that every test folder shares, and the choice of the backend under test.

pytest --backend cuda tests/kernel tests/service tests/e2e      the same suites on a GPU; tests/gpu/check.sh runs them
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from augserver.config import CudaConfig

REPOSITORY = Path(__file__).resolve().parent.parent
MIB = 1 << 20


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--backend", choices=("cpu", "cuda"), default="cpu", help="what computes the samples in tests of any backend")


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
