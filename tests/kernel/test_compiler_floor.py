"""A compiler that is too old is told in one sentence when the build is set up, and the documents name the same floor."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from augserver.cli.doctor import host_findings

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def old_compiler(tmp_path: Path) -> Path:
    """g++ without what GCC 11 lacks."""
    script = tmp_path / "g++-old"
    script.write_text("#!/bin/sh\nexec g++ '-D__builtin_shufflevector(...)=not_declared_in_this_scope' \"$@\"\n")
    script.chmod(0o755)
    return script


@pytest.mark.slow
def test_a_compiler_that_is_too_old_is_one_sentence_at_configure_time(old_compiler: Path, tmp_path: Path) -> None:
    if shutil.which("cmake") is None:
        pytest.skip("cmake is not here; apt-get install cmake")
    command = ["cmake", "-S", ROOT / "cuda", "-B", tmp_path / "build", f"-DCMAKE_CXX_COMPILER={old_compiler}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode != 0
    [said] = re.findall(r"CMake Error at .*?:\d+ \(message\):\n(.*?)\n\n", done.stderr, re.DOTALL)
    version = subprocess.run(["g++", "-dumpfullversion"], capture_output=True, text=True, check=True).stdout.strip()
    sentence = " ".join(said.split())
    assert sentence.startswith(f"augserver needs GCC 12 or newer, or clang 19 or newer, and {old_compiler} is GNU {version}: ")
    assert sentence.endswith("with CXX=g++-12.")
    assert "shufflevector" not in done.stderr


def test_the_readme_and_the_doctor_name_the_floor_that_cmake_does() -> None:
    floors = {
        tuple(re.search(pattern, path.read_text()).groups())  # type: ignore[union-attr]
        for path, pattern in {
            ROOT / "cuda" / "CMakeLists.txt": r"needs GCC (\d+) or newer, or clang (\d+) or newer",
            ROOT / "README.md": r"Needs .* GCC (\d+) or clang (\d+) or newer",
            Path(host_findings.__file__): r"with GCC (\d+) or clang (\d+) or newer",
        }.items()
    }
    assert floors == {("12", "19")}
