"""The methods of augserver.v1.AugServer, on top of the pipeline.

A handler checks its request, waits for batches and encodes them; computing happens on the scheduler's threads. gRPC takes one
message at a time from a handler, so a client that does not read stops its own handler, then its own stream, and nobody else.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from augclient.wire.methods import SERVICE
from augclient.wire.parts import encode_payload, split_payload
from augclient.wire.v1 import augserver_pb2 as pb
from numpy.typing import NDArray

from augserver.config import ServerConfig
from augserver.errors import AugError, BudgetError, UnavailableError
from augserver.pipeline.quarantine import Quarantine
from augserver.pipeline.scheduler import Batch, BatchStream, Scheduler, StreamSpec
from augserver.pipeline.volume_cache import VolumeCache
from augserver.service.access import Access
from augserver.service.faults import Faults
from augserver.service.idle_watch import IdleWatch
from augserver.service.local_delivery import LocalDelivery
from augserver.service.messages import dataset_message, header_message, volume_message
from augserver.service.requests import BatchRequest, RequestReader
from augserver.service.tracing import Timed, Tracing
from augserver.service.warp_calls import WarpCalls
from augserver.store import Dataset
from augserver.transport import LocalPeer
from augserver.volume import VolumeInfo


@dataclass(frozen=True, slots=True, kw_only=True)
class CallStatistics:
    """Streams that are open, how many may be, and calls refused since the start for a budget or while draining."""

    streams: int
    max_streams: int
    refused: int


class AugService:
    """Answers calls; thread-safe. `drain` makes it refuse new calls and end the running streams after the batch in flight."""

    def __init__(
        self,
        dataset: Dataset,
        cache: VolumeCache,
        quarantine: Quarantine,
        scheduler: Scheduler,
        warps: WarpCalls,
        local: LocalDelivery,
        access: Access,
        tracing: Tracing,
        config: ServerConfig,
        *,
        samplers: Sequence[str],
    ) -> None:
        self._dataset = dataset
        self._cache = cache
        self._quarantine = quarantine
        self._scheduler = scheduler
        self.warps = warps
        self._access = access
        self._tracing = tracing
        self._idle = IdleWatch(config.streams.idle_s, scheduler.clock)
        self._clock = scheduler.clock
        self._max_streams = config.streams.max_streams
        self._max_peer_streams = config.streams.max_peer_streams
        self._reader = RequestReader(dataset, config.limits, samplers)
        self._faults = Faults(dataset.path)
        self._local = local
        self._description = dataset_message(dataset)
        self._description.peers.extend(config.listen.peers.split(",") if config.listen.peers else ())
        self._description.local_socket = local.path
        self._description.local_reason = self._faults.public_message(local.reason)
        self._calls = threading.Condition()
        self._streams: Counter[str] = Counter()  # of each peer
        self._running = 0
        self._refused = 0
        self._draining = False

    def get_dataset(self, request: pb.GetDatasetRequest, context: Any) -> pb.Dataset:
        """GetDataset."""
        with self._faults.mapped(context), self._call("GetDataset", context, stream=False):
            answer = pb.Dataset()
            answer.CopyFrom(self._description)
            for id_, error in self._quarantine.errors().items():
                answer.quarantined.add(id=id_, reason=self._faults.public_message(str(error)))
            return answer

    def get_volume(self, request: pb.GetVolumeRequest, context: Any) -> Iterator[bytes]:
        """GetVolume: the volume as ingested, in parts."""
        with self._faults.mapped(context), self._call("GetVolume", context, stream=True):
            yield from self._idle.watched(self._volume_parts(*self._reader.read_volume(request)), context)

    def stream_batches(self, request: pb.StreamBatchesRequest, context: Any) -> Iterator[bytes]:
        """StreamBatches: batches in order, each in parts or by sample."""
        with self._faults.mapped(context), self._call("StreamBatches", context, stream=True) as timed:
            checked = self._reader.read_stream(request)
            peer = self._local.find_peer(request)
            with self._open(checked.spec, context, leases=request.local.leases) as stream:
                if peer is not None:
                    self._local.hand_over(peer, stream)
                yield from self._idle.watched(self._batches(checked, stream, peer, timed), context)

    def get_sample(self, request: pb.GetSampleRequest, context: Any) -> bytes:
        """GetSample: one sample, one message."""
        with self._faults.mapped(context), self._call("GetSample", context, stream=False):
            checked = self._reader.read_sample(request)
            with self._open(checked.spec, context) as stream:
                while (batch := stream.next_batch()) is not None:
                    with batch:
                        [message] = self._encode(checked, batch)
            return message

    def warp(self, messages: Iterator[bytes], context: Any) -> Iterator[bytes]:
        """Warp: the caller's volumes in, results out, in order."""
        with self._faults.mapped(context), self._call("Warp", context, stream=True):
            yield from self._idle.watched(self.warps.serve(messages, context), context)

    def drain(self) -> None:
        """Refuse new calls from now on and end each running stream after the batch, or the items, that it is sending."""
        with self._calls:
            self._draining = True
        self.warps.drain()

    def wait_idle(self, timeout_s: float) -> bool:
        """Wait until no call is running; False if that took longer than `timeout_s`."""
        with self._calls:
            return self._calls.wait_for(lambda: self._running == 0, timeout_s)

    @property
    def streams(self) -> int:
        """Streams that are open now."""
        return self.statistics().streams

    def statistics(self) -> CallStatistics:
        """Counters at this moment."""
        with self._calls:
            return CallStatistics(streams=self._streams.total(), max_streams=self._max_streams, refused=self._refused)

    @contextmanager
    def _call(self, method: str, context: Any, *, stream: bool) -> Iterator[Timed]:
        """Count a call while it runs, and give what makes spans of its parts; refuse it while draining or beyond a budget."""
        peer = self._access.peer(context)
        with self._calls:
            try:
                self._check_draining()
                if stream:
                    self._check_streams(peer)
            except AugError:
                self._refused += 1
                raise
            self._streams[peer] += stream
            self._running += 1
        try:
            with self._tracing.call(f"{SERVICE}/{method}", dict(context.invocation_metadata())) as timed:
                yield timed
        finally:
            with self._calls:
                self._running -= 1
                self._streams[peer] -= stream
                self._streams += Counter()  # forgets peers that have none
                self._calls.notify_all()

    def _check_streams(self, peer: str) -> None:
        if (everybody := self._streams.total()) >= self._max_streams:
            raise BudgetError(
                f"{everybody} streams are open, the budget is streams.max_streams = {self._max_streams}; "
                "close a stream, connect to another server, or raise the budget"
            )
        if self._max_peer_streams and (own := self._streams[peer]) >= self._max_peer_streams:
            raise BudgetError(
                f"{own} streams of yours ({peer}) are open, the budget is streams.max_peer_streams = {self._max_peer_streams}; "
                "close one of them, or have the budget raised"
            )

    def _check_draining(self) -> None:
        if self._draining:
            raise UnavailableError("the server is draining; connect to another one, or to this one when it is back, and resume by step")

    @contextmanager
    def _open(self, spec: StreamSpec, context: Any, *, leases: int = 0) -> Iterator[BatchStream]:
        """A stream that ends with its call, however that ends: a client that dies must not leave a handler waiting."""
        self._cache.require_fit(self._dataset.volumes)
        with self._scheduler.open(spec, leases=leases) as stream:
            if not context.add_callback(stream.close):
                raise UnavailableError("the call ended before its first batch")
            yield stream

    def _volume_parts(self, info: VolumeInfo, part_bytes: int) -> Generator[bytes, None, None]:
        header: bytes | None = volume_message(info).SerializeToString()
        label_bytes = int(np.prod(info.shape[1:])) if info.has_label else 0
        for stretch in split_payload(info.size_bytes - label_bytes, label_bytes, part_bytes):
            # Leased for one part at a time: a client that stops reading pins no memory.
            with self._cache.lease(info.id) as volume:
                [part] = encode_payload(0, header, _bytes_of(volume.image), _bytes_of(volume.label), iter([stretch]))
            header = None
            yield part
            if not stretch.last:
                self._check_draining()

    def _batches(self, checked: BatchRequest, stream: BatchStream, peer: LocalPeer | None, timed: Timed) -> Generator[bytes, None, None]:
        step = checked.spec.start
        while True:
            with timed("wait", step):
                batch = stream.next_batch()
            if batch is None:
                return
            with timed("send", step):
                if peer is not None and batch.params:  # a share without a sample lies nowhere
                    yield self._local.refer(peer, batch, self._header(batch))
                else:
                    with batch:
                        yield from self._clock.timed_each("copy", self._encode(checked, batch))
            step += checked.spec.stride
            if step < checked.spec.stop:
                self._check_draining()

    def _encode(self, request: BatchRequest, batch: Batch) -> Iterator[bytes]:
        header = self._header(batch).SerializeToString()
        return encode_payload(batch.step, header, _bytes_of(batch.image), _bytes_of(batch.label), request.split(len(batch.params)))

    def _header(self, batch: Batch) -> pb.BatchHeader:
        return header_message(batch.image, batch.label, batch.params, self._dataset.fingerprint)


def _bytes_of(array: NDArray[Any] | None) -> Any:
    """A flat view of the array's bytes; the wire is little-endian, as is every machine that we run on."""
    return None if array is None else array.reshape(-1).view(np.uint8).data
