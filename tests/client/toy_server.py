"""A server written with plain generated code alone: the oracle of the client's tests.

Every array is a formula of the sample's index, so that a test knows each byte that must arrive. `python toy_server.py PORT
PART_BYTES` runs one in a process of its own and prints its port.
"""

from __future__ import annotations

import hashlib
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent import futures

import grpc
import numpy as np
from augclient.wire.v1 import augserver_pb2 as pb
from augclient.wire.v1 import augserver_pb2_grpc

CHANNELS = 2
FINGERPRINT = "toy-1"
DTYPES = {pb.FLOAT32: "float32", pb.FLOAT16: "float16", pb.UINT8: "uint8"}


def toy_image(index: int, patch: tuple[int, ...], dtype: str = "float32") -> np.ndarray:
    """(C, Z, Y, X), different for every index, channel and voxel."""
    flat = np.arange(CHANNELS * int(np.prod(patch)), dtype=np.int64)
    return ((flat * 3 + index * 7) % 251).astype(dtype).reshape(CHANNELS, *patch)


def toy_label(index: int, patch: tuple[int, ...]) -> np.ndarray:
    """(Z, Y, X) uint8."""
    flat = np.arange(int(np.prod(patch)), dtype=np.int64)
    return ((flat + index * 5) % 6).astype(np.uint8).reshape(patch)


def toy_sample(index: int) -> pb.Sample:
    sample = pb.Sample(
        index=index,
        epoch=index // 10,
        volume=f"case_{index % 3}",
        affine=[float(k) + index for k in range(12)],
        fill=-1000.0,
        noise_std=0.5,
        noise_key=2**64 - 1 - index,
        contrast=1.25,
        brightness=-2.0,
        gamma=0.5,
    )
    if index % 2:
        sample.window_low, sample.window_high = -160.0, 240.0
        sample.occlusion_start, sample.occlusion_stop = 0, 2
    return sample


def toy_batch(request: pb.StreamBatchesRequest, step: int, labels: bool = True) -> pb.BatchPart:
    """A whole batch as one message."""
    world = request.world or 1
    count = request.batch_size // world
    first = step * request.batch_size + request.rank * count
    indices = [index for index in range(first, first + count) if not request.HasField("share") or falls_to(request.share, index)]
    return whole(indices, step, tuple(request.patch), DTYPES[request.image_dtype], labels)


def falls_to(share: pb.Share, index: int) -> bool:
    """Whether a sample is of this share: the rule as the .proto states it, written a second time."""

    def ranked(names: Iterable[str]) -> list[str]:
        volume = toy_sample(index).volume
        hashes = {name: hashlib.blake2b(name.encode() + b"\0" + volume.encode(), digest_size=8).digest() for name in names}
        return sorted(hashes, key=lambda name: hashes[name])[::-1]

    owner = ranked(share.members)[0]
    if not share.instead_of:
        return owner == share.member
    return owner in share.instead_of and ranked(set(share.members) - set(share.instead_of))[0] == share.member


def whole(indices: Iterable[int], step: int, patch: tuple[int, ...], dtype: str, labels: bool) -> pb.BatchPart:
    indices = list(indices)
    image = np.array([toy_image(i, patch, dtype) for i in indices], dtype).reshape(len(indices), CHANNELS, *patch)
    label = np.array([toy_label(i, patch) for i in indices], np.uint8).reshape(len(indices), *patch)
    header = pb.BatchHeader(
        image_shape=image.shape,
        image_dtype=dtype,
        label_shape=label.shape if labels else (),
        samples=[toy_sample(i) for i in indices],
        fingerprint=FINGERPRINT,
    )
    return pb.BatchPart(step=step, header=header, last=True, image=image.tobytes(), label=label.tobytes() if labels else b"")


