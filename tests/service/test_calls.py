"""The four calls as plain generated code sees them."""

from __future__ import annotations

import time
from typing import Any

import grpc
import numpy as np
import pytest
from augclient.wire.v1 import augserver_pb2 as pb

RECIPE = pb.Recipe(
    crop=pb.Recipe.Crop(mode="uniform", pad=True),
    affine=pb.Recipe.Affine(rotate_deg=[pb.Range(low=-30, high=30)], reflect=[0.5]),
    noise=pb.Recipe.Noise(std=pb.Range(low=5, high=10)),
    window=pb.Recipe.Window(low=pb.Range(low=-900, high=-800), high=pb.Range(low=400, high=900)),
)


def request(**fields: Any) -> pb.StreamBatchesRequest:
    """Three batches of four patches; `fields` override."""
    return pb.StreamBatchesRequest(**{"recipe": RECIPE, "patch": [5, 7, 11], "batch_size": 4, "seed": 3, "steps": 3} | fields)


def assemble(parts: list[pb.BatchPart]) -> list[tuple[pb.BatchHeader, np.ndarray, np.ndarray | None]]:
    """Batches from parts, by the words of the .proto alone."""
    batches = []
    while parts:
        stop = next(k for k, part in enumerate(parts) if part.last) + 1
        batch, parts = parts[:stop], parts[stop:]
        assert batch[0].HasField("header")
        assert not any(part.HasField("header") for part in batch[1:])
        assert len({part.step for part in batch}) == 1
        header = batch[0].header
        image, label = bytearray(), bytearray()
        for part in batch:
            if part.image:
                assert part.image_offset == len(image)
                image += part.image
            if part.label:
                assert part.label_offset == len(label)
                label += part.label
        batches.append(
            (
                header,
                np.frombuffer(image, header.image_dtype).reshape(header.image_shape),
                np.frombuffer(label, np.uint8).reshape(header.label_shape) if header.label_shape else None,
            )
        )
    return batches


def equal(one: Any, other: Any) -> bool:
    return one[0] == other[0] and one[1].tobytes() == other[1].tobytes() and one[2].tobytes() == other[2].tobytes()


def test_the_dataset_is_described_wholly(running: Any) -> None:
    answer = running.stub.GetDataset(pb.GetDatasetRequest())
    assert answer.fingerprint == running.dataset.fingerprint
    assert answer.modality == "ct"
    assert dict(answer.classes) == {0: "background", 1: "liver", 2: "bone"}
    assert sum(answer.class_voxels.values()) == 8 * 11 * 17 + 9 * 12 * 13 + 10 * 13 * 11
    assert list(answer.spacing_mm) == [3.0, 1.0, 0.5]
    assert [volume.id for volume in answer.volumes] == ["case_1", "case_2", "case_3"]
    second = answer.volumes[1]
    assert list(second.shape) == [1, 9, 12, 13]
    assert (second.dtype, second.has_label) == ("int16", True)
    assert list(second.affine) == [0, 0, 0.5, 7, 0, 1, 0, -3, 3, 0, 0, 11, 0, 0, 0, 1]
    assert sum(second.class_voxels.values()) == 9 * 12 * 13


@pytest.mark.parametrize("part_bytes", [0, 16384])
def test_a_volume_comes_as_ingested(running: Any, part_bytes: int) -> None:
    parts = list(running.stub.GetVolume(pb.GetVolumeRequest(id="case_2", part_bytes=part_bytes)))
    volume = running.dataset.read("case_2")
    assert b"".join(part.image for part in parts) == volume.image.tobytes()
    assert b"".join(part.label for part in parts) == volume.label.tobytes()
    assert parts[0].info == running.stub.GetDataset(pb.GetDatasetRequest()).volumes[1]
    assert [part.last for part in parts] == [False] * (len(parts) - 1) + [True]


def test_a_large_volume_comes_in_parts_of_the_size_asked_for(start_server: Any, tmp_path: Any) -> None:
    affine = np.diag([1.0, 1.0, 1.0, 1.0])
    from augserver.store import Dataset, DatasetWriter

    image = np.arange(40 * 50 * 60, dtype=np.int32).reshape(1, 40, 50, 60).astype(np.int16)
    with DatasetWriter(tmp_path / "one.zarr", modality="mr") as writer:
        writer.write("only", image, None, (1.0, 1.0, 1.0), affine, {})
        writer.finish()
    stub = start_server(Dataset.open(tmp_path / "one.zarr")).stub
    parts = list(stub.GetVolume(pb.GetVolumeRequest(id="only", part_bytes=20_000)))
    assert [len(part.image) for part in parts] == [20_000] * 12
    assert [part.image_offset for part in parts] == list(range(0, 240_000, 20_000))
    assert [part.HasField("info") for part in parts] == [True] + [False] * 11
    assert b"".join(part.image for part in parts) == image.tobytes()
    batch = list(stub.StreamBatches(request(steps=1)))
    assert list(batch[0].header.label_shape) == []  # no labels in this dataset
    assert not any(part.label for part in batch)


def test_parts_and_samples_carry_the_same_batches(running: Any) -> None:
    parts = list(running.stub.StreamBatches(request(part_bytes=16384)))
    samples = list(running.stub.StreamBatches(request(delivery=pb.SAMPLES)))
    assert len(samples) == 3 * 4
    assert [len(part.image) for part in samples] == [5 * 7 * 11 * 4] * 12
    assert [len(part.label) for part in samples] == [5 * 7 * 11] * 12
    one, other = assemble(parts), assemble(samples)
    assert len(one) == 3
    assert all(map(equal, one, other))
    assert [sample.index for header, *_ in one for sample in header.samples] == list(range(12))
    assert {header.fingerprint for header, *_ in one} == {running.dataset.fingerprint}


