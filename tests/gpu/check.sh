#!/usr/bin/env bash
# One command that checks augserver on a card: builds what is missing, compares bytes with the CPU, looks for memory errors, measures.
#
#   tests/gpu/check.sh [--wheels DIR] [--no-bench] [--dry-run]
#
# It ends with 0 only if everything that it could run passed, and appends a dated table to tests/benchmarks/RESULTS.md.
# --wheels DIR   folder of wheels for a machine that can download nothing (default: ../shared/gpu_wheels beside the repository).
# --dry-run      on the fake driver (tests/cuda_fake), to check this script itself: measures nothing and writes nothing.
#
# Needs: Linux, an NVIDIA driver, Python 3.11 or newer ($PYTHON) with numpy, scipy, pytest, hypothesis, grpcio and protobuf; g++.
# Installed augserver is used where it is; else the repository, whose CPU kernel is built by cmake and nanobind.
# Where nothing can be downloaded bring, for the machine's Python (`pip download --only-binary=:all:` makes most of them):
#   pycuda (tests/cuda_fake/build_pycuda.sh makes the wheel on any machine with a CUDA toolkit), pytools, platformdirs, mako,
#   markupsafe, siphash24, typing_extensions; and nanobind if it is not there. Without nvcc bring kernel.fatbin of
#   `augserver build-kernels --out build/gpu_check/kernel.fatbin`.
# The service's suites need augserver's other requirements too (pyproject.toml); without them only the kernel's run, and this is said.
# Peers are measured where they are installed: torch, monai, cupy. compute-sanitizer and ncu run where the toolkit has them.
set -euo pipefail
cd "$(dirname "$0")/../.."

python=${PYTHON:-python3}
wheels=../shared/gpu_wheels
bench=yes
dry=
while [ $# -gt 0 ]; do
    case $1 in
        --wheels) wheels=$2; shift ;;
        --no-bench) bench= ;;
        --dry-run) dry=yes ;;
        *) echo "check.sh: unknown option $1" >&2; exit 2 ;;
    esac
    shift
done

out=$PWD/build/gpu_check
mkdir -p "$out"
export PYTHONUNBUFFERED=1 PYTHONSAFEPATH=1 AUGSERVER_GPU_CHECK=1
"$python" -c 'import augserver.kernel.cpu' 2>/dev/null || export PYTHONPATH="$PWD:$PWD/client:${PYTHONPATH:-}"
failed=

step() { # NAME COMMAND...
    local name=$1
    shift
    echo "== $name"
    if ! "$@"; then
        echo "== $name: FAILED" >&2
        failed="$failed $name"
    fi
}

build_cpu_kernel() {
    "$python" -c 'import augserver.kernel.cpu' 2>/dev/null && return
    cmake -S cuda -B "$out/cpu" -DPython_EXECUTABLE="$(command -v "$python")" >/dev/null
    cmake --build "$out/cpu" --target in_place --parallel >/dev/null
}

find_pycuda() {
    "$python" -c 'import pycuda' 2>/dev/null && return
    local site=$out/pycuda
    if ! [ -d "$site/site" ]; then
        local tag wheel=
        tag=$("$python" -c 'import sys; print(f"cp{sys.version_info.major}{sys.version_info.minor}")')
        [ -d "$wheels" ] && wheel=$(find "$wheels" -name "pycuda-*-$tag-*.whl" | head -n 1)
        if [ -n "$wheel" ]; then
            # The others lie beside it; pip asks no index where every requirement is found there.
            PIP_NO_INDEX=1 tests/cuda_fake/build_pycuda.sh "$python" "$site" "$wheel"
        else
            tests/cuda_fake/build_pycuda.sh "$python" "$site"
        fi
    fi
    export PYTHONPATH="${PYTHONPATH:+$PYTHONPATH:}$site/site"
    "$python" -c 'import pycuda'
}