def in_parts(batch: pb.BatchPart, size: int = 100) -> list[pb.BatchPart]:
    """The batch cut into parts of `size` bytes of image, then of label."""
    parts = [pb.BatchPart(step=batch.step, image_offset=k, image=batch.image[k : k + size]) for k in range(0, len(batch.image), size)]
    parts += [pb.BatchPart(step=batch.step, label_offset=k, label=batch.label[k : k + size]) for k in range(0, len(batch.label), size)]
    parts = parts or [pb.BatchPart(step=batch.step)]  # a share without a sample
    parts[0].header.CopyFrom(batch.header)
    parts[-1].last = True
    return parts


class ToyServicer(augserver_pb2_grpc.AugServerServicer):
    """Answers by formula; `change` may damage the parts of a batch, `refuse` may abort a call."""

    def __init__(self) -> None:
        self.labels = True
        self.knows_stride = True
        self.part_bytes = 100
        self.change: Callable[[list[pb.BatchPart]], list[pb.BatchPart]] = list
        self.refuse: Callable[[pb.StreamBatchesRequest, grpc.ServicerContext], None] = lambda request, context: None
        self.requests: list[pb.StreamBatchesRequest] = []
        self.metadata: list[dict[str, str]] = []
        self.sent = 0
        self.cancelled = threading.Event()

    def GetDataset(self, request, context):
        self.metadata.append(dict(context.invocation_metadata()))
        infos = [self._info(k) for k in range(3)]
        return pb.Dataset(
            fingerprint=FINGERPRINT,
            modality="ct",
            volumes=infos,
            classes={0: "background", 1: "liver"},
            class_voxels={0: 10, 1: 7},
            spacing_mm=(3.0, 1.0, 0.5),
        )

    def _info(self, k: int) -> pb.VolumeInfo:
        return pb.VolumeInfo(
            id=f"case_{k}",
            shape=(CHANNELS, 5, 7, 11),
            dtype="int16",
            spacing_mm=(3.0, 1.0, 0.5),
            affine=[float(i) for i in range(16)],
            has_label=self.labels,
            class_voxels={0: 3, 1: 2},
        )

    def GetVolume(self, request, context):
        if request.id not in ("case_0", "case_1", "case_2"):
            context.set_trailing_metadata((("augserver-error", "NotFoundError"),))
            context.abort(grpc.StatusCode.NOT_FOUND, f"no volume {request.id!r}; nearest is 'case_1'")
        k = int(request.id[-1])
        batch = pb.BatchPart(image=toy_image(k, (5, 7, 11), "<i2").tobytes(), label=toy_label(k, (5, 7, 11)).tobytes() * self.labels)
        for n, part in enumerate(self.change(in_parts(batch))):
            yield pb.VolumePart(
                info=None if n else self._info(k),
                image_offset=part.image_offset,
                label_offset=part.label_offset,
                image=part.image,
                label=part.label,
                last=part.last,
            )

    def StreamBatches(self, request, context) -> Iterator[pb.BatchPart]:
        self.requests.append(request)
        context.add_callback(lambda: None if context.code() is not None else self.cancelled.set())
        self.refuse(request, context)
        step = request.start
        while not request.HasField("steps") or step < request.start + request.steps:
            yield from self.change(in_parts(toy_batch(request, step, self.labels), self.part_bytes))
            self.sent += 1
            step += (request.stride or 1) if self.knows_stride else 1

    def GetSample(self, request, context):
        return whole([request.index], 0, tuple(request.patch), DTYPES[request.image_dtype], self.labels)


def start_server(servicer: ToyServicer, port: int = 0) -> tuple[grpc.Server, int]:
    """A running server on loopback and its port."""
    options = [("grpc.so_reuseport", 0), ("grpc.http2.min_ping_interval_without_data_ms", 100)]  # as patient as ours
    server = grpc.server(futures.ThreadPoolExecutor(8), options=options)
    augserver_pb2_grpc.add_AugServerServicer_to_server(servicer, server)
    bound = server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    return server, bound


if __name__ == "__main__":
    toy = ToyServicer()
    toy.part_bytes = int(sys.argv[2])
    running, bound_port = start_server(toy, int(sys.argv[1]))
    print(bound_port, flush=True)
    running.wait_for_termination()
