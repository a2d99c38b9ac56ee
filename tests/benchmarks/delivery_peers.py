"""Others that deliver the same batches: memory, a raw socket, gRPC's generated code, Arrow Flight, tf.data service."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Iterator
from concurrent import futures
from typing import Any

import numpy as np
from delivery_payload import BATCH_BYTES, IMAGE_SHAPE, LABEL_SHAPE, PATCH, POOL, SAMPLES, VOXELS, check, make_pool, make_ring
from delivery_processes import say

Arrivals = Iterator[tuple[int, int]]
SAMPLE_VOXELS = int(np.prod(PATCH))
# A malloc that keeps its heap, in large pages: what a tuned TensorFlow job would set.
WARM_HEAP = {
    "MALLOC_MMAP_THRESHOLD_": "4294967296",
    "MALLOC_TRIM_THRESHOLD_": "4294967296",
    "MALLOC_ARENA_MAX": "1",
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
}


def receive_memcpy(addresses: list[str], folder: str, stream: int) -> Arrivals:
    pool, ring = make_pool(), make_ring()
    while True:
        for number, arrays in enumerate(pool):
            target = ring[number % len(ring)]
            for source, copy in zip(arrays, target, strict=True):
                np.copyto(copy, source)
            check(*target, number + 1, number + 1)
            yield BATCH_BYTES, SAMPLES


def send_tcp(folder: str) -> None:
    pool = make_pool()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        say(listener.getsockname()[1])
        connection, _ = listener.accept()
        with contextlib.suppress(ConnectionError):  # the receiver has seen enough
            while True:
                for image, label in pool:
                    connection.sendall(image.data)
                    connection.sendall(label.data)


def receive_tcp(addresses: list[str], folder: str, stream: int) -> Arrivals:
    ring = make_ring()
    with socket.create_connection(("127.0.0.1", int(addresses[0]))) as connection:
        step = 0
        while True:
            arrays = ring[step % len(ring)]
            for array in arrays:
                view = array.reshape(-1).view(np.uint8).data
                while len(view):
                    view = view[connection.recv_into(view) :]
            check(*arrays, step % POOL + 1, step % POOL + 1)
            step += 1
            yield BATCH_BYTES, SAMPLES


def send_generated(folder: str) -> None:
    """One whole sample per message, our channel options."""
    import grpc
    from augclient.wire.methods import server_options
    from augclient.wire.v1 import augserver_pb2 as pb
    from augclient.wire.v1 import augserver_pb2_grpc

    pool = make_pool()

    class Servicer(augserver_pb2_grpc.AugServerServicer):
        def StreamBatches(self, request: Any, context: Any) -> Iterator[Any]:
            while True:
                for step, (image, label) in enumerate(pool):
                    for k in range(SAMPLES):
                        yield pb.BatchPart(step=step, image=image[k].tobytes(), label=label[k].tobytes())

    server = grpc.server(futures.ThreadPoolExecutor(2), options=server_options())
    augserver_pb2_grpc.add_AugServerServicer_to_server(Servicer(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    say(f"127.0.0.1:{port}")
    time.sleep(3600)


def receive_generated(addresses: list[str], folder: str, stream: int) -> Arrivals:
    import grpc
    from augclient.wire.methods import client_options
    from augclient.wire.v1 import augserver_pb2 as pb
    from augclient.wire.v1 import augserver_pb2_grpc

    with grpc.insecure_channel(addresses[0], client_options()) as channel:
        call = augserver_pb2_grpc.AugServerStub(channel).StreamBatches(pb.StreamBatchesRequest())
        for sample, part in enumerate(call):
            image = np.frombuffer(part.image, np.float32).reshape(1, *PATCH)
            label = np.frombuffer(part.label, np.uint8).reshape(PATCH)
            number = part.step + 1 if sample % SAMPLES == 0 else 1
            if image.item(0) != number or label.item(0) != number:
                raise SystemExit("wrong voxels")
            yield BATCH_BYTES // SAMPLES, 1


def send_flight(folder: str) -> None:
    """Record batches of four rows of fixed-size binary, made of the pool's memory without a copy."""
    import pyarrow as pa
    from pyarrow import flight

    image_type, label_type = pa.binary(SAMPLE_VOXELS * 4), pa.binary(SAMPLE_VOXELS)
    schema = pa.schema([("image", image_type), ("label", label_type)])
    batches = [
        pa.record_batch(
            [
                pa.Array.from_buffers(kind, SAMPLES, [None, pa.py_buffer(array)])
                for kind, array in zip((image_type, label_type), arrays, strict=True)
            ],
            schema=schema,
        )
        for arrays in make_pool()
    ]

    def endless() -> Iterator[Any]:
        while True:
            yield from batches

    class Server(flight.FlightServerBase):  # type: ignore[misc]
        def do_get(self, context: Any, ticket: Any) -> Any:
            return flight.RecordBatchStream(pa.RecordBatchReader.from_batches(schema, endless()))

    server = Server("grpc://127.0.0.1:0")
    say(f"grpc://127.0.0.1:{server.port}")
    server.serve()


