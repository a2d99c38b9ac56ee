"""Failures of building and finding the compiled CUDA kernels, and that nobody loads CUDA unasked."""

from __future__ import annotations

import subprocess
import sys

import pytest

from augserver.errors import BackendError
from augserver.kernel import fatbin


def test_a_compiler_that_fails_leaves_the_old_kernels(tmp_path):
    out = tmp_path / "kernel.fatbin"
    out.write_bytes(b"old")
    broken = tmp_path / "nvcc"
    broken.write_text("#!/bin/sh\necho no such architecture\nexit 1\n")
    broken.chmod(0o755)
    with pytest.raises(BackendError, match="no such architecture"):
        fatbin.build(out, nvcc=broken)
    assert out.read_bytes() == b"old"
    assert {path.name for path in tmp_path.iterdir()} == {"kernel.fatbin", "nvcc"}


def test_kernels_that_are_missing_name_the_command_that_makes_them(tmp_path):
    with pytest.raises(BackendError, match="augserver build-kernels"):
        fatbin.read(tmp_path / "kernel.fatbin")


def test_augserver_loads_nothing_of_cuda_unless_asked():
    code = (
        "import sys, augserver, augserver.kernel; backend = augserver.kernel.open_backend('cpu', threads=1); backend.close();"
        "print([name for name in sys.modules if 'cuda' in name.replace('cuda_', '').lower() or name.startswith('augserver.kernel.cuda')]);"
        "print([line for line in open('/proc/self/maps') if 'libcuda' in line])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == ["[]", "[]"]
