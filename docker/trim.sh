#!/bin/sh
# Makes an image's Python folders smaller without taking anything away that runs, and compiles them once for all starts:
#
#     trim.sh VENV [FOLDER...]
#
# - test suites and headers of packages go (scipy's and numpy's are 50 MB, TensorFlow's headers 430); of TensorFlow, `test` is a part that it imports;
# - debug information of numcodecs goes (22 of 36 MB). Other libraries have none, and some that auditwheel patched do not survive `strip`;
# - sources are compiled without dates: a container cannot write, and would compile at each start otherwise.
set -eu
python=$1/bin/python
for folder in "$@"; do
    find "$folder" -type d -path '*/tensorflow' -prune -o -type d \( -name tests -o -name test -o -name __pycache__ \) -prune -exec rm -rf {} +
    find "$folder" -type d \( -path '*/numpy/_core/include' -o -path '*/tensorflow/include' \) -prune -exec rm -rf {} +
    find "$folder" -path '*/numcodecs/*.so' -exec strip --strip-debug {} +
    "$python" -m compileall -q -j 0 --invalidation-mode unchecked-hash "$folder"
done
