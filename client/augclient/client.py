"""Connect to a server or several; ask for their dataset, volumes, streams and samples."""

from __future__ import annotations

import logging
import math
import time
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import grpc
import numpy as np
from numpy.typing import NDArray

from augclient.dataset import Dataset, Volume, dataset_from_proto, info_from_proto
from augclient.errors import BudgetError, DeadlineError, RequestError, StateError, UnavailableError, WireError
from augclient.fleet import Fleet
from augclient.fleet.roads import FleetRoad
from augclient.recipe import Recipe
from augclient.stream import Sample, Stream, StreamSpec
from augclient.stream.assembly import BatchAssembler, read_message
from augclient.stream.buffers import BufferPool
from augclient.stream.outage import Outage
from augclient.stream.receiver import Receiver
from augclient.stream.road import Road
from augclient.stream.spec import IMAGE_DTYPES, check_ids, check_int, check_seconds, select_volumes
from augclient.stream.stream import Receiving
from augclient.tls_files import TlsConfig
from augclient.warp import Transform, WarpStream
from augclient.warp.feed import Feed
from augclient.wire.array_filler import ArrayFiller
from augclient.wire.methods import ServiceCalls
from augclient.wire.parts import decode_part
from augclient.wire.silence import SilenceLimit
from augclient.wire.status import CallError
from augclient.wire.v1 import augserver_pb2 as pb

_log = logging.getLogger("augclient")


@dataclass(frozen=True, slots=True, eq=False)
class Patch:
    """One augmented sample.

    Attributes:
        image: float32, float16 or uint8 (C, Z, Y, X).
        label: uint8 (Z, Y, X), or None where the dataset has no labels.
        sample: its provenance.
    """

    image: NDArray[Any]
    label: NDArray[np.uint8] | None
    sample: Sample


def connect(
    address: str | Sequence[str],
    *,
    token: str | None = None,
    tls: TlsConfig | bool | None = None,
    timeout_s: float = 30.0,
    wait_s: float = 0.0,
    receiver: str = "auto",
) -> Server:
    """Connect to a server, or to several of one dataset, and make sure that one answers.

    Several servers share the work of every stream: each computes the samples of the volumes that fall to it. Results are the same bytes.
    A server that is away joins when it answers; servers that name others (`augserver serve --devices`) bring those along.

    Args:
        address: "host:port", "[::1]:port" or "unix:path"; a list of such; "dns:///name:port" for all servers behind a name, asked for
            again while streams run.
        token: secret that the server was started with; needs TLS unless the address is loopback.
        tls: True, or a TlsConfig naming PEM files; None: no encryption.
        timeout_s: for calls with one answer (connect, dataset, sample), and between two parts of a volume; streams and warp() have
            step_timeout_s.
        wait_s: how long to wait for a server that is not there yet.
        receiver: who reads streams and volumes: "own", our own HTTP/2 connections; "grpcio", gRPC's library, which takes more of the
            CPU and is the way back where the other fails; "auto": "own".
    Returns:
        A Server; close() it, or use it in a `with` statement.
    Raises:
        UnavailableError: nothing answers there, wait_s long. StateError: servers hold different datasets. AuthError: the token is wrong.
        ConfigError: an argument that is not allowed.
    """
    wait_s = check_seconds("wait_s", wait_s, zero=True)
    server = Server(address, token=token, tls=tls, timeout_s=timeout_s, receiver=receiver)
    try:
        server._wait_for_dataset(wait_s)
    except BaseException:
        server.close()
        raise
    return server


