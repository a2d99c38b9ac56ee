"""Bad requests: each gets its status, its class and a message that helps; no work is done and the server lives."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from augclient.wire.v1 import augserver_pb2 as pb

from augserver.config import parse_config
from augserver.errors import BudgetError, ConfigError, StateError
from augserver.kernel import open_backend
from augserver.service.server import Server

WINDOW = {"window": pb.Recipe.Window(low=pb.Range(low=-100, high=-100), high=pb.Range(low=200, high=200))}
NAN = float("nan")


def stream(**fields: Any) -> pb.StreamBatchesRequest:
    return pb.StreamBatchesRequest(**{"patch": [5, 7, 11], "batch_size": 2, "steps": 1} | fields)


def exhaust(answer: Any) -> list[Any]:
    """All messages of an answer, whether one or a stream."""
    return list(answer) if hasattr(answer, "__next__") else [answer]


def refusal(call: Callable[[], Any]) -> tuple[grpc.StatusCode, str, str]:
    """Status, class name and message of a call that must fail."""
    with pytest.raises(grpc.RpcError) as caught:
        exhaust(call())
    error: Any = caught.value
    return error.code(), dict(error.trailing_metadata()).get("augserver-error", ""), error.details()


INVALID, EXHAUSTED = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.RESOURCE_EXHAUSTED


@pytest.mark.parametrize(
    ("fields", "code", "name", "message"),
    [
        ({"patch": []}, INVALID, "PatchError", r"patch"),
        ({"patch": [5, 7]}, INVALID, "PatchError", r"three sizes .* got 2 numbers"),
        ({"patch": [5, 7, 11, 1]}, INVALID, "PatchError", r"three"),
        ({"patch": [5, 0, 11]}, INVALID, "PatchError", r"at least 1"),
        ({"patch": [1] * 100_000}, INVALID, "PatchError", r"three"),
        ({"patch": [9, 7, 11]}, INVALID, "PatchError", r"exceeds volume 'case_1'.*crop\.pad"),
        ({"patch": [2**32 - 1] * 3}, EXHAUSTED, "BudgetError", r"limits\.max_patch_voxels = 134217728"),
        ({"batch_size": 0}, INVALID, "RequestError", r"batch_size.*got 0"),
        ({"batch_size": 1025}, EXHAUSTED, "BudgetError", r"limits\.max_batch_size = 1024"),
        ({"batch_size": 2**32 - 1}, EXHAUSTED, "BudgetError", r"limits\.max_batch_size"),
        (
            {"batch_size": 1024, "patch": [128, 128, 128], "recipe": pb.Recipe(crop=pb.Recipe.Crop(pad=True))},
            EXHAUSTED,
            "BudgetError",
            r"limits\.max_batch_bytes",
        ),
        ({"world": 3}, INVALID, "RequestError", r"world.*got 3"),
        ({"world": 2, "rank": 2}, INVALID, "RequestError", r"rank.*got 2"),
        ({"rank": 1}, INVALID, "RequestError", r"rank.*got 1"),
        ({"start": 2**64 - 1}, INVALID, "RequestError", r"2|63 bits"),
        ({"start": 2**62 - 1, "steps": 1}, INVALID, "RequestError", r"start \+ steps must be at most 4611686018427387903 .*63 bits"),
        ({"steps": 2**64 - 1}, INVALID, "RequestError", r"steps 18446744073709551615"),
        ({"image_dtype": 7}, INVALID, "RequestError", r"image_dtype must be one of FLOAT32, FLOAT16, UINT8, got number 7"),
        ({"image_dtype": pb.UINT8}, INVALID, "RecipeError", r"no \[window\]"),
        ({"delivery": 9}, INVALID, "RequestError", r"delivery must be one of PARTS, SAMPLES"),
        ({"part_bytes": 100}, INVALID, "RequestError", r"part_bytes must be 16384 to 16777216"),
        ({"part_bytes": 2**32 - 1}, INVALID, "RequestError", r"part_bytes"),
        ({"fingerprint": "f" * 5000}, grpc.StatusCode.FAILED_PRECONDITION, "StateError", r"fingerprint 'ffff"),
        ({"recipe": pb.Recipe(noise=pb.Recipe.Noise(std=pb.Range(low=-1, high=1)))}, INVALID, "RecipeError", r"noise\.std"),
        ({"recipe": pb.Recipe(noise=pb.Recipe.Noise(std=pb.Range(low=3, high=1)))}, INVALID, "RecipeError", r"noise\.std"),
        ({"recipe": pb.Recipe(noise=pb.Recipe.Noise(std=pb.Range(low=NAN, high=1)))}, INVALID, "RecipeError", r"noise\.std"),
        ({"recipe": pb.Recipe(crop=pb.Recipe.Crop(mode="centre"))}, INVALID, "RecipeError", r"'center'"),
        ({"recipe": pb.Recipe(labels=pb.Recipe.Labels(keep=["livr"]))}, INVALID, "RecipeError", r"'liver'"),
        ({"recipe": pb.Recipe.FromString(b"\xa2\x06\x01x")}, INVALID, "RecipeError", r"recipe"),  # a field of some later version
    ],
)  # fmt: skip
def test_a_bad_request_is_refused_before_any_work(running: Any, fields: dict[str, Any], code: Any, name: str, message: str) -> None:
    made = running.server.scheduler.statistics().batches
    got = refusal(lambda: running.stub.StreamBatches(stream(**fields)))
    assert got[:2] == (code, name), got
    assert re.search(message, got[2]), got
    assert len(got[2]) < 2000
    assert running.server.scheduler.statistics().batches == made
    assert running.server.slots.statistics().reserved_bytes == 0
    assert len(list(running.stub.StreamBatches(stream()))) >= 1  # alive


def test_get_sample_is_checked_as_strictly(running: Any) -> None:
    for fields, name in [
        ({"patch": [5, 7]}, "PatchError"),
        ({"index": 2**63}, "RequestError"),
        ({"image_dtype": pb.UINT8}, "RecipeError"),
        ({"fingerprint": "other"}, "StateError"),
        ({"recipe": pb.Recipe(crop=pb.Recipe.Crop(pad=True)), "patch": [256, 256, 300]}, "BudgetError"),
    ]:
        got = refusal(lambda: running.stub.GetSample(pb.GetSampleRequest(**{"patch": [5, 7, 11]} | fields)))  # noqa: B023
        assert got[1] == name, got


def test_an_unknown_volume_is_not_found_and_the_nearest_is_named(running: Any) -> None:
    got = refusal(lambda: running.stub.GetVolume(pb.GetVolumeRequest(id="case_22")))
    assert got[:2] == (grpc.StatusCode.NOT_FOUND, "NotFoundError")
    assert "'case_2'" in got[2]
    assert refusal(lambda: running.stub.GetVolume(pb.GetVolumeRequest(id="case_1", part_bytes=3)))[1] == "RequestError"
    assert refusal(lambda: running.stub.GetVolume(pb.GetVolumeRequest(id="case_1" * 100_000)))[1] == "RequestError"


def test_what_is_no_request_at_all_is_an_error_and_no_harm(running: Any) -> None:
    call = running.channel.unary_stream("/augserver.v1.AugServer/StreamBatches")
    got = refusal(lambda: call(b"\xff\xff\xff\xff"))
    assert got == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "RequestError",
        "the request's 4 bytes are no augserver.v1.StreamBatchesRequest message",
    )
    with pytest.raises(grpc.RpcError) as caught:
        list(call(b"\0" * (2 << 20)))  # above limits.max_request_bytes
    assert caught.value.code() is EXHAUSTED
    assert running.stub.GetDataset(pb.GetDatasetRequest()).modality == "ct"


def test_one_stream_more_than_the_budget_is_refused_until_one_ends(dataset: Any, start_server: Any) -> None:
    running = start_server(dataset, streams={"max_streams": 1})
    first = running.stub.StreamBatches(stream(steps=10**9))
    next(first)
    got = refusal(lambda: running.stub.StreamBatches(stream()))
    assert got[:2] == (EXHAUSTED, "BudgetError")
    assert "streams.max_streams = 1" in got[2]
    assert running.stub.GetDataset(pb.GetDatasetRequest()).modality == "ct"
    first.cancel()
    assert running.server.service.wait_idle(10)
    assert len(list(running.stub.StreamBatches(stream()))) == 1


def test_slots_beyond_the_budget_are_refused(dataset: Any, start_server: Any) -> None:
    running = start_server(dataset, streams={"max_slot_bytes": 1 << 20})
    pad = pb.Recipe(crop=pb.Recipe.Crop(pad=True))
    got = refusal(lambda: running.stub.StreamBatches(stream(recipe=pad, patch=[64, 64, 64], steps=9)))
    assert got[:2] == (EXHAUSTED, "BudgetError")
    assert "streams.max_slot_bytes = 1048576" in got[2]


def test_an_unforeseen_error_is_internal_and_tells_nothing_but_an_incident(
    dataset: Any, start_server: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    running = start_server(dataset)

    def fail(*_: Any) -> None:
        raise ZeroDivisionError("secret detail")

    with monkeypatch.context() as patch:
        patch.setattr(running.server.scheduler._backend, "augment", fail)
        with caplog.at_level(logging.ERROR):
            code, name, message = refusal(lambda: running.stub.StreamBatches(stream()))
    assert (code, name) == (grpc.StatusCode.INTERNAL, "AugError")
    assert "secret" not in message
    assert "Traceback" not in message
    incident = re.search(r"incident ([0-9a-f]{12})", message)
    assert incident is not None
    assert any(incident[1] in record.getMessage() and record.exc_info for record in caplog.records)
    assert len(list(running.stub.StreamBatches(stream()))) == 1  # alive


def test_a_damaged_volume_ends_streams_that_need_it_where_none_may_be_lost_and_names_its_folder_in_the_log_alone(
    tmp_path: Path, start_server: Any, store_maker: Any, caplog: pytest.LogCaptureFixture
) -> None:
    dataset = store_maker(tmp_path / "hurt.zarr", {"case_1": (6, 7, 11), "case_2": (6, 7, 12)})
    running = start_server(dataset, quarantine={"max_volumes": 0})
    files = [path for path in (dataset.path / "case_2").rglob("*") if path.is_file() and path.suffix != ".json"]
    for path in files:
        path.write_bytes(path.read_bytes()[:-7])
    code, name, message = refusal(lambda: running.stub.GetVolume(pb.GetVolumeRequest(id="case_2")))
    assert (code, name) == (grpc.StatusCode.DATA_LOSS, "VolumeError")
    assert "case_2" in message
    assert str(tmp_path) not in message
    assert [record.getMessage().count(str(dataset.path / "case_2")) for record in caplog.records if record.levelname == "ERROR"] == [1]
    assert refusal(lambda: running.stub.StreamBatches(stream()))[:2] == (grpc.StatusCode.DATA_LOSS, "VolumeError")
    assert len(list(running.stub.GetVolume(pb.GetVolumeRequest(id="case_1")))) == 1


def test_a_server_that_cannot_work_does_not_start(dataset: Any, running: Any) -> None:
    for sections, kind, message in [
        ({"cache": {"max_bytes": 100}}, BudgetError, r"cache\.max_bytes = 100"),
        ({"listen": {"address": "0.0.0.0:0"}}, ConfigError, "--insecure"),
        ({"listen": {"address": str(running.server.address)}}, StateError, "Address already in use"),
    ]:
        backend = open_backend("cpu", threads=1)
        with pytest.raises(kind, match=message):
            Server(dataset, backend, parse_config({"listen": {"address": "127.0.0.1:0"}} | sections))
        backend.close()


def test_a_sampler_that_the_backend_lacks_is_refused_before_any_work(running: Any, backend_name: str) -> None:
    """The CPU has no filtering units; the recipe itself is one that another server takes."""
    if backend_name == "cuda":
        pytest.skip("this backend has every sampler")
    request = stream(recipe=pb.Recipe(output=pb.Recipe.Output(sampler="texture")))
    status, kind, message = refusal(lambda: running.stub.StreamBatches(request))
    assert (status, kind) == (grpc.StatusCode.INVALID_ARGUMENT, "RecipeError")
    assert message == ("output.sampler: got 'texture', and this server's backend has 'exact'; leave it out, or serve with --backend cuda")
