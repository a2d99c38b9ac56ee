#!/usr/bin/env bash
# Generate augclient.wire.v1 from the .proto; with --check, fail where the committed code differs instead.
set -euo pipefail
cd "$(dirname "$0")/.."

out=client
[ "${1:-}" = --check ] && { out=$(mktemp -d); trap 'rm -rf "$out"' EXIT; }
"${PYTHON:-python3}" -m grpc_tools.protoc -Iproto --python_out="$out" --pyi_out="$out" --grpc_python_out="$out" \
    proto/augclient/wire/v1/augserver.proto
if [ "${1:-}" = --check ]; then
    for file in "$out"/augclient/wire/v1/*; do
        diff -u "client/augclient/wire/v1/$(basename "$file")" "$file" || { echo "generated code is out of date: run 'make generate'"; exit 1; }
    done
    echo "generated code is current"
fi
