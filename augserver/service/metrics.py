"""The server's counters for Prometheus, over HTTP on a port of its own.

Names and units follow Prometheus's conventions: base units (seconds, bytes), `_total` for what only grows. Nothing here names a volume, a
file or a caller. Every value is read from the `statistics()` of its owner when it is asked for; nothing is kept twice.
"""

from __future__ import annotations

import importlib.metadata
import logging
import socket
import sys
import threading
import time
from collections.abc import Iterator
from socketserver import ThreadingMixIn
from typing import Any, Protocol
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client import CollectorRegistry, make_wsgi_app
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from augserver.errors import StateError
from augserver.kernel import DeviceStatistics
from augserver.pipeline.batch_slots import SlotPool
from augserver.pipeline.quarantine import Quarantine
from augserver.pipeline.scheduler import Scheduler
from augserver.pipeline.stage_clock import StageClock
from augserver.pipeline.volume_cache import VolumeCache
from augserver.service.address import Address
from augserver.service.aug_service import AugService
from augserver.service.verdict import Verdict
from augserver.transport import LocalStatistics

_log = logging.getLogger(__name__)

_PAUSE_S = 0.1  # after a connection that could not be taken: without a descriptor for it the socket stays ready


class Observed(Protocol):
    """What the endpoint reads of a server."""

    backend_description: str
    clock: StageClock
    scheduler: Scheduler
    service: AugService
    slots: SlotPool
    cache: VolumeCache
    quarantine: Quarantine

    def local_statistics(self) -> LocalStatistics | None: ...

    def verdict(self) -> Verdict: ...

    def devices(self) -> tuple[DeviceStatistics, ...]: ...


class MetricsEndpoint:
    """Answers GET /metrics from construction to close().

    Args:
        server: whose counters.
        address: where to listen; port 0 picks one.
    Raises:
        StateError: the address cannot be listened on.
    """

    def __init__(self, server: Observed, address: Address) -> None:
        registry = CollectorRegistry()
        registry.register(ServerCollector(server))
        try:
            self._http = _HttpServer(address)
        except OSError as error:
            raise StateError(f"cannot listen on {address} for metrics: {error.strerror}; pick another --metrics-port") from error
        self._http.set_app(make_wsgi_app(registry))
        self.address = Address(address.host, self._http.server_port)
        self.url = f"http://{self.address}/metrics"
        self._thread = threading.Thread(target=self._http.serve_forever, name="metrics", daemon=True)
        try:
            self._thread.start()
        except BaseException:
            self._http.server_close()
            raise

    def close(self) -> None:
        """Stop answering; the port is free when this returns."""
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()


