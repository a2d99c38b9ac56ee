"""A running server: dataset, backend, pipeline and gRPC put together, started and stopped.

start   everything that can fail is made before the port is bound; the port is bound last
drain   health says NOT_SERVING, new calls get UNAVAILABLE, streams end after the batch in flight
stop    the rest is cancelled; threads, sockets and memory are gone when `stop` returns
"""

from __future__ import annotations

import os
import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from augclient.serving_child import Ready
from augclient.wire.methods import SERVICE, server_options, service_handler
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from augserver.config import ServerConfig
from augserver.errors import BudgetError, StateError
from augserver.kernel import Backend, DeviceStatistics
from augserver.pipeline.batch_slots import SlotPool
from augserver.pipeline.host_memory import read_available_bytes
from augserver.pipeline.quarantine import Quarantine
from augserver.pipeline.scheduler import Scheduler
from augserver.pipeline.stage_clock import StageClock
from augserver.pipeline.volume_cache import VolumeCache
from augserver.service.access import Access, AccessInterceptor
from augserver.service.address import Address, parse_address, parse_metrics_address, require_closed, require_free
from augserver.service.aug_service import AugService
from augserver.service.call_threads import start_call_threads
from augserver.service.local_delivery import open_local_delivery
from augserver.service.metrics import MetricsEndpoint
from augserver.service.tls import open_credentials
from augserver.service.tokens import TokenFile
from augserver.service.tracing import Tracing
from augserver.service.verdict import Verdict, VerdictLog
from augserver.service.warp_calls import WarpCalls
from augserver.store import Dataset
from augserver.transport import LocalStatistics
from augserver.volume import Volume

_SPARE_THREADS = 16  # beside one per stream: GetDataset, GetSample, health and reflection are short
_START_DESCRIPTORS = 32  # gRPC, zarr, the local socket and the metrics take about 20
_FORCED_STOP_S = 5.0  # for handlers to see that their call was cancelled


