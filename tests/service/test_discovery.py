"""Health and reflection, as the public tools use them; draining, as a load balancer sees it."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from augclient.wire.v1 import augserver_pb2 as pb
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


def stream(**fields: Any) -> pb.StreamBatchesRequest:
    return pb.StreamBatchesRequest(**{"patch": [5, 7, 11], "batch_size": 2} | fields)


@pytest.mark.parametrize("service", ["", "augserver.v1.AugServer"])
def test_a_running_server_says_serving(running: Any, service: str) -> None:
    stub = health_pb2_grpc.HealthStub(running.channel)
    assert stub.Check(health_pb2.HealthCheckRequest(service=service)).status == SERVING


def test_reflection_describes_the_contract_wholly(running: Any) -> None:
    database = ProtoReflectionDescriptorDatabase(running.channel)
    assert set(database.get_services()) >= {"augserver.v1.AugServer", "grpc.health.v1.Health"}
    described = descriptor_pool.DescriptorPool(database).FindServiceByName("augserver.v1.AugServer")
    got, wanted = descriptor_pb2.FileDescriptorProto(), descriptor_pb2.FileDescriptorProto()
    described.file.CopyToProto(got)
    pb.DESCRIPTOR.CopyToProto(wanted)
    assert got == wanted


def test_a_client_that_knows_reflection_alone_gets_the_dataset(running: Any) -> None:
    pool = descriptor_pool.DescriptorPool(ProtoReflectionDescriptorDatabase(running.channel))
    method = pool.FindServiceByName("augserver.v1.AugServer").methods_by_name["GetDataset"]
    answer = message_factory.GetMessageClass(method.output_type)
    call = running.channel.unary_unary(f"/{method.containing_service.full_name}/{method.name}", None, answer.FromString)
    assert call(message_factory.GetMessageClass(method.input_type)().SerializeToString()).fingerprint == running.dataset.fingerprint


def test_a_draining_server_ends_streams_after_the_batch_in_flight(dataset: Any, start_server: Any) -> None:
    running = start_server(dataset)
    pad = pb.Recipe(crop=pb.Recipe.Crop(pad=True))
    # 84 MB a batch, far more than gRPC buffers: the handler is inside a batch while nobody reads
    call = running.stub.StreamBatches(stream(recipe=pad, patch=[64, 64, 128], batch_size=32, steps=10**6))
    parts = [next(call)]
    running.server.drain()
    health = health_pb2_grpc.HealthStub(running.channel)
    assert health.Check(health_pb2.HealthCheckRequest(service="")).status == NOT_SERVING
    with pytest.raises(grpc.RpcError) as refused:
        running.stub.GetDataset(pb.GetDatasetRequest())
    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
    assert "draining" in refused.value.details()
    with pytest.raises(grpc.RpcError) as ended:
        parts.extend(call)
    assert ended.value.code() is grpc.StatusCode.UNAVAILABLE
    assert dict(ended.value.trailing_metadata())["augserver-error"] == "UnavailableError"
    assert parts[-1].last  # whole batches only
    assert {part.step for part in parts} == {0}
    assert sum(len(part.image) for part in parts) == 32 * 64 * 64 * 128 * 4
    assert running.server.service.wait_idle(10)


def test_a_draining_server_lets_a_stream_finish_its_last_batch_in_peace(dataset: Any, start_server: Any) -> None:
    running = start_server(dataset)
    pad = pb.Recipe(crop=pb.Recipe.Crop(pad=True))
    call = running.stub.StreamBatches(stream(recipe=pad, patch=[64, 64, 128], batch_size=32, steps=1))
    parts = [next(call)]
    running.server.drain()
    parts.extend(call)  # ends with OK: nothing is missing
    assert parts[-1].last


def test_stopping_cancels_a_client_that_does_not_read(dataset: Any, start_server: Any) -> None:
    running = start_server(dataset)
    pad = pb.Recipe(crop=pb.Recipe.Crop(pad=True))
    call = running.stub.StreamBatches(stream(recipe=pad, patch=[64, 64, 128], batch_size=32, steps=10**6))
    next(call)
    running.server.drain()
    assert not running.server.service.wait_idle(0.2)
    running.server.stop()
    assert running.server.slots.statistics().reserved_bytes == 0
    with pytest.raises(grpc.RpcError):
        list(call)