def receive_flight(addresses: list[str], folder: str, stream: int) -> Arrivals:
    from pyarrow import flight

    options = [("grpc.max_receive_message_length", -1)]
    with flight.connect(addresses[0], generic_options=options) as client:
        for step, chunk in enumerate(client.do_get(flight.Ticket(b""))):
            image = np.frombuffer(chunk.data.column(0).buffers()[1], np.float32).reshape(IMAGE_SHAPE)
            label = np.frombuffer(chunk.data.column(1).buffers()[1], np.uint8).reshape(LABEL_SHAPE)
            check(image, label, step % POOL + 1, step % POOL + 1)
            yield BATCH_BYTES, SAMPLES


def _tensorflow() -> Any:
    os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
    import tensorflow

    return tensorflow


def send_tf(folder: str) -> None:
    service = _tensorflow().data.experimental.service
    dispatcher = service.DispatchServer(service.DispatcherConfig(port=0))
    worker = service.WorkerServer(service.WorkerConfig(dispatcher_address=dispatcher.target.split("://")[1], port=0))
    say(dispatcher.target)
    worker.join()


def receive_tf(addresses: list[str], *, compression: str | None, single: bool) -> Arrivals:
    """A cached dataset of the pool, distributed.

    Args:
        compression: "AUTO" or None.
        single: one sample per element and two outstanding requests, which is how it is fastest; else one batch, and its own defaults.
    """
    tf = _tensorflow()

    def stamp(number: Any, flat: Any, shape: tuple[int, ...]) -> Any:
        samples = tf.reshape(flat, [SAMPLES, SAMPLE_VOXELS])
        ones = tf.ones([SAMPLES - 1, 1], flat.dtype)
        ends = tf.cast(tf.reshape(number + 1, [1, 1]), flat.dtype)
        samples = tf.concat([tf.concat([ends, ones], 0), samples[:, 1:-1], tf.concat([ones, ends], 0)], 1)
        return tf.reshape(samples, shape)

    def make(number: Any) -> Any:
        # Noise and thick slabs of labels: what a compressor meets in augmented scans.
        noise = tf.random.stateless_uniform([VOXELS], tf.stack([number, number]))
        slabs = tf.cast(tf.range(VOXELS) // 7200 % 3, tf.uint8)
        return stamp(number, noise, IMAGE_SHAPE), stamp(number, slabs, LABEL_SHAPE)

    dataset, outstanding = tf.data.Dataset.range(POOL).map(make), None
    if single:
        dataset, outstanding = dataset.unbatch(), 2
    dataset = dataset.cache().repeat()
    service = tf.data.experimental.service
    dataset = dataset.apply(
        service.distribute(service.ShardingPolicy.OFF, addresses[0], compression=compression, max_outstanding_requests=outstanding)
    )
    count = 1 if single else SAMPLES
    for arrival, (image, label) in enumerate(dataset.as_numpy_iterator()):
        number = arrival // (SAMPLES // count) % POOL + 1
        first = number if arrival * count % SAMPLES == 0 else 1
        last = number if (arrival + 1) * count % SAMPLES == 0 else 1
        check(image, label, first, last)
        if arrival * count < 2 * POOL * SAMPLES:
            continue  # the cache is filled by the first pass, and what was made then is still under way
        yield BATCH_BYTES * count // SAMPLES, count