class Server:
    """A connection; its methods may be called from several threads. connect() makes one."""

    def __init__(
        self,
        address: str | Sequence[str],
        *,
        token: str | None = None,
        tls: TlsConfig | bool | None = None,
        timeout_s: float = 30.0,
        receiver: str = "auto",
    ) -> None:
        self._timeout_s = timeout_s = check_seconds("timeout_s", timeout_s)
        self._fleet = Fleet(address, token=token, tls=tls, timeout_s=timeout_s, receiver=receiver)
        self._address = ", ".join(self._fleet.given)
        self._streams: weakref.WeakSet[Stream | WarpStream] = weakref.WeakSet()
        self._closed = False

    def dataset(self) -> Dataset:
        """What the servers hold now; asks all of them."""
        self._check_open()
        return dataset_from_proto(self._fleet.greet())

    def volume(self, id: str) -> Volume:
        """One whole volume as ingested; NotFoundError names the nearest id."""
        self._check_open()
        request = _volume_request(id)

        def receive(calls: ServiceCalls) -> Volume:
            call = calls.get_volume(request, metadata=self._fleet.metadata)
            silence = SilenceLimit(call, self._timeout_s)
            try:
                return _receive_volume(id, call, silence)
            except grpc.RpcError as error:
                if silence.broken:
                    raise CallError(
                        grpc.StatusCode.DEADLINE_EXCEEDED, f"nothing of volume {id!r} came for timeout_s = {self._timeout_s:g} s"
                    ) from error
                raise
            finally:
                silence.close()
                call.close()

        return self._fleet.ask(receive, volume=id)

    def stream(
        self,
        recipe: Recipe,
        *,
        patch: Sequence[int],
        batch_size: int,
        seed: int = 0,
        start: int = 0,
        steps: int | None = None,
        rank: int = 0,
        world: int = 1,
        stride: int = 1,
        image_dtype: str = "float32",
        transport: str = "auto",
        state: Mapping[str, Any] | None = None,
        prefetch: int = 2,
        writable: bool = False,
        reconnect_s: float = 300.0,
        step_timeout_s: float = 60.0,
        hedge_s: float | None = 5.0,
        volumes: Sequence[str] | None = None,
    ) -> Stream:
        """Batches start, start + stride, ... below start + steps, augmented by `recipe`.

        Args:
            patch: (Z, Y, X) voxels of the output; 2-D is Z = 1.
            batch_size: of the global batch; this rank gets its rank-th of `world` equal parts.
            steps: None: endless.
            stride: of all batches every how many are delivered: one of W workers asks for start = its number and stride = W.
            image_dtype: "float32", "float16" or "uint8" (needs a window in the recipe).
            transport: "auto": memory shared with a server on this host, else gRPC; Stream.transport and .transport_reason say which and
                why. "local": shared memory or an error (StateError and others, from the first next()); of one server, as batches of
                several are put together in memory of their own, by one copy from that of each. "grpc": never shared memory.
            state: a token of state_dict(): go on at its step, within the same start and steps.
            prefetch: batches received ahead. Memory: prefetch + 2 batches, and every one that you keep.
            writable: let batches in shared memory be written to, at the price of a private copy of each page that is; they are read-only
                otherwise. Over gRPC batches are the reader's own and always writable.
            reconnect_s: how long a server may stay away before the stream gives up, also at its beginning; it resumes by batch index, with
                no gap and no repeat.
            step_timeout_s: a server that sends nothing for this long while a batch is awaited counts as gone: paused, hung, or unreachable.
            hedge_s: of several servers, one that holds a batch up and sends nothing for this long is doubled by others, and the first
                answer wins; below what a volume takes to decode it wastes work. None: never.
            volumes: ids to draw from, in any order: the stream is that of a dataset without the others, so an epoch is shorter, and none of
                the others stands in for a damaged one. None: all.
        Raises:
            RequestError: an argument that is not allowed. NotFoundError: no such volume. StateError: `state` is of another stream. What
            the server objects to comes from the first next().
        """
        check_int("prefetch", prefetch, 1, 1 << 16)
        road = Road(transport, prefetch=prefetch, writable=writable, timeout_s=self._timeout_s)
        reconnect_s = check_seconds("reconnect_s", reconnect_s, zero=True)
        step_timeout_s = check_seconds("step_timeout_s", step_timeout_s)
        hedge_s = None if hedge_s is None else check_seconds("hedge_s", hedge_s)
        volumes = None if volumes is None else check_ids(volumes)
        dataset = self._wait_for_dataset(reconnect_s)
        spec = StreamSpec(
            recipe=recipe,
            patch=_three(patch),
            batch_size=batch_size,
            seed=seed,
            start=start,
            steps=steps,
            rank=rank,
            world=world,
            stride=stride,
            image_dtype=image_dtype,
            fingerprint=dataset.fingerprint,
            volumes=select_volumes(volumes, dataset),
        )
        fleet, address = self._fleet, self._fleet.only  # not self: a stream must not keep a forgotten Server alive, nor the reverse
        if address is None and transport == "local":
            road.rule_out("the batches are put together from several servers, in memory of their own")
        roads = FleetRoad(transport, timeout_s=self._timeout_s)

        def receive(first: int, pool: BufferPool) -> Receiving:
            if address is None:
                return fleet.receive(
                    spec, first, pool, roads, prefetch=prefetch, reconnect_s=reconnect_s, step_timeout_s=step_timeout_s, hedge_s=hedge_s
                )
            metadata = fleet.metadata  # of this thread, which is the trainer's
            return Receiver(
                lambda step: road.open(fleet.calls(address), metadata, spec.request(step, alone=road.ignores_stride)),
                BatchAssembler(spec.form, pool, road),
                road,
                address=address,
                spec=spec,
                first=first,
                prefetch=prefetch,
                reconnect_s=reconnect_s,
                step_timeout_s=step_timeout_s,
            )

        stream = Stream(spec, receive, roads if address is None else road, state=state, prefetch=prefetch)
        self._streams.add(stream)
        return stream

    def warp(
        self,
        volumes: Iterable[Any],
        transforms: Iterable[Transform] | Transform,
        *,
        shape: Sequence[int] | None = None,
        image_dtype: str = "float32",
        prefetch: int = 4,
        step_timeout_s: float = 60.0,
    ) -> WarpStream:
        """Warp the caller's own volumes with explicit parameters: iterator in, iterator out, in order; either may be infinite.

        Of several servers the first computes all of them: open one stream to each for more.

        Args:
            volumes: each (Z, Y, X) or (C, Z, Y, X), or a pair (image, label) with a label (Z, Y, X) of 0..255. int16 and float32 go as
                they are; other types where those hold every value exactly. Leave an array unchanged until its result is there.
            transforms: one for each volume, or one for all.
            shape: (Z, Y, X) of the results; None: of each volume.
            image_dtype: "float32", "float16" or "uint8" (needs a window in every transform).
            prefetch: volumes sent before their results are taken. Memory here: 2 results, and every one that you keep; at the server
                what [warp] in its config allows.
            step_timeout_s: a server that sends nothing for this long while a result is awaited counts as gone.
        Returns:
            An iterator of images with the axes of their volumes, or of pairs (image, label) where pairs went in. It has close(), and
            is a context manager. The iterators given are pulled on another thread.
        Raises:
            RequestError: an argument that is not allowed. All else comes from next(); see WarpStream.
        """
        self._check_open()
        check_int("prefetch", prefetch, 1, 1 << 16)
        if image_dtype not in IMAGE_DTYPES:
            raise RequestError(f"image_dtype: got {image_dtype!r}; allowed: {', '.join(IMAGE_DTYPES)}")
        step_timeout_s = check_seconds("step_timeout_s", step_timeout_s)
        patch = None if shape is None else _three(shape)
        for name, size in zip("ZYX", patch or (), strict=False):
            check_int(f"shape {name}", size, 1, (1 << 32) - 1)
        fleet, address = self._fleet, self._fleet.first  # not self, as in stream()

        metadata = fleet.metadata

        def open_call(messages: Iterator[bytes]) -> Any:
            return fleet.calls(address).warp(messages, metadata=metadata)

        feed = Feed(volumes, transforms, patch, image_dtype, prefetch)
        stream = WarpStream(feed, open_call, address=address, dtype=image_dtype, step_timeout_s=step_timeout_s)
        self._streams.add(stream)
        return stream

    def sample(
        self,
        recipe: Recipe,
        *,
        index: int,
        patch: Sequence[int],
        seed: int = 0,
        image_dtype: str = "float32",
        volumes: Sequence[str] | None = None,
    ) -> Patch:
        """Replay one sample by its index: the same bytes as inside any batch.

        Args:
            index: step * batch_size + place in the global batch, as `batch.samples[k].index` says.
            recipe, patch, seed, image_dtype, volumes: as for stream().
        """
        check_int("index", index, 0, (1 << 64) - 1)
        dataset = self.dataset()
        spec = StreamSpec(
            recipe=recipe,
            patch=_three(patch),
            batch_size=1,
            seed=seed,
            start=0,
            steps=1,
            rank=0,
            world=1,
            stride=1,
            image_dtype=image_dtype,
            fingerprint=dataset.fingerprint,
            volumes=select_volumes(volumes, dataset),
        )
        request = pb.GetSampleRequest(
            recipe=recipe.proto,
            patch=spec.patch,
            seed=seed,
            index=index,
            image_dtype=IMAGE_DTYPES[image_dtype],
            fingerprint=spec.fingerprint,
            volumes=spec.volumes,
        )
        data = self._fleet.ask(lambda calls: calls.get_sample(request, metadata=self._fleet.metadata, timeout=self._timeout_s))
        batch = BatchAssembler(spec.form, BufferPool(keep=0)).add(data, decode_part(data).step)
        if batch is None or batch.samples[0].index != index:
            raise WireError(f"{self._address}: the answer to GetSample is not the whole of sample {index}")
        return Patch(batch.image[0], None if batch.label is None else batch.label[0], batch.samples[0])

    def close(self) -> None:
        """Close the connection and the streams on it; twice is fine."""
        self._closed = True
        for stream in list(self._streams):
            stream.close()
        self._fleet.close()

    def __enter__(self) -> Server:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Server({self._address!r}{', closed' if self._closed else ''})"

    def _wait_for_dataset(self, patience_s: float) -> Dataset:
        """As dataset(), asked again for `patience_s` while nobody answers."""
        outage = Outage(patience_s)
        while True:
            try:
                return self.dataset()
            except (UnavailableError, DeadlineError) as error:
                delay_s = outage.next_delay_s()
                if delay_s is None:
                    if patience_s:
                        raise type(error)(f"{error} It was asked for {patience_s:g} s.") from error
                    raise
                if outage.attempts == 1:
                    _log.warning("waiting for a server, for up to %g s: %s", patience_s, error)
                time.sleep(delay_s)

    def _check_open(self) -> None:
        if self._closed:
            raise StateError(f"the connection to {self._address} is closed; connect() again")


