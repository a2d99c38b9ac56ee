"""augserver's own roads: `augserver.service.Server` -> `augclient`, defaults of both, with a kernel that writes nothing or the real one."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import augclient
import numpy as np
import workload
from delivery_payload import BATCH_BYTES, IMAGE_SHAPE, LABEL_SHAPE, PATCH, SAMPLES, VOXELS, check

Arrivals = Iterator[tuple[int, int]]
STAMP = 200  # numbers below it fit every dtype
STAND_IN, REAL = "stand_in.zarr", "real.zarr"
# Four operations, as in the paper; the window is what makes uint8 possible.
RECIPE: dict[str, dict[str, Any]] = {
    "crop": {"mode": "uniform"},
    "affine": {"rotate_deg": 15, "scale": [0.8, 1.25], "shear": 0.1, "reflect": [0, 0, 0.5]},
    "occlude": {"max_voxels": 40, "probability": 0.5},
    "noise": {"std": [0, 30]},
    "window": {"low": [-1000, -100], "high": [200, 1500]},
}


def prepare(folder: str) -> None:
    """Two stores: small volumes, of which no kernel reads a voxel, enough of them to spread over servers, and the kernel benchmark's CT."""
    from augserver.store import DatasetWriter

    small = np.zeros((8, 10, 12), np.uint8)
    small[3, 4, 5] = 1
    for name, volumes, image, label in ((STAND_IN, 24, small.astype(np.int16), small), (REAL, 1, *workload.make_ct())):
        classes = {k: f"organ {k}" for k in range(1, workload.CLASSES)}
        with DatasetWriter(Path(folder, name), modality="ct", classes=classes, preprocessing={}) as writer:
            for k in range(volumes):
                writer.write(f"volume_{k}", image[None], label, (3.0, 1.0, 1.0), np.diag([1.0, 1.0, 3.0, 1.0])[:, [2, 1, 0, 3]], {})
            writer.finish()


def _serve(store: Path, backend: Any, **security: str) -> None:
    from delivery_processes import say

    from augserver.config import ListenConfig, SecurityConfig, ServerConfig
    from augserver.service.server import Server
    from augserver.store import Dataset

    config = ServerConfig(listen=ListenConfig(address="127.0.0.1:0"), security=SecurityConfig(**security))
    server = Server(Dataset.open(store), backend, config)
    server.start()
    say(server.address)
    time.sleep(3600)


def send_tls(folder: str) -> None:
    key, cert = Path(folder, "key.pem"), Path(folder, "cert.pem")
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=127.0.0.1"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(cert)]
    subprocess.run(command, check=True, capture_output=True)
    send_stand_in(folder, tls_cert=str(cert), tls_key=str(key))


def send_unix(folder: str) -> None:
    """As send_stand_in, on a port that `augserver serve` does not open: what it would cost."""

    def bind(server: Any, *_: Any) -> int:
        server.add_insecure_port(_unix_target(folder))
        return 1  # no port: the client goes by the folder

    with mock.patch("augserver.service.server._bind", bind):
        send_stand_in(folder)


def _unix_target(folder: str) -> str:
    return f"unix:{Path(folder, 'grpc.sock')}"


def receive_tls(addresses: list[str], folder: str, stream: int) -> Arrivals:
    from augclient.tls_files import TlsConfig

    return receive_stand_in(addresses, stream, tls=TlsConfig(ca=Path(folder, "cert.pem")))


def receive_unix(addresses: list[str], folder: str, stream: int) -> Arrivals:
    return receive_stand_in([_unix_target(folder)], stream)


def send_stand_in(folder: str, **security: str) -> None:
    """The CPU backend with its memory, but a kernel that only stamps the first and last sample's index into the first and last voxel."""
    from augserver.kernel.cpu import CpuBackend

    class NoKernel(CpuBackend):
        def augment(self, volumes: Any, params: Any, out_image: Any, out_label: Any = None, *, nearest: bool = False) -> None:
            for array in (out_image, out_label):
                array.reshape(-1)[[0, -1]] = params[0].index % STAMP, params[-1].index % STAMP

    _serve(Path(folder, STAND_IN), NoKernel(threads=1), **security)


def send_real(folder: str) -> None:
    from augserver.kernel import open_backend

    _serve(Path(folder, REAL), open_backend("cpu"))


def receive_stand_in(
    addresses: list[str], stream: int, *, dtype: str = "float32", transport: str = "grpc", touch: bool = False, tls: Any = None
) -> Arrivals:
    """Batches from one server or several.

    Args:
        touch: read every byte of a batch before it counts.
    """
    recipe = augclient.Recipe(crop={"pad": True}, window={"low": 0, "high": 1})
    with augclient.connect(addresses if len(addresses) > 1 else addresses[0], tls=tls) as server:
        for batch in server.stream(recipe, patch=PATCH, batch_size=SAMPLES, seed=stream, image_dtype=dtype, transport=transport):
            if batch.label is None:
                raise SystemExit("no labels")
            first = batch.step * SAMPLES
            if len(addresses) == 1:  # of several servers each stamps its own share
                check(batch.image, batch.label, first % STAMP, (first + SAMPLES - 1) % STAMP)
            if touch:
                for array in (batch.image, batch.label):
                    np.bitwise_or.reduce(array.reshape(-1).view(np.uint64))
            yield VOXELS * (np.dtype(dtype).itemsize + 1), SAMPLES


def receive_real(addresses: list[str], *, transport: str) -> Arrivals:
    with augclient.connect(addresses[0]) as server:
        for batch in server.stream(augclient.Recipe(**RECIPE), patch=PATCH, batch_size=SAMPLES, transport=transport):
            if batch.image.shape != IMAGE_SHAPE:
                raise SystemExit("wrong shape")
            yield BATCH_BYTES, SAMPLES


def compute_real(folder: str) -> Arrivals:
    """The kernel alone, in this process, on all cores, into memory of its own: what delivery is measured against end to end."""
    from augclient import Recipe

    from augserver.augment import compile_recipe
    from augserver.kernel import open_backend
    from augserver.pipeline.plan import Plan
    from augserver.store import Dataset

    dataset = Dataset.open(Path(folder, REAL))
    recipe = compile_recipe(Recipe(**RECIPE).proto, modality=dataset.modality, classes=dataset.classes)
    plan = Plan({id_: dataset.info(id_) for id_ in dataset.volumes}, recipe, PATCH, seed=0)
    volume = dataset.read("volume_0")
    with open_backend("cpu") as backend:
        image, label = backend.allocate(IMAGE_SHAPE, np.float32), backend.allocate(LABEL_SHAPE, np.uint8)
        step = 0
        while True:
            backend.augment([volume] * SAMPLES, [plan.params(step * SAMPLES + k) for k in range(SAMPLES)], image, label)
            step += 1
            yield BATCH_BYTES, SAMPLES
