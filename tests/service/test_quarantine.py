"""Volumes that are damaged while they are served: the same replacements from every server, nothing else changed, and all of it told."""

from __future__ import annotations

import errno
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from augclient import Recipe, connect
from augclient.errors import VolumeError
from augclient.wire.v1 import augserver_pb2 as pb

from augserver.augment.sample import SampleParams
from augserver.kernel import open_backend
from augserver.store import Dataset
from augserver.store import dataset as dataset_module

SHAPES = {f"case_{k}": (6 + k, 8, 12 + k) for k in range(5)}
PATCH = (5, 7, 11)
RECIPE = Recipe(crop={"mode": "uniform", "patches_per_volume": 2}, affine={"rotate_deg": [-20, 20]}, noise={"std": [1, 30]})
COUNT = 40  # four epochs

Told = dict[int, tuple[pb.Sample, bytes, bytes]]


def harm(dataset: Dataset, volume_id: str, how: str = "truncated") -> None:
    """Damage the image of a volume, as whoever reads it from now on will find."""
    [file] = [path for path in (dataset.path / volume_id / "0").rglob("*") if path.is_file() and path.suffix != ".json"]
    content = bytearray(file.read_bytes())
    file.unlink()
    if how == "truncated":
        file.write_bytes(content[:-7])
    elif how == "flipped":
        content[len(content) // 2] ^= 0x10
        file.write_bytes(content)


def ask(running: Any, *, batch_size: int = 4, start: int = 0, **fields: Any) -> Told:
    """index -> (provenance, image, label) of the samples of a stream that ends with sample COUNT."""
    steps = COUNT // batch_size - start
    request = pb.StreamBatchesRequest(
        recipe=RECIPE.proto, patch=PATCH, batch_size=batch_size, start=start, steps=steps, seed=3, delivery=pb.SAMPLES, **fields
    )
    told: Told = {}
    for part in running.stub.StreamBatches(request):
        if part.HasField("header"):
            samples = iter(part.header.samples)
        sample = next(samples)
        told[sample.index] = sample, part.image, part.label
    return told


def refusal(call: Callable[[], Any]) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    error: Any = caught.value
    return error.code(), error.details()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, store_maker: Any) -> Dataset:
    return store_maker(tmp_path_factory.mktemp("whole") / "toy.zarr", SHAPES)


@pytest.fixture
def copy(whole: Dataset, tmp_path: Path) -> Callable[[], Dataset]:
    """Copies of the dataset, opened while they are undamaged."""

    def make() -> Dataset:
        path = tmp_path / str(len(list(tmp_path.iterdir()))) / "toy.zarr"
        shutil.copytree(whole.path, path)
        return Dataset.open(path)

    return make


@pytest.fixture(scope="module")
def healthy(whole: Dataset, start_server: Any) -> Told:
    """What a server of the undamaged dataset tells."""
    return ask(start_server(whole))


def recompute(dataset: Dataset, sample: pb.Sample) -> bytes:
    """The image of a sample from its provenance alone."""
    params = SampleParams(
        affine=np.array(sample.affine, np.float32).reshape(3, 4),
        fill=sample.fill,
        noise_std=sample.noise_std,
        noise_key=sample.noise_key,
    )
    backend, image = open_backend("cpu", threads=1), np.empty((1, 1, *PATCH), np.float32)
    backend.augment([dataset.read(sample.volume)], [params], image)
    backend.close()
    return image.tobytes()