class Server:
    """Serves one dataset on one address until `stop`.

    Args:
        dataset: opened; of one volume or more.
        backend: closed by `stop`.
        config: all settings.
    Raises:
        ConfigError: an address that is none, or an open one that nobody insists on; a certificate or token file that cannot be used.
        NotFoundError: a certificate or token file that is not there.
        StateError: the address is taken, the dataset has no volumes, or the system refuses what gRPC takes.
        BudgetError: a volume is larger than the cache, or the system gives fewer threads or descriptors than it takes.

    When the constructor raises, nothing that it opened is left; the backend stays its caller's.
    """

    def __init__(self, dataset: Dataset, backend: Backend, config: ServerConfig) -> None:
        address = parse_address(config.listen.address)
        require_closed(address, config.security, insecure=config.listen.insecure)
        metrics_address = parse_metrics_address(config)
        credentials = open_credentials(config.security)
        access = Access(TokenFile(Path(config.security.token_file)) if config.security.token_file else None)
        require_free(address)
        _require_messages()
        _require_descriptors()
        if not dataset.volumes:
            raise StateError(f"dataset {dataset.path} holds no volumes; add some with `augserver ingest SRC --out {dataset.path.name}`")
        self._backend = backend
        self.backend_description = backend.description
        self._volumes = len(dataset.volumes)
        self.clock = StageClock()
        with ExitStack() as undo:
            self._build_pipeline(dataset, config, undo)
            self._tracing = Tracing(config.metrics.traces)
            undo.callback(self._tracing.close)
            self._verdicts = VerdictLog(self.clock.statistics, config.metrics.verdict_s)
            undo.callback(self._verdicts.close)
            self._local = open_local_delivery(config.local, config.streams.max_streams)
            undo.callback(self._local.close)  # in `stop`, clients see the end of their call before that of their socket
            self.service = AugService(
                dataset,
                self.cache,
                self.quarantine,
                self.scheduler,
                WarpCalls(backend, config),
                self._local,
                access,
                self._tracing,
                config,
                samplers=backend.samplers,
            )
            self._health = health.HealthServicer()
            threads = config.streams.max_streams + _SPARE_THREADS
            pool = start_call_threads(threads)
            undo.callback(pool.shutdown, wait=False, cancel_futures=True)
            self._grpc = self._build_grpc(config, access, pool, threads)
            self.metrics: MetricsEndpoint | None = None
            if metrics_address is not None:
                self.metrics = MetricsEndpoint(self, metrics_address)
                undo.callback(self.metrics.close)
            self.port = _bind(self._grpc, address, credentials)
            self._closing = undo.pop_all()
        self.address = Address(address.host, self.port)

    def start(self) -> None:
        """Answer calls from now on."""
        self._grpc.start()
        for name in ("", SERVICE):
            self._health.set(name, health_pb2.HealthCheckResponse.SERVING)

    def drain(self) -> None:
        """Say NOT_SERVING, refuse new calls, and let streams end after the batch that they are sending; returns at once."""
        self._health.enter_graceful_shutdown()
        self.service.drain()

    def stop(self) -> None:
        """Cancel what still runs and free everything."""
        self._grpc.stop(grace=None)
        self.scheduler.close()  # wakes handlers that wait for a batch
        self.service.wait_idle(_FORCED_STOP_S)
        self._grpc.stop(grace=None).wait()
        self._closing.close()
        self._backend.close()

    def ready(self) -> Ready:
        """What a process that started this one is told."""
        return Ready(
            address=str(self.address),
            backend=self._backend.name,
            device=self._backend.device,
            threads=self._backend.threads,
            volumes=self._volumes,
            metrics=None if self.metrics is None else self.metrics.url,
        )

    def verdict(self) -> Verdict:
        """What limited the streams since the last line of the log that said so."""
        return self._verdicts.now()

    def devices(self) -> tuple[DeviceStatistics, ...]:
        """GPUs at this moment."""
        return self._backend.devices()

    def local_statistics(self) -> LocalStatistics | None:
        """Clients on the local socket; None where there is none."""
        return self._local.statistics()

    def _build_pipeline(self, dataset: Dataset, config: ServerConfig, undo: ExitStack) -> None:
        """From volumes on disk to batches in slots."""
        backend = self._backend

        def read(volume_id: str) -> Volume:
            with self.clock.timed("store", dataset.info(volume_id).size_bytes):
                return dataset.read(volume_id, allocate=backend.allocate)  # where it goes up to a GPU from without a copy between

        self.cache = VolumeCache(dataset.info, read, config.cache.max_bytes or read_available_bytes() // 2)
        self.cache.require_fit(dataset.volumes)
        self.quarantine = Quarantine(config.quarantine.budget(len(dataset.volumes)))
        self.slots = SlotPool(
            config.streams.max_slot_bytes,
            lambda size: backend.allocate((size,), np.uint8),
            share=lambda pages: backend.share(pages),
            max_ring_bytes=config.streams.max_stream_bytes,
        )
        workers = config.streams.workers or backend.concurrency + 1  # one more: it waits for a decode while the others compute
        look_ahead = config.streams.look_ahead or workers
        self.scheduler = Scheduler(backend, self.cache, self.quarantine, self.slots, self.clock, look_ahead=look_ahead, workers=workers)
        undo.callback(self.scheduler.close)

    def _build_grpc(self, config: ServerConfig, access: Access, pool: ThreadPoolExecutor, threads: int) -> Any:
        timeout_ms = round(config.listen.keepalive_timeout_s * 1000)
        options = dict(server_options())
        options |= {
            "grpc.max_receive_message_length": config.limits.max_request_bytes,
            "grpc.max_send_message_length": config.limits.max_message_bytes,
            "grpc.keepalive_time_ms": round(config.listen.keepalive_s * 1000),
            "grpc.keepalive_timeout_ms": timeout_ms,
            "grpc.http2.ping_timeout_ms": timeout_ms,  # or a ping is waited for as long as server_options() says
        }
        # Beyond one call per thread gRPC answers RESOURCE_EXHAUSTED instead of queueing without bound.
        interceptors = (AccessInterceptor(access),)
        server = grpc.server(pool, options=list(options.items()), maximum_concurrent_rpcs=threads, interceptors=interceptors)
        service = self.service
        handler = service_handler(
            get_dataset=service.get_dataset,
            get_volume=service.get_volume,
            stream_batches=service.stream_batches,
            get_sample=service.get_sample,
            warp=service.warp,
        )
        server.add_generic_rpc_handlers((handler,))
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        reflection.enable_server_reflection((SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME), server)
        return server


def _require_descriptors() -> None:
    """Refuse to start on a handful of descriptors: gRPC ends its process, with no word for people, where it finds none at its start."""
    with ExitStack() as stack:
        try:
            for _ in range(_START_DESCRIPTORS):
                stack.enter_context(open(os.devnull, "rb"))
        except OSError as error:
            raise BudgetError(
                f"a server takes {_START_DESCRIPTORS} descriptors to start and one or two for each client ({error.strerror}); "
                "raise the limit (ulimit -n)"
            ) from error


def _require_messages() -> None:
    """Refuse a sandbox in which gRPC would listen and answer nobody."""
    one, other = socket.socketpair()
    with one, other:
        try:
            one.sendmsg([b"x"])
            other.recvmsg(1)
        except OSError as error:
            raise StateError(
                f"the system refuses sendmsg or recvmsg ({error.strerror}), with which gRPC sends and reads; allow them in the sandbox"
            ) from error


def _bind(server: Any, address: Address, credentials: Any | None) -> int:
    try:
        port = server.add_insecure_port(str(address)) if credentials is None else server.add_secure_port(str(address), credentials)
    except RuntimeError as error:
        raise StateError(f"cannot listen on {address}: {error}; pick another address, or use port 0") from error
    return int(port)
