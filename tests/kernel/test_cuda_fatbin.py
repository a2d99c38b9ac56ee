"""Failures of building and finding the compiled CUDA kernels, and that nobody loads CUDA unasked."""

from __future__ import annotations

import subprocess
import sys

import pytest
from click.testing import CliRunner

from augserver.cli.build_kernels import build_kernels
from augserver.errors import BackendError
from augserver.kernel.cuda import fatbin


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


def test_build_kernels_writes_where_it_is_told_and_says_how_a_server_finds_it(tmp_path):
    copying = tmp_path / "nvcc"
    copying.write_text('#!/bin/sh\nwhile [ "$1" != -o ]; do shift; done\nprintf compiled >"$2"\n')
    copying.chmod(0o755)
    out = tmp_path / "folder" / "kernel.fatbin"
    done = CliRunner().invoke(build_kernels, ["--out", str(out), "--nvcc", str(copying)])
    assert done.exit_code == 0, done.output
    assert out.read_text() == "compiled"
    assert f'fatbin = "{out}"' in done.output


def test_kernels_that_are_missing_name_the_command_that_makes_them(tmp_path):
    with pytest.raises(BackendError, match="augserver build-kernels"):
        fatbin.read(tmp_path / "kernel.fatbin")


def test_augserver_loads_nothing_of_cuda_unless_asked():
    code = (
        "import sys, augserver, augserver.kernel; backend = augserver.kernel.open_backend('cpu', threads=1); backend.close();"
        "print([name for name in sys.modules if 'cuda' in name.replace('cuda_', '').lower() or name.startswith('augserver.kernel.cuda')]);"
        "print([line for line in open('/proc/self/maps') if 'libcuda' in line])"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == ["[]", "[]"]