@pytest.mark.parametrize("how", ["missing", "truncated", "flipped"])
def test_only_the_samples_of_a_damaged_volume_change_and_say_what_they_are(
    copy: Any, whole: Dataset, healthy: Told, start_server: Any, caplog: pytest.LogCaptureFixture, how: str
) -> None:
    dataset = copy()
    running = start_server(dataset)
    assert not running.stub.GetDataset(pb.GetDatasetRequest()).quarantined
    harm(dataset, "case_2", how)
    with caplog.at_level(logging.INFO):
        told = [ask(running), ask(running)][1]
    assert list(told) == list(healthy) == list(range(COUNT))
    replaced = {index for index, (sample, *_) in told.items() if sample.replaces}
    assert replaced == {index for index, (sample, *_) in healthy.items() if sample.volume == "case_2"}
    assert len(replaced) == COUNT // 5
    for index in set(told) - replaced:
        assert told[index] == healthy[index]
    for index in replaced:
        (sample, image, _), (planned, planned_image, _) = told[index], healthy[index]
        assert (sample.replaces, sample.index, sample.epoch) == ("case_2", index, planned.epoch)
        assert sample.volume in SHAPES.keys() - {"case_2"}
        assert (sample.noise_key, sample.noise_std) == (planned.noise_key, planned.noise_std)  # the same draws
        assert image == recompute(whole, sample) != planned_image
    assert len({told[index][0].volume for index in replaced}) > 1  # not the same stand-in in every epoch

    [line] = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert "volume 'case_2' is set aside" in line
    assert "1 of quarantine.max_volumes = 1" in line
    assert str(dataset.path) in line  # whoever keeps the dataset is told where
    [listed] = running.stub.GetDataset(pb.GetDatasetRequest()).quarantined
    assert listed.id == "case_2"
    assert "volume 'case_2'" in listed.reason
    assert str(dataset.path.parent) not in listed.reason
    statistics = running.server.quarantine.statistics()
    assert (statistics.volumes, statistics.max_volumes, statistics.replaced_samples) == (1, 1, 2 * len(replaced))