build_fatbin() {
    if [ -n "$dry" ] && [ -n "${FAKE_CUDA_FATBIN:-}" ]; then # compiled already by the tests that run this
        export AUGSERVER_FATBIN=$FAKE_CUDA_FATBIN
        return
    fi
    export AUGSERVER_FATBIN=$out/kernel.fatbin
    "$python" - "$AUGSERVER_FATBIN" <<'PYTHON'
import sys
from pathlib import Path

from augserver.errors import NotFoundError
from augserver.kernel.cuda import fatbin

out = Path(sys.argv[1])
try:
    said = fatbin.build(out)
    print(f"{out.stat().st_size} bytes; spills: {said.count('bytes spill stores') - said.count(' 0 bytes spill stores')}")
except NotFoundError as error:
    if not out.exists():
        raise SystemExit(f"{error}; or bring {out}") from error
    print(f"taking {out} as it is: {error}")
PYTHON
}

sanitize() { # TOOL
    compute-sanitizer --tool "$1" --error-exitcode 1 "$python" tests/gpu/sanitize_case.py
}

suite() { # PYTEST ARGUMENTS; the project's own pytest settings name plugins that a bare machine may lack
    "$python" -m pytest -q -c /dev/null --rootdir=. -W ignore::pytest.PytestUnknownMarkWarning --import-mode=importlib -p no:cacheprovider "$@"
}

count() { # what the hardware counted of each kernel, for the table; some machines allow that to administrators alone
    rm -f "$out/ncu.csv"
    if ! command -v ncu >/dev/null; then
        echo "== counters: not read, there is no ncu"
        return
    fi
    echo "== counters"
    if ncu --csv --kernel-name regex:augment --metrics "$("$python" tests/gpu/counters.py)" "$python" tests/gpu/profile_case.py >"$out/ncu.log" 2>&1 &&
        ! grep -q ERR_NVGPUCTRPERM "$out/ncu.log"; then
        mv "$out/ncu.log" "$out/ncu.csv"
    elif grep -q ERR_NVGPUCTRPERM "$out/ncu.log"; then
        echo "== counters: not read, this machine does not permit it (ERR_NVGPUCTRPERM)"
    else
        tail -n 20 "$out/ncu.log" >&2
        failed="$failed counters"
    fi
}

step "CPU kernel" build_cpu_kernel
step pycuda find_pycuda
step "CUDA kernels" build_fatbin
if [ -n "$dry" ]; then
    "$python" tests/cuda_fake/build.py "$out/fake" >/dev/null
    export LD_LIBRARY_PATH="$out/fake:${LD_LIBRARY_PATH:-}" FAKE_CUDA_KERNELS=$out/fake/kernels.so
fi
step "same bytes" suite tests/gpu
if [ -z "$dry" ]; then # else tests/cuda_fake/test_suites_on_fake_driver.py does it
    step "the kernel's suites" suite --backend cuda tests/kernel
    if lacking=$("$python" -c 'import click, grpc_health.v1.health, grpc_reflection.v1alpha.reflection, nibabel, rich, SimpleITK, zarr.buffer' 2>&1); then
        step "the service's suites" suite --backend cuda tests/service tests/e2e/test_same_bytes.py tests/e2e/test_replay.py tests/e2e/test_resume.py
    else
        echo "== the service's suites: not run, ${lacking##*$'\n'}"
    fi
fi
if [ -n "$dry" ]; then
    step "every kernel once" "$python" tests/gpu/sanitize_case.py
    step "every kernel as ncu sees it" env AUGSERVER_SHRINK=10 "$python" tests/gpu/profile_case.py
elif command -v compute-sanitizer >/dev/null; then
    step memcheck sanitize memcheck
    step racecheck sanitize racecheck
    step initcheck sanitize initcheck
else
    echo "== memcheck, racecheck, initcheck: not run, there is no compute-sanitizer"
fi
if [ -n "$dry" ]; then
    step bench "$python" tests/gpu/bench_gpu.py --dry-run
elif [ -n "$bench" ] && [ -z "$failed" ]; then
    count
    step bench "$python" tests/gpu/bench_gpu.py --counters "$out/ncu.csv" --write tests/benchmarks/RESULTS.md
fi
if [ -n "$failed" ]; then
    echo "FAILED:$failed" >&2
    exit 1
fi
echo "all passed"
