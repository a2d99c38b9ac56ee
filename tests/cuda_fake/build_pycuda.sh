#!/usr/bin/env bash
# Builds pycuda where there is a CUDA toolkit (its headers) but no driver to link with, and unpacks it into a folder.
#
#   build_pycuda.sh PYTHON OUT [WHEEL]
#
# OUT/site is then a folder for PYTHONPATH, OUT/*.whl the wheel (to carry to a machine that can download nothing).
# A driver library to link with is made from the function names in cuda.h: it is never loaded, since the extension asks for
# libcuda.so.1, which is the real driver on a GPU machine and the fake one in the tests. WHEEL, or pycuda-*.whl already in OUT,
# saves the build (some minutes). CUDA_HOME names the toolkit; PYCUDA_VERSION another version.
set -euo pipefail

python=$1
mkdir -p "$2"
out=$(cd "$2" && pwd)
wheel=${3:-}
version=${PYCUDA_VERSION:-2026.1}
cuda=${CUDA_HOME:-/usr/local/cuda}

make_link_stub() { # FOLDER
    mkdir -p "$1"
    cat "$cuda/include/cuda.h" "$cuda/include/cudaProfiler.h" | grep -oE '\bcu[A-Z][A-Za-z0-9_]*' | sort -u |
        sed 's/.*/int &(void) { return 34; }/' >"$1/stub.c" # 34: CUDA_ERROR_STUB_LIBRARY
    gcc -w -shared -fPIC -Wl,-soname,libcuda.so.1 -o "$1/libcuda.so" "$1/stub.c"
}

build_wheel() {
    local work
    work=$(mktemp -d)
    trap 'rm -rf "$work"' RETURN
    make_link_stub "$work/stub"
    "$python" -m pip download --quiet --no-deps --no-binary=pycuda --dest "$work" "pycuda==$version"
    tar -xzf "$work/pycuda-$version.tar.gz" -C "$work"
    # -O1: the extension only passes calls on; -O3, distutils' default, takes twice as long to build.
    cat >"$work/pycuda-$version/siteconf.py" <<CONF
CUDA_ROOT = "$cuda"
CUDA_ENABLE_CURAND = False
CUDADRV_LIB_DIR = ["$work/stub"]
CXXFLAGS = ["-O1", "-g0", "-w"]
CONF
    PATH="$cuda/bin:$PATH" nice "$python" -m pip wheel --quiet --no-deps --wheel-dir "$out" "$work/pycuda-$version"
}

if [ -z "$wheel" ]; then
    wheel=$(find "$out" -maxdepth 1 -name "pycuda-$version-*.whl" | head -n 1)
fi
if [ -z "$wheel" ]; then
    [ -f "$cuda/include/cuda.h" ] || {
        echo "build_pycuda: no cuda.h under $cuda/include; set CUDA_HOME to a CUDA toolkit" >&2
        exit 1
    }
    build_wheel
    wheel=$(find "$out" -maxdepth 1 -name "pycuda-$version-*.whl" | head -n 1)
fi
rm -rf "$out/site.new"
# --find-links: on a machine without a package index the wheels that pycuda needs lie beside pycuda's own.
"$python" -m pip install --quiet --no-compile --target "$out/site.new" --find-links "$(dirname "$wheel")" "$wheel"
rm -rf "$out/site"
mv "$out/site.new" "$out/site"