def _volume_request(id: str) -> pb.GetVolumeRequest:
    try:
        id.encode()
    except (AttributeError, UnicodeEncodeError):  # no text, or one that UTF-8 cannot write
        raise RequestError(f"id: got {id!r}; allowed: a text, one of dataset().volumes") from None
    return pb.GetVolumeRequest(id=id)


def _receive_volume(id: str, call: Any, silence: SilenceLimit) -> Volume:
    filler: ArrayFiller | None = None
    info = image = label = None
    silence.listen()
    for data in call:
        silence.listen()
        part = decode_part(data)
        if part.header is not None and info is None:
            info = info_from_proto(read_message(pb.VolumeInfo, part.header))
            dtype = np.dtype(info.dtype).newbyteorder("<")
            size_bytes = math.prod(info.shape) * dtype.itemsize
            try:
                image = np.empty(size_bytes, np.uint8)
                label = np.empty(math.prod(info.shape[1:]), np.uint8) if info.has_label else None
            except MemoryError:
                raise BudgetError(f"no memory for volume {id!r} of {size_bytes / 1e6:.0f} MB") from None
            filler = ArrayFiller(image, label, f"volume {id!r}")
        if filler is None or info is None or image is None:
            raise WireError(f"volume {id!r}: its first part came without a header")
        filler.add(part)
        if part.last:
            return Volume(
                info=info,
                image=image.view(dtype).reshape(info.shape),
                label=None if label is None else label.reshape(info.shape[1:]),
            )
    raise WireError(f"volume {id!r}: the server ended it before its last part")


def _three(patch: Sequence[int]) -> tuple[int, int, int]:
    try:
        z, y, x = patch
    except (TypeError, ValueError):
        raise RequestError(f"patch: got {patch!r}; allowed: three whole numbers Z, Y, X; for 2-D use Z = 1") from None
    return z, y, x
