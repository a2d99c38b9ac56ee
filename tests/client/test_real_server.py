"""Our client and generated code on the real server: the same bytes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import augclient
import grpc
import numpy as np
import pytest
from augclient import errors
from augclient.wire.v1 import augserver_pb2 as pb
from augclient.wire.v1 import augserver_pb2_grpc

from augserver.config import parse_config
from augserver.kernel import open_backend
from augserver.service.server import Server
from augserver.store import Dataset, DatasetWriter

pytestmark = pytest.mark.usefixtures("each_receiver")

PATCH = (5, 7, 9)
RECIPE = augclient.Recipe(
    crop={"mode": "uniform"},
    affine={"rotate_deg": 15},
    noise={"std": [0, 30]},
    window={"low": -160, "high": 240},
    occlude={"max_voxels": 2},
)


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    path: Path = tmp_path_factory.mktemp("store") / "toy.zarr"
    affine = np.array([[0.0, 0.0, 0.5, 7.0], [0.0, 1.0, 0.0, -3.0], [3.0, 0.0, 0.0, 11.0], [0.0, 0.0, 0.0, 1.0]])
    with DatasetWriter(path, modality="ct", classes={1: "liver", 2: "bone"}) as writer:
        for seed, id_ in enumerate(("case_1", "case_2", "case_3")):
            rng = np.random.default_rng(seed)
            image = rng.integers(-1000, 1500, (1, 8, 11, 17 + seed)).astype(np.int16)
            label = rng.integers(0, 3, (8, 11, 17 + seed)).astype(np.uint8)
            writer.write(id_, image, label, (3.0, 1.0, 0.5), affine, {})
        writer.finish()
    server = Server(Dataset.open(path), open_backend("cpu"), parse_config({"listen": {"address": "127.0.0.1:0"}}))
    server.start()
    yield f"127.0.0.1:{server.port}"
    server.stop()


@pytest.mark.parametrize("delivery", [pb.PARTS, pb.SAMPLES])
@pytest.mark.parametrize("dtype", ["float32", "uint8"])
def test_generated_code_reads_what_our_client_reads(address, delivery, dtype):
    request = pb.StreamBatchesRequest(
        recipe=RECIPE.proto,
        patch=PATCH,
        batch_size=4,
        seed=3,
        start=2,
        steps=3,
        image_dtype=pb.ImageDtype.Value(dtype.upper()),
        delivery=delivery,
    )
    theirs: dict[int, tuple[bytearray, bytearray]] = {}
    with grpc.insecure_channel(address) as channel:
        for part in augserver_pb2_grpc.AugServerStub(channel).StreamBatches(request):
            image, label = theirs.setdefault(part.step, (bytearray(), bytearray()))
            assert (part.image_offset, part.label_offset) == (len(image) * bool(part.image), len(label) * bool(part.label))
            image += part.image
            label += part.label
    with augclient.connect(address) as server:
        ours = {
            batch.step: (batch.image.tobytes(), batch.label.tobytes())
            for batch in server.stream(RECIPE, patch=PATCH, batch_size=4, seed=3, start=2, steps=3, image_dtype=dtype)
        }
    assert list(ours) == [2, 3, 4]
    assert ours == {step: (bytes(image), bytes(label)) for step, (image, label) in theirs.items()}


def test_sample_is_the_one_in_the_batch(address):
    with augclient.connect(address) as server:
        batch = next(server.stream(RECIPE, patch=PATCH, batch_size=4, seed=3, start=5))
        patch = server.sample(RECIPE, index=22, seed=3, patch=PATCH)
        np.testing.assert_array_equal(patch.image, batch.image[2])
        np.testing.assert_array_equal(patch.label, batch.label[2])
        assert patch.sample.noise_key == batch.samples[2].noise_key


def test_volume_comes_as_stored(address):
    with augclient.connect(address) as server:
        volume = server.volume("case_2")
        rng = np.random.default_rng(1)
        np.testing.assert_array_equal(volume.image, rng.integers(-1000, 1500, (1, 8, 11, 18)))
        np.testing.assert_array_equal(volume.label, rng.integers(0, 3, (8, 11, 18)))


@pytest.mark.parametrize(
    ("arguments", "kind", "words"),
    [
        ({"patch": (500, 7, 9)}, errors.PatchError, "500"),
        ({"batch_size": 10**6}, errors.BudgetError, "max_batch_size"),
        ({"recipe": augclient.Recipe(noise={"std": [30, 0]})}, errors.RecipeError, "noise.std"),
        ({"recipe": augclient.Recipe(noise={"std": [float("nan"), 0]})}, errors.RecipeError, "noise.std"),
        ({"recipe": augclient.Recipe(), "image_dtype": "uint8"}, errors.RecipeError, "window"),
    ],
)
def test_refusals_keep_their_class_and_leave_the_server_alive(address, arguments, kind, words):
    with augclient.connect(address) as server:
        with pytest.raises(kind, match=words):
            next(server.stream(**{"recipe": RECIPE, "patch": PATCH, "batch_size": 4, **arguments}))
        assert next(server.stream(RECIPE, patch=PATCH, batch_size=4)).step == 0


def test_missing_volume_names_the_nearest(address):
    with augclient.connect(address) as server, pytest.raises(errors.NotFoundError, match="case_1"):
        server.volume("case_11")
