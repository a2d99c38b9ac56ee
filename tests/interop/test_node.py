"""A client in another language reads the same bytes: JavaScript, from the .proto alone, with none of our code."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

CLIENT = Path(__file__).with_name("node")
PROTO = Path(__file__).resolve().parents[2] / "proto"
HOW = {"patch": [9, 21, 33], "batch_size": 3, "seed": 5, "steps": 4}
WRONG = {"patch": [9, 21, 33], "batch_size": 3, "recipe": {"crop": {"mode": "centre"}}}


@pytest.fixture(scope="session")
def node_client(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The JavaScript client with its packages installed; skips where there is no Node.js or no npm registry."""
    if not (shutil.which("node") and shutil.which("npm")):
        pytest.skip("node and npm are not here; install Node.js 18 or newer to run the JavaScript client")
    folder = shutil.copytree(CLIENT, tmp_path_factory.mktemp("node") / "client")
    install = ["npm", "install", "--silent", "--no-package-lock", "--no-audit", "--no-fund"]
    done = subprocess.run(install, cwd=folder, capture_output=True, text=True, timeout=120)
    if done.returncode:
        pytest.skip(f"npm could not install the gRPC packages: {done.stderr[-500:]}")
    return folder


def run_client(folder: Path, address: str, request: dict[str, Any], token: str = "") -> subprocess.CompletedProcess[str]:
    command = ["node", "stream.js", str(PROTO), address, json.dumps(request), token]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "fields"),
    [
        (HOW, {"part_bytes": 16384}),
        (HOW, {"delivery": "SAMPLES"}),
        (HOW | {"patch": [64, 96, 128], "batch_size": 4, "steps": 2}, {}),  # 9.4 MB a batch: beyond the 4 MiB of gRPC's clients
        (HOW | {"steps": 5, "stride": 2}, {}),
    ],
    ids=["small parts", "a sample a message", "parts of the server's choice", "every other batch"],
)
def test_it_assembles_the_same_bytes(
    guarded: Any, node_client: Path, ours: Any, recipe_json: Any, how: dict[str, Any], fields: dict[str, Any]
) -> None:
    request = {**how, **fields, "recipe": recipe_json, "image_dtype": "FLOAT16"}
    done = run_client(node_client, guarded.address, request, guarded.reader)
    assert done.returncode == 0, done.stderr
    got = [json.loads(line) for line in done.stdout.splitlines()]
    assert got == ours(guarded.address, token=guarded.reader, image_dtype="float16", **how)
    assert len(got) == len(range(0, how["steps"], how.get("stride", 1)))


@pytest.mark.slow
def test_it_reads_the_reason_of_every_refusal(guarded: Any, node_client: Path) -> None:
    def refused(request: dict[str, Any], token: str) -> str:
        done = run_client(node_client, guarded.address, request, token)
        assert (done.returncode, done.stdout) == (1, "")
        return done.stderr

    wrong = refused(WRONG, guarded.reader)
    assert wrong.startswith("INVALID_ARGUMENT RecipeError: ")
    assert "crop.mode" in wrong
    assert "center" in wrong
    assert refused(HOW, "").startswith("UNAUTHENTICATED AuthError: no token came with the call")
    assert refused(HOW, "nobody's-token-at-all").startswith("UNAUTHENTICATED AuthError: an unknown token")
    assert refused(HOW, guarded.warper).startswith("PERMISSION_DENIED ForbiddenError: the token has no right 'read'")
