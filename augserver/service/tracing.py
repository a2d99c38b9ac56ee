"""Spans of calls and batches for OpenTelemetry, as children of the client's own where it sent its trace (W3C traceparent).

    client's span
    '-- augserver.v1.AugServer/StreamBatches
        |-- wait  step 17        until the batch is made
        '-- send  step 17        until gRPC has taken it

Without an endpoint there are no spans and nothing of OpenTelemetry is imported.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from augserver.errors import ConfigError

Timed = Callable[[str, int], AbstractContextManager[None]]  # (what, step) -> a span of that, while the block runs

_FLUSH_MS = 2000  # what a collector that does not answer may cost at the end


def _untimed(what: str, step: int) -> AbstractContextManager[None]:
    return nullcontext()


class Tracing:
    """Makes spans. Thread-safe.

    Args:
        endpoint: of an OTLP collector over gRPC, "http://host:4317" or, with TLS, "https://host:4317"; "": no spans.
    Raises:
        ConfigError: an endpoint of another form, or OpenTelemetry is not installed.
    """

    def __init__(self, endpoint: str) -> None:
        self._provider: Any = None
        if not endpoint:
            return
        if not endpoint.startswith(("http://", "https://")):
            raise ConfigError(f"metrics.traces must be http://HOST:PORT or https://HOST:PORT of an OTLP collector, got {endpoint!r}")
        try:
            from opentelemetry import trace
            from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
            from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
        except ImportError as error:
            raise ConfigError(f"metrics.traces needs OpenTelemetry ({error}): pip install 'augserver[otel]', or leave it out") from error
        self._trace = trace
        self._propagator = TraceContextTextMapPropagator()
        self._provider = TracerProvider(resource=Resource.create({"service.name": "augserver"}))
        exporter = OTLPSpanExporter(endpoint=endpoint, insecure=endpoint.startswith("http://"))
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("augserver")

    @contextmanager
    def call(self, method: str, metadata: Mapping[str, str]) -> Iterator[Timed]:
        """A span of one call; what it gives makes spans of its parts.

        Args:
            method: "Service/Method".
            metadata: of the call.
        """
        if self._provider is None:
            yield _untimed
            return
        trace = self._trace
        # Not made current: a handler's generator may be resumed by another thread, whose context is not this one's.
        span = self._tracer.start_span(method, context=self._propagator.extract(metadata), kind=trace.SpanKind.SERVER)
        inside = trace.set_span_in_context(span)

        @contextmanager
        def timed(what: str, step: int) -> Iterator[None]:
            part = self._tracer.start_span(what, context=inside, attributes={"augserver.step": step})
            try:
                yield
            finally:
                part.end()

        try:
            yield timed
        except Exception as error:
            span.set_status(trace.StatusCode.ERROR, type(error).__name__)  # not its message, which may name a volume
            raise
        finally:
            span.end()

    def close(self) -> None:
        """Send what is left, for two seconds at most."""
        if self._provider is not None:
            self._provider.force_flush(_FLUSH_MS)
            self._provider.shutdown()
