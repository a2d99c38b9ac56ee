"""Streams of some of the volumes: those of a dataset that has no others, from any server, in any road of asking."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from augclient import Recipe, connect
from augclient.errors import NotFoundError, RequestError, StateError
from augclient.tensorflow import dataset as tensorflow_dataset
from augclient.wire.v1 import augserver_pb2 as pb

from augserver.store import Dataset, DatasetWriter

SHAPES = {f"case_{k}": (6 + k, 8, 12 + k) for k in range(5)}
CHOSEN = ["case_1", "case_0", "case_2"]
RECIPE = Recipe(crop={"mode": "uniform", "patches_per_volume": 2}, affine={"rotate_deg": [-20, 20]}, noise={"std": [1, 30]})
HOW: dict[str, Any] = {"patch": (5, 7, 11), "batch_size": 4, "seed": 3}
STEPS = 9  # six epochs of the three


def taken(batch: Any) -> list[tuple[int, int, str, bytes, bytes]]:
    places = zip(batch.samples, batch.image, batch.label, strict=True)
    return [(s.index, s.epoch, s.volume, image.tobytes(), label.tobytes()) for s, image, label in places]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, store_maker: Callable[..., Any], start_server: Callable[..., Any]) -> Any:
    """A server of all five."""
    return start_server(store_maker(tmp_path_factory.mktemp("whole") / "five.zarr", SHAPES))


@pytest.fixture(scope="module")
def wanted(tmp_path_factory: pytest.TempPathFactory, store_maker: Callable[..., Any], start_server: Callable[..., Any]) -> list[Any]:
    """What a server holding only the first three answers; their voxels are those of the five."""
    alone = start_server(store_maker(tmp_path_factory.mktemp("alone") / "three.zarr", {id_: SHAPES[id_] for id_ in sorted(CHOSEN)}))
    with connect(str(alone.server.address)) as server, server.stream(RECIPE, steps=STEPS, **HOW) as stream:
        return [taken(batch) for batch in stream]


@pytest.mark.parametrize("transport", ["grpc", "local"])
def test_a_selection_is_the_stream_of_a_dataset_without_the_others(whole: Any, wanted: list[Any], transport: str) -> None:
    with connect(str(whole.server.address)) as server:
        with server.stream(RECIPE, steps=STEPS, volumes=CHOSEN, transport=transport, **HOW) as stream:
            assert [taken(batch) for batch in stream] == wanted
        index, _, volume, image, label = wanted[7][2]
        patch = server.sample(RECIPE, index=index, patch=HOW["patch"], seed=HOW["seed"], volumes=CHOSEN[::-1])
        assert (patch.sample.volume, patch.image.tobytes(), patch.label.tobytes()) == (volume, image, label)  # type: ignore[union-attr]


def test_shares_of_a_selection_are_its_whole_batches(whole: Any, wanted: list[Any]) -> None:
    fleet = ["10.0.0.1:1", "10.0.0.2:1", "10.0.0.3:1"]
    merged: dict[int, str] = {}
    for member in fleet:
        request = pb.StreamBatchesRequest(
            recipe=RECIPE.proto, volumes=CHOSEN, steps=STEPS, share=pb.Share(members=fleet, member=member), delivery=pb.PARTS, **HOW
        )
        for part in whole.stub.StreamBatches(request):
            merged |= {sample.index: sample.volume for sample in part.header.samples}
    assert merged == {index: volume for batch in wanted for index, _, volume, *_ in batch}


def test_no_other_volume_stands_in_for_a_damaged_one(
    tmp_path: Path, store_maker: Callable[..., Any], start_server: Callable[..., Any]
) -> None:
    dataset = store_maker(tmp_path / "five.zarr", SHAPES)
    for file in (dataset.path / "case_0" / "0").rglob("c/*/*/*/*"):
        file.write_bytes(file.read_bytes()[:-7])
    with connect(str(start_server(dataset).server.address)) as server, server.stream(RECIPE, steps=STEPS, volumes=CHOSEN, **HOW) as stream:
        samples = [sample for batch in stream for sample in batch.samples]
    assert {sample.replaces for sample in samples} == {None, "case_0"}
    assert {sample.volume for sample in samples} == {"case_1", "case_2"}


def test_a_state_is_of_its_selection_whatever_the_order(whole: Any, wanted: list[Any]) -> None:
    with connect(str(whole.server.address)) as server:
        with server.stream(RECIPE, volumes=CHOSEN, **HOW) as stream:
            next(stream)
            state = json.loads(json.dumps(stream.state_dict()))
        with server.stream(RECIPE, volumes=sorted(CHOSEN), state=state, **HOW) as stream:
            assert taken(next(stream)) == wanted[1]
        for others in (None, CHOSEN[1:]):
            with pytest.raises(StateError, match="volumes"):
                server.stream(RECIPE, volumes=others, state=state, **HOW)
        with server.stream(RECIPE, **HOW) as stream:
            old = stream.state_dict()
        del old["volumes"]  # as before streams knew of a selection
        assert server.stream(RECIPE, state=old, **HOW).next_step == 0


def test_the_tensorflow_adapter_takes_a_selection(whole: Any, wanted: list[Any]) -> None:
    batches = tensorflow_dataset(str(whole.server.address), RECIPE, steps=2, volumes=CHOSEN, **HOW)
    kept = list(batches)
    assert len(kept) == 2
    for (image, label), batch in zip(kept, wanted[:2], strict=True):
        np.testing.assert_array_equal(image[..., 0].numpy().tobytes(), b"".join(each[3] for each in batch))
        np.testing.assert_array_equal(label.numpy().tobytes(), b"".join(each[4] for each in batch))


def test_volumes_of_other_channels_do_not_disturb_a_selection_without_them(tmp_path: Path, start_server: Callable[..., Any]) -> None:
    with DatasetWriter(tmp_path / "mixed.zarr", modality="ct") as writer:
        for channels, name in ((1, "one"), (2, "two")):
            writer.write(name, np.zeros((channels, 8, 9, 13), np.int16), None, (1.0, 1.0, 1.0), np.eye(4)[[2, 1, 0, 3]], {})
        writer.finish()
    with connect(str(start_server(Dataset.open(tmp_path / "mixed.zarr")).server.address)) as server:
        with pytest.raises(StateError, match=r"\[1, 2\] channels .* `volumes`"):
            next(server.stream(RECIPE, **HOW))
        assert next(server.stream(RECIPE, volumes=["two"], **HOW)).image.shape == (4, 2, *HOW["patch"])


@pytest.mark.parametrize(
    ("volumes", "error", "message"),
    [
        ([], RequestError, r"got \[\]; allowed: a list of different ids"),
        ("case_1", RequestError, r"got 'case_1'; allowed: a list"),
        (["case_1", "case_2", "case_1"], RequestError, "different ids"),
        (["case_1", "csae_2"], NotFoundError, "did you mean 'case_2'"),
    ],
)
def test_a_selection_without_meaning_is_refused_by_the_client(whole: Any, volumes: Any, error: type[Exception], message: str) -> None:
    with connect(str(whole.server.address)) as server:
        with pytest.raises(error, match=message):
            server.stream(RECIPE, volumes=volumes, **HOW)
        with pytest.raises(error, match=message):
            server.sample(RECIPE, index=0, patch=HOW["patch"], volumes=volumes)


@pytest.mark.parametrize(
    ("volumes", "code", "message"),
    [
        (["case_1", "case_2", "case_1"], grpc.StatusCode.INVALID_ARGUMENT, "volumes must be different ids, got 3, 2 of them different"),
        (["csae_2"], grpc.StatusCode.NOT_FOUND, "case_2"),
        (["x" * 300], grpc.StatusCode.INVALID_ARGUMENT, "at most 256 characters, got 300"),
    ],
)
def test_a_selection_without_meaning_is_refused_by_the_server(whole: Any, volumes: list[str], code: grpc.StatusCode, message: str) -> None:
    request = pb.StreamBatchesRequest(patch=HOW["patch"], batch_size=2, volumes=volumes)
    with pytest.raises(grpc.RpcError) as caught:
        next(iter(whole.stub.StreamBatches(request)))
    assert caught.value.code() == code  # type: ignore[attr-defined]
    assert message in caught.value.details()  # type: ignore[attr-defined]
