"""A client in another language reads the same bytes: JavaScript, from the .proto alone, with none of our code."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from augclient import Recipe, connect

CLIENT = Path(__file__).with_name("node_client")
PROTO = CLIENT.parents[2] / "proto"
RECIPE = Recipe(crop={"mode": "uniform"}, affine={"rotate_deg": 10}, noise={"std": [0, 30]}, window={"low": -1000, "high": [200, 1500]})


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


def run_client(folder: Path, address: str, request: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    command = ["node", "stream.js", str(PROTO), address, json.dumps(request)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60)


@pytest.mark.slow
@pytest.mark.parametrize("delivery", ["PARTS", "SAMPLES"])
def test_a_javascript_client_assembles_the_same_bytes(
    serve: Callable[..., Any], toy_dataset: Path, node_client: Path, delivery: str
) -> None:
    address = serve(toy_dataset, config="[limits]\npart_bytes = 16_384\n").address
    how = {"patch": [9, 21, 33], "batch_size": 3, "seed": 5}
    recipe = {
        "crop": {"mode": "uniform"},
        "affine": {"rotate_deg": [{"low": -10, "high": 10}]},
        "noise": {"std": {"low": 0, "high": 30}},
        "window": {"low": {"low": -1000, "high": -1000}, "high": {"low": 200, "high": 1500}},
    }
    done = run_client(node_client, address, {**how, "recipe": recipe, "steps": 4, "delivery": delivery, "image_dtype": "FLOAT16"})
    assert done.returncode == 0, done.stderr
    got = [json.loads(line) for line in done.stdout.splitlines()]

    wanted = []
    with connect(address) as server:
        for batch in server.stream(RECIPE, steps=4, image_dtype="float16", **how):
            digests = {
                name: hashlib.sha256(array.tobytes()).hexdigest() for name, array in (("image", batch.image), ("label", batch.label))
            }
            volumes = [sample.volume for sample in batch.samples]
            wanted.append({"step": batch.step, "complete": True, "shape": list(batch.image.shape), "volumes": volumes, **digests})
    assert got == wanted


@pytest.mark.slow
def test_a_javascript_client_reads_the_reason_of_a_refusal(serve: Callable[..., Any], toy_dataset: Path, node_client: Path) -> None:
    done = run_client(
        node_client, serve(toy_dataset).address, {"patch": [9, 21, 33], "batch_size": 3, "recipe": {"crop": {"mode": "centre"}}}
    )
    assert done.returncode == 1
    assert "INVALID_ARGUMENT" in done.stderr
    assert "crop.mode" in done.stderr
    assert "center" in done.stderr