def test_servers_agree_whichever_damage_they_meet_first_however_they_are_asked(copy: Any, healthy: Told, start_server: Any) -> None:
    running = []
    for _ in range(2):
        dataset = copy()
        running.append(start_server(dataset, quarantine={"max_volumes": 3}))
        for id_ in ("case_1", "case_3", "case_4"):
            harm(dataset, id_)
    one, other = running
    told = ask(one)
    assert {sample.volume for sample, *_ in told.values()} == {"case_0", "case_2"}
    for index in reversed(range(COUNT)):  # the other meets the damage from the end on
        request = pb.GetSampleRequest(recipe=RECIPE.proto, patch=PATCH, seed=3, index=index)
        part = other.stub.GetSample(request)
        assert (part.header.samples[0], part.image, part.label) == told[index]
    ranks = [ask(other, batch_size=8, world=2, rank=rank) for rank in (0, 1)]
    assert ranks[0] | ranks[1] == told
    assert all(len(rank) == COUNT // 2 for rank in ranks)
    assert ask(other, start=3) == {index: each for index, each in told.items() if index >= 12}  # a resumed stream
    assert any(told[index] != healthy[index] for index in told)


def test_damage_in_the_middle_of_a_job_changes_no_batch_before_or_beside_it(copy: Any, healthy: Told, start_server: Any) -> None:
    dataset = copy()
    # Room for one volume: every change of volumes is a read.
    running = start_server(dataset, cache={"max_bytes": max(dataset.info(id_).size_bytes for id_ in dataset.volumes)})
    assert ask(running) == healthy
    running.server.cache.lease("case_1").release()  # whichever volume came last: case_0 is to be read again
    harm(dataset, "case_0", "flipped")
    told = ask(running)
    assert {index for index in told if told[index] != healthy[index]} == {
        index for index, (sample, *_) in healthy.items() if sample.volume == "case_0"
    }
    assert running.server.cache.statistics().leased == 0


def test_a_fleet_delivers_what_one_server_does_and_tells_the_losses_of_all(copy: Any, start_server: Any) -> None:
    servers = [start_server(dataset, quarantine={"max_volumes": 2}) for dataset in (copy(), copy(), copy())]
    for each in servers:
        harm(each.dataset, "case_1")
        harm(each.dataset, "case_4", "missing")
    told = ask(servers[0])
    stream = {"patch": PATCH, "batch_size": 4, "seed": 3, "steps": COUNT // 4}
    with connect([str(each.server.address) for each in servers[1:]]) as fleet:
        assert fleet.dataset().quarantined == {}
        came = 0
        for batch in fleet.stream(RECIPE, **stream):
            for sample, image in zip(batch.samples, batch.image, strict=True):
                assert image.tobytes() == told[sample.index][1]
                assert (sample.volume, sample.replaces or "") == (told[sample.index][0].volume, told[sample.index][0].replaces)
                came += 1
        assert came == COUNT
        assert list(fleet.dataset().quarantined) == ["case_1", "case_4"]
        with pytest.raises(VolumeError, match="case_4"):
            fleet.volume("case_4")
        assert fleet.volume("case_0").image.shape == (1, *SHAPES["case_0"])


def test_more_losses_than_the_budget_end_every_stream_and_name_the_volumes(
    copy: Any, start_server: Any, caplog: pytest.LogCaptureFixture
) -> None:
    dataset = copy()
    largest = max(dataset.info(id_).size_bytes for id_ in dataset.volumes)
    running = start_server(dataset, cache={"max_bytes": largest})  # room for one volume: every change of volumes is a read
    harm(dataset, "case_1")
    index = next(index for index, (sample, *_) in ask(running).items() if sample.volume == "case_0")  # within the budget of 1
    harm(dataset, "case_3")
    for _ in range(2):
        code, message = refusal(lambda: ask(running))
        assert code == grpc.StatusCode.DATA_LOSS
        assert "2 volumes are damaged, quarantine.max_volumes = 1 may be: 'case_1', 'case_3'; restore them" in message
    assert [each.id for each in running.stub.GetDataset(pb.GetDatasetRequest()).quarantined] == ["case_1", "case_3"]
    assert sum("is set aside" in record.getMessage() for record in caplog.records) == 2
    # a sample of an undamaged volume as well: nobody trains on unawares
    request = pb.GetSampleRequest(recipe=RECIPE.proto, patch=PATCH, seed=3, index=index)
    assert refusal(lambda: running.stub.GetSample(request))[0] == grpc.StatusCode.DATA_LOSS
    assert len(list(running.stub.GetVolume(pb.GetVolumeRequest(id="case_0")))) == 1


def test_a_dataset_without_an_undamaged_volume_is_an_error(tmp_path: Path, store_maker: Any, start_server: Any) -> None:
    dataset = store_maker(tmp_path / "one.zarr", {"only": (6, 8, 12)})
    running = start_server(dataset)
    harm(dataset, "only")
    code, message = refusal(lambda: ask(running))
    assert code == grpc.StatusCode.DATA_LOSS
    assert "every volume of the dataset is damaged" in message


@pytest.mark.parametrize("number", [errno.EIO, errno.EMFILE, errno.ENOMEM, errno.EACCES, errno.ESTALE])
def test_trouble_of_the_machine_ends_the_stream_and_sets_nothing_aside(
    copy: Any, healthy: Told, start_server: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, number: int
) -> None:
    dataset = copy()
    running = start_server(dataset)

    def fail(folder: Path, record: object) -> None:
        raise OSError(number, "trouble", str(folder))

    with monkeypatch.context() as patched:
        patched.setattr(dataset_module, "check_files", fail)
        code, message = refusal(lambda: ask(running))
    assert code == grpc.StatusCode.UNAVAILABLE
    assert "trouble" in message
    assert str(dataset.path.parent) not in message
    assert any("trouble" in record.getMessage() for record in caplog.records if record.levelno == logging.ERROR)
    assert running.server.quarantine.statistics().volumes == 0
    assert ask(running) == healthy  # it has passed


def test_a_dataset_that_is_gone_as_a_whole_is_no_damage_of_its_volumes(copy: Any, healthy: Told, start_server: Any) -> None:
    dataset = copy()
    running = start_server(dataset)
    away = dataset.path.with_name("away")
    dataset.path.rename(away)
    code, message = refusal(lambda: ask(running))
    assert code == grpc.StatusCode.UNAVAILABLE
    assert "is gone as a whole" in message
    away.rename(dataset.path)
    assert ask(running) == healthy
