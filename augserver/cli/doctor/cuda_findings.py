"""What a server on a GPU needs, in the order in which it is needed: driver, device, architecture, pycuda, compiled kernels, memory.

The driver is asked through ctypes, so that it can be judged where pycuda is missing; the last step opens the backend as a server does.
"""

from __future__ import annotations

import ctypes
import importlib
import importlib.metadata
from collections.abc import Generator, Iterator
from dataclasses import replace
from typing import Any

from augserver.cli.doctor.finding import Finding, bad, good
from augserver.config import CudaConfig
from augserver.errors import AugError, NotFoundError
from augserver.kernel.cuda import driver as cuda_driver
from augserver.kernel.cuda import fatbin

OLDEST = (7, 5)  # the oldest architecture that CUDA 13 compiles for
_MAJOR, _MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_*


def cuda_findings() -> Iterator[Finding]:
    """Every step up to a backend that opens; steps that need a missing one are left out."""
    devices = yield from _driver()
    pycuda = _pycuda(driver=devices is not None)
    yield pycuda
    kernels = _fatbin()
    yield kernels
    if not kernels.well:
        yield _nvcc()
    if devices and pycuda.well and kernels.well:
        yield _backend()


def _driver() -> Generator[Finding, None, int | None]:
    """Findings of driver and devices; returns the number of devices, None without a driver."""
    try:
        library = cuda_driver.library()
    except OSError as error:
        step = "install the NVIDIA driver, or give the container the GPU (docker run --gpus all)"
        yield bad("cuda driver", "none", cause=str(error), next_step=step)
        return None
    if code := library.cuInit(0):
        step = "`nvidia-smi` shows whether the driver works; in a container check that the device is passed in"
        yield bad("cuda driver", "does not start", cause=cuda_driver.error_text(code), next_step=step)
        return None
    version, count = ctypes.c_int(), ctypes.c_int()
    library.cuDriverGetVersion(ctypes.byref(version))
    yield good("cuda driver", f"for CUDA {version.value // 1000}.{version.value % 1000 // 10}")
    library.cuDeviceGetCount(ctypes.byref(count))
    if count.value == 0:
        yield bad(
            "cuda devices",
            "none",
            cause="the driver shows this process no device",
            next_step="check CUDA_VISIBLE_DEVICES, and `nvidia-smi`",
        )
    for ordinal in range(count.value):
        yield _device(library, ordinal)
    return count.value


def _device(library: Any, ordinal: int) -> Finding:
    device, major, minor, size = ctypes.c_int(), ctypes.c_int(), ctypes.c_int(), ctypes.c_size_t()
    name = ctypes.create_string_buffer(256)
    library.cuDeviceGet(ctypes.byref(device), ordinal)
    library.cuDeviceGetName(name, len(name), device)
    library.cuDeviceGetAttribute(ctypes.byref(major), _MAJOR, device)
    library.cuDeviceGetAttribute(ctypes.byref(minor), _MINOR, device)
    library.cuDeviceTotalMem_v2(ctypes.byref(size), device)
    check = f"cuda device {ordinal}"
    found = f"{name.value.decode(errors='replace')}, compute capability {major.value}.{minor.value}, {size.value / 1e9:.1f} GB"
    if (major.value, minor.value) < OLDEST:
        cause = f"the kernels are compiled for {OLDEST[0]}.{OLDEST[1]} and newer"
        return bad(check, found, cause=cause, next_step="name another device in cuda.devices, or serve with --backend cpu")
    return good(check, found)


def _pycuda(*, driver: bool) -> Finding:
    try:
        version = importlib.metadata.version("pycuda")
    except importlib.metadata.PackageNotFoundError as error:
        step = 'pip install "augserver[cuda]", which compiles it: CUDA_HOME must name a toolkit with cuda.h, and g++ be there'
        return bad("pycuda", "not installed", cause=str(error), next_step=step)
    if driver:
        try:
            importlib.import_module("pycuda.driver")
        except ImportError as error:
            step = "build it anew for this Python: pip install --force-reinstall --no-binary :all: --no-deps pycuda"
            return bad("pycuda", f"version {version} does not load", cause=str(error), next_step=step)
    return good("pycuda", f"version {version}")


def _fatbin() -> Finding:
    try:
        size = len(fatbin.read())
    except AugError as error:
        return bad("cuda kernels", "not compiled", cause=str(error), next_step="run `augserver build-kernels` where nvcc is")
    return good("cuda kernels", f"{size / 1000:.0f} kB at {fatbin.FATBIN.name}")


def _nvcc() -> Finding:
    try:
        return good("nvcc", str(fatbin.find_nvcc()))
    except NotFoundError as error:
        step = "install the CUDA toolkit, or copy kernel.fatbin from a machine that has it and name it in cuda.fatbin"
        return bad("nvcc", "none", cause=str(error), next_step=step)


def _backend() -> Finding:
    from augserver.kernel import open_backend

    try:
        backend = open_backend("cuda", cuda=replace(CudaConfig(), devices="all"))
    except AugError as error:
        step = "the cause says how; `augserver serve --backend cpu` works without"
        return bad("cuda backend", "does not open", cause=str(error), next_step=step)
    description = backend.description
    backend.close()
    return good("cuda backend", description)
