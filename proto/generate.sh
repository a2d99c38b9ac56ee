#!/usr/bin/env bash
# Generate augclient.wire.v1 from the .proto, and the list of recipe steps from their declarations; with --check, fail where the committed code differs instead.
set -euo pipefail
cd "$(dirname "$0")/.."

out=client
[ "${1:-}" = --check ] && { out=$(mktemp -d); trap 'rm -rf "$out"' EXIT; }
"${PYTHON:-python3}" -m grpc_tools.protoc -Iproto --python_out="$out" --pyi_out="$out" --grpc_python_out="$out" \
    proto/augclient/wire/v1/augserver.proto
mkdir -p "$out/augclient"
"${PYTHON:-python3}" -m augserver.augment.step_schema > "$out/augclient/steps.json.new"
mv "$out/augclient/steps.json.new" "$out/augclient/steps.json"
if [ "${1:-}" = --check ]; then
    diff -u client/augclient/steps.json "$out/augclient/steps.json" || { echo "steps.json is out of date: run 'make generate'"; exit 1; }
    for file in "$out"/augclient/wire/v1/*; do
        diff -u "client/augclient/wire/v1/$(basename "$file")" "$file" || { echo "generated code is out of date: run 'make generate'"; exit 1; }
    done
    echo "generated code is current"
fi
