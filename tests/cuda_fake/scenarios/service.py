"""The real server on the fake driver: a GPU's queue is filled, decoded volumes lie in pinned memory, and nothing stays."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from augclient import Recipe, connect
from world import assert_nothing_left, counter, cpu, driver, open_cuda, run, set_delays, wait_until

from augserver.config import parse_config
from augserver.kernel import Backend
from augserver.service.server import Server
from augserver.store import Dataset, DatasetWriter

SHAPES = ((8, 11, 17), (9, 12, 13), (10, 13, 11), (7, 14, 12))
AFFINE = np.array([[0.0, 0.0, 0.5, 7.0], [0.0, 1.0, 0.0, -3.0], [3.0, 0.0, 0.0, 11.0], [0.0, 0.0, 0.0, 1.0]])
STEPS = 24
REQUEST: dict[str, Any] = {"patch": (6, 7, 9), "batch_size": 2, "seed": 3, "steps": STEPS}
RECIPE = Recipe(affine={"rotate_deg": 20, "scale": [0.8, 1.25]}, noise={"std": [5, 30]}, window={"low": -900, "high": 900})


@contextmanager
def toy_dataset() -> Iterator[Dataset]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "toy.zarr"
        rng = np.random.default_rng(0)
        with DatasetWriter(path, modality="ct", classes={1: "liver", 2: "bone"}) as writer:
            for k, shape in enumerate(SHAPES):
                image, label = rng.integers(-1000, 1500, (1, *shape)).astype(np.int16), rng.integers(0, 3, shape).astype(np.uint8)
                writer.write(f"case_{k}", image, label, (3.0, 1.0, 0.5), AFFINE, {})
            writer.finish()
        yield Dataset.open(path)


@contextmanager
def serving(dataset: Dataset, backend: Backend, **sections: Any) -> Iterator[Server]:
    server = Server(dataset, backend, parse_config({"listen": {"address": "127.0.0.1:0"}, **sections}))
    server.start()
    try:
        yield server
    finally:
        server.stop()


def read_batches(server: Server) -> list[bytes]:
    with connect(str(server.address)) as connection, connection.stream(RECIPE, transport="grpc", **REQUEST) as stream:
        return [batch.image.tobytes() + batch.label.tobytes() for batch in stream]


def a_stream_has_the_cpus_bytes_from_pinned_volumes_that_come_and_go() -> None:
    set_delays("h2d:0-1500,kernel:0-1500,d2h:0-1500")
    with toy_dataset() as dataset:
        with serving(dataset, cpu) as server:
            expected = read_batches(server)
        assert len(set(expected)) == STEPS
        gpu = open_cuda()
        # Room for two of the four volumes: each epoch decodes most of them again.
        largest = max(dataset.info(id_).size_bytes for id_ in dataset.volumes)
        with serving(dataset, gpu, cache={"max_bytes": 2 * largest}) as server:
            assert read_batches(server) == expected
            cache, queue = server.cache.statistics(), gpu.statistics()[0]
            assert cache.evictions > 4, cache
            assert cache.used_bytes <= 2 * largest
            assert queue.staged_bytes == 0, queue
            assert queue.direct_bytes >= cache.misses * min(dataset.info(id_).size_bytes for id_ in dataset.volumes)
            # What was evicted is unpinned: two arrays of each volume that is held. The stream's slots went with it.
            wait_until(lambda: gpu.allocate((1,), np.uint8) is not None and counter("registered_blocks") <= 2 * cache.volumes + 1)
    assert_nothing_left()


def one_stream_fills_the_queue() -> None:
    with toy_dataset() as dataset:
        gpu = open_cuda(slots=3)
        with serving(dataset, gpu) as server:
            batches: list[bytes] = []
            driver.fake_hold(1)
            client = threading.Thread(target=lambda: batches.extend(read_batches(server)))
            client.start()
            # Three on the device and one ready behind them, of a single client.
            wait_until(lambda: (gpu.statistics()[0].in_flight, gpu.statistics()[0].waiting) == (3, 1))
            driver.fake_hold(0)
            client.join()
            assert len(batches) == STEPS
    assert_nothing_left()


def what_the_config_says_wins() -> None:
    with toy_dataset() as dataset:
        gpu = open_cuda(slots=3)
        with serving(dataset, gpu, streams={"workers": 1, "look_ahead": 2}) as server, connect(str(server.address)) as connection:
            for _ in connection.stream(RECIPE, transport="grpc", **REQUEST):
                now = gpu.statistics()[0]
                assert now.in_flight + now.waiting <= 1, now
    assert_nothing_left()


if __name__ == "__main__":
    run(globals())
