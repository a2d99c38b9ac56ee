"""A server in this process on a small dataset, reached through the generated code."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import numpy as np
import pytest
from augclient.wire.v1 import augserver_pb2_grpc

from augserver.config import CudaConfig, ServerConfig, parse_config
from augserver.kernel import open_backend
from augserver.service.server import Server
from augserver.store import Dataset, DatasetWriter

SPACING_MM = (3.0, 1.0, 0.5)


def make_dataset(path: Path, shapes: dict[str, tuple[int, int, int]], *, channels: int = 1, labels: bool = True) -> Dataset:
    """A dataset of seeded noise in HU with three classes."""
    affine = np.array([[0.0, 0.0, 0.5, 7.0], [0.0, 1.0, 0.0, -3.0], [3.0, 0.0, 0.0, 11.0], [0.0, 0.0, 0.0, 1.0]])
    with DatasetWriter(path, modality="ct", classes={1: "liver", 2: "bone"}) as writer:
        for seed, (id_, shape) in enumerate(shapes.items()):
            rng = np.random.default_rng(seed)
            image = rng.integers(-1000, 1500, (channels, *shape)).astype(np.int16)
            label = rng.integers(0, 3, shape).astype(np.uint8) if labels else None
            writer.write(id_, image, label, SPACING_MM, affine, {})
        writer.finish()
    return Dataset.open(path)


@dataclass(frozen=True)
class Running:
    """A started server and what a client of any language would have."""

    server: Server
    dataset: Dataset
    channel: grpc.Channel
    stub: augserver_pb2_grpc.AugServerStub


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Three volumes of shapes around (8, 11, 17)."""
    return make_dataset(
        tmp_path_factory.mktemp("store") / "toy.zarr", {"case_1": (8, 11, 17), "case_2": (9, 12, 13), "case_3": (10, 13, 11)}
    )


@pytest.fixture(scope="module")
def start_server(backend_name: str, cuda_config: CudaConfig) -> Iterator[Callable[..., Running]]:
    """Start servers on free ports, with the backend of `--backend`; all are stopped at the end of the module."""
    running: list[Running] = []

    def start(dataset: Dataset, **sections: dict[str, object]) -> Running:
        sections.setdefault("listen", {}).setdefault("address", "127.0.0.1:0")
        config: ServerConfig = parse_config(sections)
        server = Server(dataset, open_backend(backend_name, threads=2, cuda=cuda_config), config)
        server.start()
        channel = grpc.insecure_channel(str(server.address), [("grpc.max_receive_message_length", -1)])
        running.append(Running(server, dataset, channel, augserver_pb2_grpc.AugServerStub(channel)))
        return running[-1]

    yield start
    for each in running:
        each.channel.close()
        each.server.stop()


@pytest.fixture(scope="module")
def running(dataset: Dataset, start_server: Callable[..., Running]) -> Running:
    """One server with the default settings for the whole module."""
    return start_server(dataset)


@pytest.fixture(scope="session")
def store_maker() -> Callable[..., Dataset]:
    """make_dataset, for tests that need a store of their own."""
    return make_dataset
