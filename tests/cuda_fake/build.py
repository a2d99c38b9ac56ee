"""Build the fake driver and the host-compiled kernel; see README.md of this folder.

    python tests/cuda_fake/build.py OUT      -> OUT/libcuda.so.1, OUT/kernels.so

Files that are newer than their sources are kept.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
SOURCES = ("faults.cpp", "stream.cpp", "context.cpp", "memory.cpp", "module.cpp", "texture.cpp")
# The same rounding as nvcc -fmad=false and the CPU module: nothing is fused.
KERNEL_FLAGS = ("-std=c++17", "-O2", "-ffp-contract=off", "-fPIC", "-fvisibility=hidden", "-Wall", "-Wextra", "-Werror")
DRIVER_FLAGS = ("-std=c++17", "-O1", "-fPIC", "-fvisibility=hidden", "-Wall", "-Wextra", "-Werror", "-Wno-deprecated-declarations")


def cuda_headers() -> Path | None:
    """The folder of cuda.h: of CUDA_HOME, or of the toolkit's usual place; None where there is none."""
    folder = Path(os.environ.get("CUDA_HOME", "/usr/local/cuda")) / "include"
    return folder if (folder / "cuda.h").is_file() else None


def build(out: Path, kernels: Path) -> tuple[Path, Path]:
    """Compile what is missing or old.

    Args:
        out: folder for the results, made if absent.
        kernels: folder of kernel.cu and its headers.
    Returns:
        The paths of libcuda.so.1 and kernels.so.
    Raises:
        FileNotFoundError: there is no cuda.h.
        subprocess.CalledProcessError: the compiler refuses.
    """
    headers = cuda_headers()
    if headers is None:
        raise FileNotFoundError("no cuda.h; set CUDA_HOME to a CUDA toolkit")
    out.mkdir(parents=True, exist_ok=True)
    driver, library = out / "libcuda.so.1", out / "kernels.so"
    own = [HERE / "build.py", *HERE.glob("*.cpp"), *HERE.glob("*.h")]
    if _is_old(driver, own):
        _build_driver(driver, headers)
    if _is_old(library, [*own, *kernels.rglob("*.h"), *kernels.glob("*.cu")]):
        subprocess.run([sys.executable, kernels / "list_steps.py", out / "steps"], check=True)
        _run(
            "g++",
            "-shared",
            *KERNEL_FLAGS,
            "-include",
            HERE / "cuda_shim.h",
            f"-I{kernels}",
            f"-I{out / 'steps'}",
            "-x",
            "c++",
            kernels / "kernel.cu",
            "-o",
            library,
            f"-L{out}",
            "-l:libcuda.so.1",
        )
    return driver, library


def _build_driver(driver: Path, headers: Path) -> None:
    objects = []
    for source in SOURCES:
        objects.append(driver.with_name(source + ".o"))
        _run("g++", "-c", *DRIVER_FLAGS, f"-I{headers}", HERE / source, "-o", objects[-1])
    defined = set(re.findall(r"\bT (cu\w+)", _run("nm", *objects)))
    # pycuda refers to names with the suffix that cuda.h's macros give them, so every name of the headers is offered as it stands there.
    text = "".join((headers / name).read_text(encoding="utf-8", errors="replace") for name in ("cuda.h", "cudaProfiler.h"))
    missing = sorted(set(re.findall(r"\bcu[A-Z]\w*", text)) - defined)
    rest = driver.with_name("unsupported.c")
    rest.write_text("".join(f"int {name}(void) {{ return 801; }}\n" for name in missing))  # CUDA_ERROR_NOT_SUPPORTED
    _run("gcc", "-w", "-c", "-fPIC", rest, "-o", rest.with_suffix(".o"))
    _run("g++", "-shared", "-Wl,-soname,libcuda.so.1", "-o", driver, *objects, rest.with_suffix(".o"), "-lpthread", "-ldl")


def _is_old(result: Path, sources: list[Path]) -> bool:
    return not result.exists() or any(source.stat().st_mtime > result.stat().st_mtime for source in sources)


def _run(*command: str | Path) -> str:
    return subprocess.run([str(part) for part in command], check=True, capture_output=True, text=True).stdout


if __name__ == "__main__":
    print(*build(Path(sys.argv[1]), HERE.parent.parent / "cuda"), sep="\n")
