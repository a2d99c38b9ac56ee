"""Tests on a card: skipped where the backend "cuda" does not open. `check.sh` runs them, on a card or, dry, on the fake driver."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from augserver.config import CudaConfig
from augserver.errors import BackendError
from augserver.kernel import Backend, open_backend

KERNEL_TESTS = Path(__file__).resolve().parent.parent / "kernel"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(item.fspath).parent == Path(__file__).parent:
            item.add_marker(pytest.mark.gpu)


@pytest.fixture(scope="session")
def gpu(cuda_config: CudaConfig) -> Iterator[Backend]:
    try:
        backend = open_backend("cuda", cuda=cuda_config)
    except BackendError as error:
        if os.environ.get("AUGSERVER_GPU_CHECK"):
            raise  # check.sh was asked for a card: no card is a failure
        pytest.skip(str(error))
    yield backend
    backend.close()


@pytest.fixture(scope="session")
def cpu() -> Iterator[Backend]:
    backend = open_backend("cpu")
    yield backend
    backend.close()


@pytest.fixture(scope="session")
def make_case() -> Callable[[int], Any]:
    """The kernel tests' random configurations."""
    make: Callable[[int], Any] = _load("conftest").random_case
    return make


@pytest.fixture(scope="session")
def step_programs() -> Any:
    """The kernel tests' module of that name."""
    return _load("step_programs")


def _load(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(f"kernel_tests_{name}", KERNEL_TESTS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # dataclasses look their module up by name
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