class _HttpServer(ThreadingMixIn, WSGIServer):
    """A thread for each request; one that finds no descriptor or no thread is dropped and logged, once."""

    daemon_threads = True

    def __init__(self, address: Address) -> None:
        self.address_family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
        self._told = False
        super().__init__((address.host, address.port), _SilentHandler)

    def get_request(self) -> tuple[socket.socket, Any]:
        """The next connection."""
        try:
            return super().get_request()
        except OSError as error:
            self._tell(error)
            time.sleep(_PAUSE_S)
            raise

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A request was dropped: its client went away, or there is no thread for it."""
        error = sys.exc_info()[1]
        if not isinstance(error, ConnectionError):
            self._tell(error)

    def _tell(self, error: BaseException | None) -> None:
        if not self._told:
            self._told = True
            _log.warning("a request for metrics was not answered: %s (said once)", error)


class _SilentHandler(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass


class ServerCollector(Collector):
    """Reads a server whenever Prometheus asks."""

    def __init__(self, server: Observed) -> None:
        self._server = server
        self._backend = server.backend_description
        self._lock = threading.Lock()

    def collect(self) -> Iterator[Metric]:
        """All metrics of this moment."""
        server = self._server
        stages = server.clock.statistics()
        seconds = CounterMetricFamily("augserver_stage_seconds", "Time that a stage took, all threads together.", labels=["stage"])
        sizes = CounterMetricFamily("augserver_stage_bytes", "Bytes that passed a stage.", labels=["stage"])
        for stage, each in stages.items():
            seconds.add_metric([stage], each.seconds)
            sizes.add_metric([stage], each.size_bytes)
        yield from (seconds, sizes)

        scheduler, calls = server.scheduler.statistics(), server.service.statistics()
        yield _counter("augserver_batches", "Batches made.", scheduler.batches)
        yield _gauge("augserver_streams", "Streams that are open.", calls.streams)
        yield _gauge("augserver_streams_limit", "Streams that may be open.", calls.max_streams)
        yield _counter("augserver_calls_refused", "Calls refused for a budget or while draining.", calls.refused)
        yield _gauge("augserver_runnable_streams", "Streams with a batch to make and a slot to make it in.", scheduler.runnable)

        slots = server.slots.statistics()
        states = GaugeMetricFamily("augserver_slots", "Slots for batches, by what they are doing.", labels=["state"])
        for state in ("free", "filling", "ready", "leased"):
            states.add_metric([state], getattr(slots, state))
        yield states
        yield _gauge("augserver_slots_reserved_bytes", "Memory of all slots.", slots.reserved_bytes)
        yield _gauge("augserver_slots_limit_bytes", "Memory that slots may take.", slots.max_bytes)

        cache = server.cache.statistics()
        yield _counter("augserver_cache_hits", "Volumes that were in the cache when a batch needed them.", cache.hits)
        yield _counter("augserver_cache_misses", "Volumes that had to be decoded.", cache.misses)
        yield _counter("augserver_cache_evictions", "Volumes that made room for others.", cache.evictions)
        yield _gauge("augserver_cache_volumes", "Volumes in the cache.", cache.volumes)
        yield _gauge("augserver_cache_used_bytes", "Memory of cached volumes.", cache.used_bytes)
        yield _gauge("augserver_cache_limit_bytes", "Memory that cached volumes may take.", cache.max_bytes)

        quarantine = server.quarantine.statistics()
        yield _gauge("augserver_quarantined_volumes", "Volumes that were found damaged.", quarantine.volumes)
        yield _counter("augserver_replaced_samples", "Samples made of another volume than planned.", quarantine.replaced_samples)

        warp = server.service.warps.statistics()
        yield _gauge("augserver_warp_used_bytes", "Memory of volumes that clients sent to be warped.", warp.used_bytes)
        local = server.local_statistics()
        if local is not None:
            yield _gauge("augserver_local_clients", "Clients that share memory with the server.", local.peers)
            yield _gauge("augserver_local_leases", "Slots that those clients hold.", local.leases)
            yield _counter("augserver_local_refused", "Clients that the local socket refused.", local.refused)
        yield from self._devices()

        verdict = GaugeMetricFamily("augserver_limited_by", "1 for what limited the streams in the last interval.", labels=["stage"])
        judged = server.verdict()
        if judged.limited_by:
            verdict.add_metric([judged.limited_by], 1)
        yield verdict
        build = {"version": importlib.metadata.version("augserver"), "backend": self._backend}
        yield InfoMetricFamily("augserver_build", "What runs here.", build)

    def _devices(self) -> Iterator[Metric]:
        families: dict[str, tuple[str, Any]] = {
            "waiting": ("augserver_gpu_queue_waiting", "Batches that wait for the GPU."),
            "in_flight": ("augserver_gpu_queue_in_flight", "Batches on the GPU."),
            "volume_bytes": ("augserver_gpu_memory_volume_bytes", "GPU memory of volumes that stay there."),
            "max_volume_bytes": ("augserver_gpu_memory_volume_limit_bytes", "GPU memory that volumes may take."),
        }
        devices = self._server.devices()
        for field, (name, text) in families.items():
            gauge = GaugeMetricFamily(name, text, labels=["device"])
            for each in devices:
                gauge.add_metric([each.name], getattr(each, field))
            yield gauge
        uploaded = CounterMetricFamily("augserver_gpu_uploaded_bytes", "Volumes copied to the GPU.", labels=["device"])
        for each in devices:
            uploaded.add_metric([each.name], each.uploaded_bytes)
        yield uploaded


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, value=value)


def _counter(name: str, text: str, value: float) -> CounterMetricFamily:
    return CounterMetricFamily(name, text, value=value)
