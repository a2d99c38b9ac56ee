"""Compile the CUDA kernel ahead of time, for every architecture at once, and find the result.

Nothing is compiled at run time: a machine with a card needs no nvcc. The package build compiles where nvcc is; elsewhere
`augserver build-kernels` does, or the file is copied from such a machine.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from augserver.errors import BackendError, NotFoundError

FATBIN = Path(__file__).with_name("kernel.fatbin")
# Beside the module in an installed package, in cuda/ of a source tree.
_SOURCE_FOLDERS = (Path(__file__).with_name("cuda_source"), Path(__file__).resolve().parents[3] / "cuda")
OPTIONS_FILE = "nvcc.options"  # flags and architectures; CMake reads the same file


def read(path: Path | None = None) -> bytes:
    """The compiled kernels of `path`, or of the package.

    Raises:
        BackendError: there are none.
    """
    file = path or FATBIN
    try:
        return file.read_bytes()
    except OSError as error:
        raise BackendError(
            f"backend 'cuda': no compiled kernels at {file.name} ({error.strerror}); run `augserver build-kernels` where nvcc is, or name "
            f"such a file in cuda.fatbin"
        ) from error


def find_nvcc() -> Path:
    """nvcc of CUDA_HOME, of the PATH, or of the toolkit's usual place.

    Raises:
        NotFoundError: it is in none of them.
    """
    homes = [os.environ["CUDA_HOME"]] if "CUDA_HOME" in os.environ else ["/usr/local/cuda"]
    found = shutil.which("nvcc", path=os.pathsep.join([*(f"{home}/bin" for home in homes), os.environ.get("PATH", "")]))
    if found is None:
        raise NotFoundError("no nvcc in CUDA_HOME/bin, PATH or /usr/local/cuda/bin; install the CUDA toolkit, 12.8 or newer")
    return Path(found)


def write_step_list(sources: Path, folder: Path) -> None:
    """Write the two headers that list the recipe's steps, for a compiler that is given `folder` to search."""
    subprocess.run([sys.executable, "-P", sources / "list_steps.py", folder], check=True)


def build(out: Path = FATBIN, *, nvcc: Path | None = None) -> str:
    """Compile the kernels.

    Args:
        out: file to write; replaced at once when the compiler has succeeded.
        nvcc: the compiler; None: `find_nvcc`.
    Returns:
        What the compiler said: registers, stack and spills of each kernel and architecture.
    Raises:
        NotFoundError: no nvcc, or no sources.
        BackendError: the compiler refuses, or `out` cannot be written.
    """
    compiler = nvcc or find_nvcc()
    sources = next((folder for folder in _SOURCE_FOLDERS if (folder / "kernel.cu").is_file()), None)
    if sources is None:
        raise NotFoundError(
            "the kernel's sources are neither in the package nor in a source tree; install augserver from its wheel or sdist"
        )
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out.parent) as folder:
            built = Path(folder) / "kernel.fatbin"
            write_step_list(sources, Path(folder))
            command = [compiler, "--options-file", sources / OPTIONS_FILE, "-I", sources, "-I", folder, "-o", built, sources / "kernel.cu"]
            done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
            said = done.stdout + done.stderr
            if done.returncode != 0:
                raise BackendError(
                    f"nvcc cannot compile the kernels (exit {done.returncode}); it needs CUDA 12.8 or newer. It says:\n{said}"
                )
            built.replace(out)
    except OSError as error:
        raise BackendError(f"{out} cannot be written ({error.strerror}); name another file with --out, and in cuda.fatbin") from error
    return said
