"""Spans as an OTLP collector receives them: a real collector's service, in this process, fed by the server's exporter."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from typing import Any

import augclient
import grpc
import pytest
from opentelemetry import trace
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.sdk.trace import TracerProvider

from augserver.errors import ConfigError
from augserver.service.tracing import Tracing


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """Keeps every span."""

    def __init__(self) -> None:
        self.spans: list[Any] = []
        self.lock = threading.Lock()

    def Export(self, request: Any, context: Any) -> Any:
        with self.lock:
            self.spans += [span for resource in request.resource_spans for scope in resource.scope_spans for span in scope.spans]
        return trace_service_pb2.ExportTraceServiceResponse()


@pytest.fixture
def collector() -> Iterator[tuple[str, Collector]]:
    servicer = Collector()
    server = grpc.server(futures.ThreadPoolExecutor(2))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"http://127.0.0.1:{port}", servicer
    server.stop(None).wait()


@pytest.mark.parametrize("transport", ["grpc", "local"])
def test_batches_are_spans_of_the_clients_own_trace(
    collector: tuple[str, Collector], dataset: Any, start_server: Callable[..., Any], transport: str
) -> None:
    endpoint, kept = collector
    running = start_server(dataset, metrics={"traces": endpoint})
    tracer = TracerProvider().get_tracer("trainer")
    with augclient.connect(str(running.server.address)) as server, tracer.start_as_current_span("training") as training:
        own = training.get_span_context()
        with server.stream(augclient.Recipe(), patch=(5, 7, 9), batch_size=2, steps=3, transport=transport) as stream:
            assert sum(1 for _ in stream) == 3
    assert running.server.service.wait_idle(10)
    running.server._tracing.close()  # sends what is left
    [call] = [span for span in kept.spans if span.name == "augserver.v1.AugServer/StreamBatches"]
    assert call.trace_id == own.trace_id.to_bytes(16, "big")
    assert call.parent_span_id == own.span_id.to_bytes(8, "big")
    parts = [span for span in kept.spans if span.parent_span_id == call.span_id]
    steps = {name: [span.attributes[0].value.int_value for span in parts if span.name == name] for name in ("wait", "send")}
    assert (steps["wait"][:3], steps["send"]) == ([0, 1, 2], [0, 1, 2])  # one more wait may be for the end
    assert all(call.start_time_unix_nano <= span.start_time_unix_nano <= span.end_time_unix_nano for span in parts)


def test_a_refused_call_is_an_error_that_names_no_volume(
    collector: tuple[str, Collector], dataset: Any, start_server: Callable[..., Any]
) -> None:
    endpoint, kept = collector
    running = start_server(dataset, metrics={"traces": endpoint})
    with augclient.connect(str(running.server.address)) as server, pytest.raises(augclient.errors.NotFoundError):
        server.volume("case_9")
    running.server._tracing.close()
    [call] = [span for span in kept.spans if span.name.endswith("/GetVolume")]
    assert call.status.code == call.status.STATUS_CODE_ERROR
    assert call.status.message == "NotFoundError"
    assert "case" not in str(call)


def test_an_endpoint_of_another_form_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"tracing|http://HOST:PORT"):
        Tracing("localhost:4317")


def test_without_an_endpoint_there_is_no_span(dataset: Any, start_server: Callable[..., Any]) -> None:
    running = start_server(dataset)
    with TracerProvider().get_tracer("trainer").start_as_current_span("training"), augclient.connect(str(running.server.address)) as server:
        assert server.dataset().modality == "ct"
    assert not trace.get_current_span().get_span_context().is_valid
