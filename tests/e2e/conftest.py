"""Real server processes started by the command line, and small datasets to serve."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType

import numpy as np
import pytest

from augserver.config import CudaConfig
from augserver.store import DatasetWriter

READY_S = 60.0


class Serving:
    """`augserver serve` in a process of its own; a context manager that leaves no process behind."""

    def __init__(self, dataset: Path, *arguments: str, log: Path, address: str = "127.0.0.1:0") -> None:
        command = [
            sys.executable,
            "-P",
            "-c",
            "from augserver.cli import main; main()",
            "serve",
            str(dataset),
            "--address",
            address,
            *arguments,
        ]
        self.log = log
        with log.open("wb") as errors:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors)
        self.ready_line = self._read_line()
        self.address = self.ready_line.split()[2] if self.ready_line else ""

    def _read_line(self) -> str:
        """The first line on stdout; empty if the process ends without one."""
        assert self.process.stdout is not None
        deadline, line = time.monotonic() + READY_S, b""
        while not line.endswith(b"\n"):
            if not select.select([self.process.stdout], [], [], max(0.0, deadline - time.monotonic()))[0]:
                self.process.kill()
                raise AssertionError(f"no ready line in {READY_S} s: {self.log.read_text()}")
            byte = os.read(self.process.stdout.fileno(), 1)
            if not byte:
                break
            line += byte
        return line.decode()

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def wait(self, timeout_s: float = 30.0) -> int:
        return self.process.wait(timeout_s)

    def rest_of_stdout(self) -> bytes:
        assert self.process.stdout is not None
        return self.process.stdout.read()

    def stop(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.signal(signal.SIGTERM)
        try:
            self.wait()
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.wait()
            raise
        finally:
            if self.process.stdout is not None:
                self.process.stdout.close()

    def __enter__(self) -> Serving:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()


@pytest.fixture(scope="module")
def serve(tmp_path_factory: pytest.TempPathFactory, backend_name: str, cuda_config: CudaConfig) -> Iterator[Callable[..., Serving]]:
    """Start servers, with the backend of `--backend` unless the arguments name one; all are stopped at the end of the module."""
    folder = tmp_path_factory.mktemp("logs")
    with contextlib.ExitStack() as stack:

        def start(dataset: Path, *arguments: str, config: str = "", address: str = "127.0.0.1:0") -> Serving:
            name = f"server_{len(list(folder.iterdir()))}"
            if "--backend" not in arguments:
                arguments = (*arguments, "--backend", backend_name)
            if "cuda" in arguments:
                config += "[cuda]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in dataclasses.asdict(cuda_config).items())
            if config:
                path = folder / f"{name}.toml"
                path.write_text(config)
                arguments = (*arguments, "--config", str(path))
            return stack.enter_context(Serving(dataset, *arguments, log=folder / f"{name}.log", address=address))

        yield start


@pytest.fixture(scope="session")
def toy_dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three volumes of seeded noise in HU, each of another shape, spacing (3, 1, 0.5) mm."""
    path = tmp_path_factory.mktemp("store") / "toy.zarr"
    affine = np.array([[0.0, 0.0, 0.5, 7.0], [0.0, 1.0, 0.0, -3.0], [3.0, 0.0, 0.0, 11.0], [0.0, 0.0, 0.0, 1.0]])
    with DatasetWriter(path, modality="ct", classes={1: "liver", 2: "bone"}) as writer:
        for seed, shape in enumerate([(18, 41, 57), (19, 52, 43), (20, 43, 51)]):
            rng = np.random.default_rng(seed)
            image = rng.integers(-1000, 1500, (1, *shape)).astype(np.int16)
            writer.write(f"case_{seed + 1}", image, rng.integers(0, 3, shape).astype(np.uint8), (3.0, 1.0, 0.5), affine, {})
        writer.finish()
    return path


@pytest.fixture(scope="session")
def one_volume(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of one volume without labels."""
    path = tmp_path_factory.mktemp("store") / "one.zarr"
    with DatasetWriter(path, modality="mr") as writer:
        writer.write("only", np.arange(1000, dtype=np.int16).reshape(1, 10, 10, 10), None, (1.0, 1.0, 1.0), np.eye(4)[[2, 1, 0, 3]], {})
        writer.finish()
    return path
