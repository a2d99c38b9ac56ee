"""The CUDA build: every architecture compiles, nothing spills, nothing is fused, and the file stays small."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from augserver.errors import NotFoundError
from augserver.kernel.cuda import fatbin

ARCHITECTURES = {"sm_75", "sm_80", "sm_86", "sm_89", "sm_90", "sm_100", "sm_120"}


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    try:
        fatbin.find_nvcc()
    except NotFoundError as absent:
        pytest.skip(str(absent))
    file = tmp_path_factory.mktemp("fatbin") / "kernel.fatbin"
    return file, fatbin.build(file)


@pytest.mark.slow
def test_every_kernel_compiles_for_every_architecture_without_spills_or_local_memory(built):
    _, said = built
    compiled = re.findall(r"Compiling entry function '(\w+)' for '(sm_\d+)'", said)
    assert {architecture for _, architecture in compiled} == ARCHITECTURES
    for kernel in ("augment_int16", "augment_float32", "run_stage", "measure_lanes", "measure_strips", "measure_patch"):
        assert {architecture for name, architecture in compiled if name == kernel} == ARCHITECTURES
    frames = re.findall(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", said)
    assert len(frames) == len(compiled)
    assert set(frames) == {("0", "0", "0")}
    assert " bytes lmem" not in said


@pytest.mark.slow
def test_the_file_is_below_350_kb_and_15_kb_for_each_step(built):
    steps = len(list((Path(__file__).resolve().parents[2] / "cuda" / "steps").glob("*.h")))
    assert built[0].stat().st_size < 350_000 + 15_000 * steps


@pytest.mark.slow
def test_no_multiply_and_add_is_fused(built, tmp_path):
    """A fused multiply-add rounds once where the CPU rounds twice: other bits."""
    sources = Path(__file__).resolve().parents[2] / "cuda"
    options = (sources / fatbin.OPTIONS_FILE).read_text().split()
    kept = [option for option in options if option != "-fatbin" and not option.startswith(("-gencode", "--compress", "--resource"))]
    ptx = tmp_path / "kernel.ptx"
    fatbin.write_step_list(sources, tmp_path)
    command = [fatbin.find_nvcc(), *kept, "-I", sources, "-I", tmp_path, "-ptx", "-arch=compute_75", "-o", ptx, sources / "kernel.cu"]
    subprocess.run([str(part) for part in command], check=True, capture_output=True)
    code = ptx.read_text()
    assert code.count("mul.f32") + code.count("mul.rn.f32") > 50
    assert "fma.rn.f32" not in code
    assert "fma.rn.f64" not in code
    assert "approx" not in code
