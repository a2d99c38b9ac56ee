"""A sample is a pure function of (dataset, recipe, seed, index): the same bytes whoever serves it and however it is asked for."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from augclient import Recipe, connect
from augclient.wire.v1 import augserver_pb2 as pb
from augclient.wire.v1 import augserver_pb2_grpc

from augserver.kernel.cpu import instruction_sets

RECIPE = Recipe(
    crop={"mode": "uniform", "pad": True, "patches_per_volume": 2},
    affine={"rotate_deg": 20, "scale": [0.8, 1.25], "shear": 0.1, "warp": 0.05, "reflect": 0.5, "translate_mm": 5},
    occlude={"max_voxels": 4, "probability": 0.7},
    contrast={"factor": [0.8, 1.2]},
    brightness={"offset": 20},
    gamma={"exponent": [0.7, 1.5]},
    noise={"std": [0, 30]},
    window={"low": [-1000, -800], "high": [200, 1500]},
)
PATCH = (9, 21, 33)
SEED = 11
SAMPLES = 24


def digest(image: Any, label: Any, affine: Any, noise_key: int) -> str:
    """One name for all that a sample is."""
    parts = (np.ascontiguousarray(image), np.ascontiguousarray(label), np.asarray(affine, np.float32))
    return hashlib.sha256(b"".join(part.tobytes() for part in parts) + noise_key.to_bytes(8, "little")).hexdigest()


def digests(batches: Iterable[Any]) -> dict[int, str]:
    """Sample index -> its digest."""
    return {
        sample.index: digest(batch.image[k], batch.label[k], sample.affine, sample.noise_key)
        for batch in batches
        for k, sample in enumerate(batch.samples)
    }


def stream_digests(address: str, **how: Any) -> dict[int, str]:
    how = {"batch_size": 4, "steps": SAMPLES // how.get("batch_size", 4)} | how
    with connect(address) as server, server.stream(RECIPE, patch=PATCH, seed=SEED, **how) as stream:
        return digests(stream)


@pytest.fixture(scope="module")
def server(serve: Callable[..., Any], toy_dataset: Path) -> Any:
    return serve(toy_dataset)


@pytest.fixture(scope="module")
def wanted(server: Any) -> dict[int, str]:
    """All samples as the first server streams them over gRPC in batches of four; the tests' own streams take shared memory."""
    found = stream_digests(server.address, transport="grpc")
    assert sorted(found) == list(range(SAMPLES))
    assert len(set(found.values())) == SAMPLES  # no two alike, so a mix-up would show
    return found


@pytest.mark.parametrize("transport", ["local", "grpc"])
def test_again_from_the_same_server(server: Any, wanted: dict[int, str], transport: str) -> None:
    assert stream_digests(server.address, transport=transport) == wanted


@pytest.mark.parametrize("isa", instruction_sets())
def test_from_a_cpu_server_with_another_instruction_set_and_thread_count(
    serve: Callable[..., Any], toy_dataset: Path, wanted: dict[int, str], isa: str
) -> None:
    threads = 1 + instruction_sets().index(isa)
    assert stream_digests(serve(toy_dataset, "--backend", "cpu", "--isa", isa, "--threads", str(threads)).address) == wanted


def test_from_a_server_that_can_hold_one_volume_at_a_time(serve: Callable[..., Any], toy_dataset: Path, wanted: dict[int, str]) -> None:
    config = "[cache]\nmax_bytes = 140_000\n[streams]\nlook_ahead = 1\nworkers = 3\n[limits]\npart_bytes = 16_384\n"
    assert stream_digests(serve(toy_dataset, config=config).address) == wanted


@pytest.mark.parametrize("transport", ["local", "grpc"])
@pytest.mark.parametrize("batch_size", [1, 3, 8, 24])
def test_in_batches_of_another_size(server: Any, wanted: dict[int, str], batch_size: int, transport: str) -> None:
    assert stream_digests(server.address, batch_size=batch_size, transport=transport) == wanted


@pytest.mark.parametrize("transport", ["local", "grpc"])
@pytest.mark.parametrize("world", [2, 4])
def test_shared_among_ranks(server: Any, wanted: dict[int, str], world: int, transport: str) -> None:
    ranks = [stream_digests(server.address, rank=rank, world=world, transport=transport) for rank in range(world)]
    assert sum(len(rank) for rank in ranks) == SAMPLES
    assert {index: name for rank in ranks for index, name in rank.items()} == wanted


def test_one_at_a_time(server: Any, wanted: dict[int, str]) -> None:
    with connect(server.address) as connection:
        for index in (0, 7, 23):
            patch = connection.sample(RECIPE, index=index, seed=SEED, patch=PATCH)
            assert digest(patch.image, patch.label, patch.sample.affine, patch.sample.noise_key) == wanted[index]


@pytest.mark.parametrize("delivery", [pb.PARTS, pb.SAMPLES])
def test_through_plain_generated_code(server: Any, wanted: dict[int, str], delivery: int) -> None:
    request = pb.StreamBatchesRequest(
        recipe=RECIPE.proto, patch=PATCH, batch_size=4, seed=SEED, steps=SAMPLES // 4, delivery=delivery, part_bytes=0
    )
    found = {}
    with grpc.insecure_channel(server.address) as channel:
        image, label = bytearray(), bytearray()
        for part in augserver_pb2_grpc.AugServerStub(channel).StreamBatches(request):
            if part.HasField("header"):
                header, image, label = part.header, bytearray(), bytearray()
            image += part.image
            label += part.label
            if part.last:
                images = np.frombuffer(image, header.image_dtype).reshape(header.image_shape)
                labels = np.frombuffer(label, np.uint8).reshape(header.label_shape)
                for k, sample in enumerate(header.samples):
                    found[sample.index] = digest(images[k], labels[k], sample.affine, sample.noise_key)
    assert found == wanted


def test_another_seed_gives_other_bytes(server: Any, wanted: dict[int, str]) -> None:
    with connect(server.address) as connection:
        patch = connection.sample(RECIPE, index=0, seed=SEED + 1, patch=PATCH)
    assert digest(patch.image, patch.label, patch.sample.affine, patch.sample.noise_key) not in wanted.values()
