"""`augserver serve` on the fake driver loses its GPU and comes back. None of this proves nvcc's code or any speed."""

from __future__ import annotations

import contextlib
import re
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import augclient
import numpy as np
import psutil
import pytest
from augclient.errors import UnavailableError

from augserver.store import DatasetWriter

pytestmark = [pytest.mark.timeout(300), pytest.mark.slow]

RECIPE = augclient.Recipe(affine={"rotate_deg": 20}, noise={"std": [5, 30]}, window={"low": -900, "high": 900})
STEPS = 24
STREAM = {"patch": (6, 7, 9), "batch_size": 2, "seed": 3, "steps": STEPS, "transport": "grpc"}
Serve = Callable[..., subprocess.Popen[str]]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("store") / "toy.zarr"
    rng = np.random.default_rng(0)
    with DatasetWriter(path, modality="ct") as writer:
        for k in range(3):
            image = rng.integers(-1000, 1500, (1, 8 + k, 11, 13)).astype(np.int16)
            writer.write(f"case_{k}", image, None, (1.0, 1.0, 1.0), np.eye(4)[[2, 1, 0, 3]], {})
        writer.finish()
    return path


@pytest.fixture
def serve(fake_driver: dict[str, str], dataset: Path, tmp_path: Path) -> Iterator[Serve]:
    """serve(backend, FAULTS) starts a server on the fake driver, every process of which meets these faults; none outlives the test."""
    config = tmp_path / "server.toml"
    config.write_text(f'[cuda]\nfatbin = "{fake_driver["FAKE_CUDA_FATBIN"]}"\nslot_bytes = 1048576\nvolume_bytes = 1048576\n')
    with contextlib.ExitStack() as stack:

        def start(backend: str, faults: str = "") -> subprocess.Popen[str]:
            command = [
                sys.executable,
                "-P",
                "-c",
                "from augserver.cli import main; main()",
                "serve",
                str(dataset),
                "--address",
                "127.0.0.1:0",
            ]
            environment = {**fake_driver, **({"FAKE_CUDA_FAULTS": faults} if faults else {})}
            log = stack.enter_context((tmp_path / "stderr").open("w"))
            process = subprocess.Popen(
                [*command, "--backend", backend, "--config", str(config)], env=environment, text=True, stdout=subprocess.PIPE, stderr=log
            )
            stack.callback(process.communicate)
            stack.callback(process.terminate)
            return process

        yield start


def ready(process: subprocess.Popen[str]) -> str:
    """The address of the ready line."""
    assert process.stdout is not None
    assert select.select([process.stdout], [], [], 60)[0]
    match = re.fullmatch(r"serving on (\S+) \((cuda|cpu), .*, 3 volumes\)\n", process.stdout.readline())
    assert match is not None
    return match[1]


def batches(address: str) -> list[bytes]:
    with augclient.connect(address) as server, server.stream(RECIPE, **STREAM) as stream:
        return [batch.image.tobytes() for batch in stream]


def test_a_lost_gpu_restarts_the_worker_on_the_same_port_and_the_client_resumes_by_number(serve: Serve, tmp_path: Path) -> None:
    expected = batches(ready(serve("cpu")))
    process = serve("auto", "cuLaunchKernel:15:719:async")
    address = ready(process)
    inside = psutil.Process(process.pid)
    assert len(inside.children()) == 1
    assert batches(address) == expected
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert out == ""  # the ready line was printed once
    said = (tmp_path / "stderr").read_text()
    assert re.search(r"worker server lost its device \(exit code 75\) after .* \(failure 1 of 6 in a row\); starting it again in", said)
    assert f"worker server is back: serving on {address} (cuda" in said
    assert "Traceback" not in said


def test_a_warp_stream_that_was_running_says_from_where_to_go_on(serve: Serve) -> None:
    address = ready(serve("cuda", "cuLaunchKernel:5:719:async"))
    image = np.arange(6 * 7 * 8, dtype=np.int16).reshape(6, 7, 8)
    with augclient.connect(address) as server:
        done, said = 0, ""
        try:
            for result in server.warp([image] * 20, augclient.Transform(), prefetch=2):
                np.testing.assert_array_equal(result, image)
                done += 1
        except UnavailableError as error:
            said = str(error)
        assert f"Items from {done} on have no result" in said
        assert 0 < done < 5


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains_the_worker_and_leaves_nothing(serve: Serve, number: int) -> None:
    process = serve("cuda")
    address = ready(process)
    [worker] = psutil.Process(process.pid).children()
    with augclient.connect(address) as server, server.stream(RECIPE, **{**STREAM, "steps": None}, reconnect_s=0.0) as stream:
        steps = [next(stream).step for _ in range(3)]
        process.send_signal(number)
        with pytest.raises(UnavailableError):
            steps.extend(batch.step for batch in stream)
    process.communicate(timeout=60)
    assert process.returncode == 0
    assert steps == list(range(len(steps)))
    assert not worker.is_running()


def test_killing_the_supervisor_ends_the_worker_too(serve: Serve) -> None:
    process = serve("cuda")
    ready(process)
    [worker] = psutil.Process(process.pid).children()
    process.kill()
    process.communicate(timeout=60)
    with contextlib.suppress(psutil.NoSuchProcess):
        while worker.status() != psutil.STATUS_ZOMBIE:  # of whoever took it over; the test's own time-out ends this
            select.select([], [], [], 0.01)