def test_parts_have_the_size_asked_for(running: Any) -> None:
    parts = list(running.stub.StreamBatches(request(patch=[8, 32, 33], batch_size=2, steps=1, part_bytes=20_000)))
    sizes = [len(part.image) + len(part.label) for part in parts]
    assert sum(sizes) == 2 * 8 * 32 * 33 * 5
    assert set(sizes[:-1]) == {20_000}
    assert 0 < sizes[-1] <= 20_000


@pytest.mark.parametrize(("dtype", "name"), [(pb.FLOAT32, "float32"), (pb.FLOAT16, "float16"), (pb.UINT8, "uint8")])
def test_the_image_has_the_type_asked_for(running: Any, dtype: int, name: str) -> None:
    [(header, image, _)] = assemble(list(running.stub.StreamBatches(request(steps=1, image_dtype=dtype))))
    [(_, exact, _)] = assemble(list(running.stub.StreamBatches(request(steps=1))))
    assert header.image_dtype == name
    scale = 255 if name == "uint8" else 1
    tolerance = {"float32": 0, "float16": 2**-11, "uint8": 0.5 + 1e-4}[name]
    assert np.abs(image.astype(np.float64) - exact.astype(np.float64) * scale).max() <= tolerance
    assert exact.min() >= 0
    assert exact.max() <= 1
    assert exact.std() > 0.1


def test_ranks_share_the_global_batch_in_order(running: Any) -> None:
    whole = assemble(list(running.stub.StreamBatches(request(batch_size=6))))
    ranks = [assemble(list(running.stub.StreamBatches(request(batch_size=6, world=3, rank=rank)))) for rank in range(3)]
    for step in range(3):
        assert np.concatenate([ranks[rank][step][1] for rank in range(3)]).tobytes() == whole[step][1].tobytes()
        assert [s for rank in range(3) for s in ranks[rank][step][0].samples] == list(whole[step][0].samples)


def test_a_stream_may_start_anywhere(running: Any) -> None:
    whole = assemble(list(running.stub.StreamBatches(request(steps=6))))
    late = list(running.stub.StreamBatches(request(start=4, steps=2)))
    assert [part.step for part in late] == [4, 5]
    assert all(map(equal, assemble(late), whole[4:]))


def test_no_steps_is_an_empty_stream(running: Any) -> None:
    assert list(running.stub.StreamBatches(request(steps=0))) == []


def test_one_sample_equals_itself_inside_a_batch(running: Any) -> None:
    batches = assemble(list(running.stub.StreamBatches(request())))
    for index in (0, 5, 11):
        message = running.stub.GetSample(pb.GetSampleRequest(recipe=RECIPE, patch=[5, 7, 11], seed=3, index=index))
        header, image, label = batches[index // 4]
        assert message.last
        assert list(message.header.samples) == [header.samples[index % 4]]
        assert message.image == image[index % 4].tobytes()
        assert message.label == label[index % 4].tobytes()


def test_a_cancelled_stream_gives_everything_back_within_seconds(running: Any) -> None:
    call = running.stub.StreamBatches(request(steps=10**9))
    next(call)
    assert running.server.service.streams == 1
    call.cancel()
    assert running.server.service.wait_idle(10)
    assert running.server.scheduler.statistics().streams == 0
    deadline = time.monotonic() + 10
    while running.server.slots.statistics().reserved_bytes:  # of the batch that a worker had in hand
        assert time.monotonic() < deadline


def test_a_client_that_does_not_read_stops_its_own_stream_alone(running: Any) -> None:
    big = {"patch": [64, 64, 64], "batch_size": 8, "steps": 10**6}
    idle = running.stub.StreamBatches(request(**big))
    next(idle)
    made = running.server.scheduler.statistics().batches
    for _ in range(5):
        assert len(assemble(list(running.stub.StreamBatches(request(steps=40))))) == 40
    # 200 batches were made for others meanwhile, and for the idle one no more than its slots and gRPC's buffers take
    assert running.server.scheduler.statistics().batches - made < 200 + 20
    idle.cancel()
    assert running.server.service.wait_idle(10)


def test_an_unknown_method_is_unimplemented(running: Any) -> None:
    call = running.channel.unary_unary("/augserver.v1.AugServer/Nonsense")
    with pytest.raises(grpc.RpcError) as caught:
        call(b"")
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_a_stride_sends_every_nth_batch_and_ends_with_the_last_one_in_range(running: Any) -> None:
    every = assemble(list(running.stub.StreamBatches(request(steps=8))))
    for stride, start, steps in [(3, 0, 8), (3, 1, 7), (3, 1, 6), (8, 0, 8), (100, 2, 6), (1, 0, 8), (0, 0, 8), (2**64 - 1, 3, 5)]:
        parts = list(running.stub.StreamBatches(request(start=start, steps=steps, stride=stride)))
        wanted = list(range(start, start + steps, stride or 1))
        assert [part.step for part in parts if part.last] == wanted
        got = assemble(parts)
        assert all(equal(one, every[step]) for one, step in zip(got, wanted, strict=True))
