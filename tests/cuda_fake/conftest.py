"""The fake driver for tests: built once, used by processes of their own, so that pytest's process loads no libcuda."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parent.parent
BUILD = REPOSITORY / "build"
PYCUDA = BUILD / f"pycuda-{sys.implementation.cache_tag}"

RunScenario = Callable[..., subprocess.CompletedProcess[str]]


def _build_module() -> object:
    spec = importlib.util.spec_from_file_location("cuda_fake_build", HERE / "build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def fake_driver() -> dict[str, str]:
    """Environment of a process that runs on the fake driver; skips, with the reason, where it cannot be built."""
    builder = _build_module()
    if builder.cuda_headers() is None:  # type: ignore[attr-defined]
        pytest.skip("there is no cuda.h to build the fake driver and pycuda with; CUDA_HOME names a CUDA toolkit")
    for tool in ("g++", "nvcc"):
        if shutil.which(tool, path=f"{os.environ.get('CUDA_HOME', '/usr/local/cuda')}/bin:{os.environ.get('PATH', '')}") is None:
            pytest.skip(f"there is no {tool} to build the fake driver, pycuda or the kernels with")
    driver, kernels = builder.build(BUILD / "cuda_fake", REPOSITORY / "cuda")  # type: ignore[attr-defined]
    if not (PYCUDA / "site").is_dir():
        built = subprocess.run([HERE / "build_pycuda.sh", sys.executable, PYCUDA], capture_output=True, text=True, check=False)
        if built.returncode != 0:
            pytest.skip(f"pycuda cannot be built here: {built.stderr[-2000:]}")
    fatbin = BUILD / "cuda_fake" / "kernel.fatbin"
    sources = [*(REPOSITORY / "cuda").rglob("*.h"), *(REPOSITORY / "cuda").glob("*.cu"), REPOSITORY / "cuda" / "nvcc.options"]
    if not fatbin.exists() or any(source.stat().st_mtime > fatbin.stat().st_mtime for source in sources):
        from augserver.kernel.cuda.fatbin import build

        build(fatbin)
    return {
        **os.environ,
        "LD_LIBRARY_PATH": f"{driver.parent}:{os.environ.get('LD_LIBRARY_PATH', '')}",
        "PYTHONPATH": os.pathsep.join([*filter(None, sys.path), str(PYCUDA / "site")]),
        "FAKE_CUDA_KERNELS": str(kernels),
        "FAKE_CUDA_FATBIN": str(fatbin),
        "FAKE_CUDA_MEMORY": str(64 << 20),
    }


@pytest.fixture
def run_scenario(fake_driver: dict[str, str]) -> RunScenario:
    """run_scenario("order", "claim", NAME=value) runs that function of scenarios/order.py in a new process and checks its exit code."""

    def run(script: str, scenario: str, *, expect: int = 0, **environment: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-W", "error", HERE / "scenarios" / f"{script}.py", scenario]
        done = subprocess.run(command, env={**fake_driver, **environment}, capture_output=True, text=True, timeout=100, check=False)
        assert done.returncode == expect, f"{script}.{scenario} ended with {done.returncode}\n{done.stdout[-3000:]}\n{done.stderr[-8000:]}"
        return done

    return run
