"""Delivery rate of batches on loopback into ready arrays of another process: raw TCP, augserver, and generated code.

    python tests/benchmarks/bench_wire.py [--json] [--rounds 5] [--window-s 1.5]

One batch is 4 x (float32 160x120x120 + uint8 label), 46 MB. A client counts a batch when it lies in arrays of the right shape, and checks
their first and last voxels. Every round runs all cases one after another, each in fresh processes; medians over the rounds.

    memcpy      copy a batch within one process                                                    the memory's own pace
    tcp         a plain socket into reused arrays                                                         what the network layer gives
    augserver   `augserver.service.Server` with a kernel that writes nothing -> `augclient`, float32, defaults of both
    generated   gRPC's generated code, one whole sample per message, same channel options; arrays are views of the messages

GB = 1e9 bytes of payload; CPU = user + system seconds per GB. Targets: augserver >= 0.5 tcp and >= 1.6 generated.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent import futures
from pathlib import Path
from typing import Any

import numpy as np

SAMPLES, PATCH = 4, (160, 120, 120)
IMAGE_SHAPE, LABEL_SHAPE = (SAMPLES, 1, *PATCH), (SAMPLES, *PATCH)
BATCH_BYTES = SAMPLES * int(np.prod(PATCH)) * 5
POOL = 6  # distinct batches at the sender: more than the last-level cache holds
WARM_S = 0.5
TARGETS = {"tcp": 0.5, "generated": 1.6}


def make_pool() -> list[tuple[np.ndarray, np.ndarray]]:
    """Batches whose first and last voxels are their number."""
    pool = [(np.ones(IMAGE_SHAPE, np.float32), np.ones(LABEL_SHAPE, np.uint8)) for _ in range(POOL)]
    for number, arrays in enumerate(pool):
        for array in arrays:
            array.reshape(-1)[[0, -1]] = number + 1
    return pool


def check(image: np.ndarray, label: np.ndarray, first: int, last: int) -> None:
    got = (image.item(0), image.item(image.size - 1), label.item(0), label.item(label.size - 1))
    if got != (first, last, first, last):
        raise SystemExit(f"wrong voxels {got}, due are {first} and {last}")


# ---------------------------------------------------------------- senders: say their port, then serve until killed


def send_tcp(_: str) -> None:
    pool = make_pool()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        say(listener.getsockname()[1])
        connection, _ = listener.accept()
        with contextlib.suppress(ConnectionError):  # the receiver has seen enough
            while True:
                for image, label in pool:
                    connection.sendall(image.data)
                    connection.sendall(label.data)


def send_augserver(dataset: str) -> None:
    from augserver.config import ListenConfig, ServerConfig
    from augserver.kernel import open_backend
    from augserver.service.server import Server
    from augserver.store import Dataset

    cpu = open_backend("cpu", threads=1)

    class NoKernel:
        """The CPU backend's memory, but no kernel: writes the first and last sample's index into the first and last voxel."""

        name, description, allocate = "none", "none", staticmethod(cpu.allocate)

        def augment(self, volumes: Any, params: Any, out_image: Any, out_label: Any = None, **_: Any) -> None:
            for array in (out_image, out_label):
                array.reshape(-1)[[0, -1]] = params[0].index % 200, params[-1].index % 200

        def close(self) -> None:
            cpu.close()

    server = Server(Dataset.open(Path(dataset)), NoKernel(), ServerConfig(listen=ListenConfig(address="127.0.0.1:0")))
    server.start()
    say(server.port)
    time.sleep(3600)


def send_generated(_: str) -> None:
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
    say(port)
    time.sleep(3600)


# ---------------------------------------------------------------- receivers: yield the bytes of each arrived batch


def receive_memcpy(_: int) -> Iterator[int]:
    pool, target = make_pool(), (np.zeros(IMAGE_SHAPE, np.float32), np.zeros(LABEL_SHAPE, np.uint8))
    while True:
        for number, arrays in enumerate(pool):
            for source, copy in zip(arrays, target, strict=True):
                np.copyto(copy, source)
            check(*target, number + 1, number + 1)
            yield BATCH_BYTES


def receive_tcp(port: int) -> Iterator[int]:
    ring = [(np.zeros(IMAGE_SHAPE, np.float32), np.zeros(LABEL_SHAPE, np.uint8)) for _ in range(4)]
    with socket.create_connection(("127.0.0.1", port)) as connection:
        step = 0
        while True:
            arrays = ring[step % len(ring)]
            for array in arrays:
                view = array.reshape(-1).view(np.uint8).data
                while len(view):
                    view = view[connection.recv_into(view) :]
            check(*arrays, step % POOL + 1, step % POOL + 1)
            step += 1
            yield BATCH_BYTES


def receive_augserver(port: int) -> Iterator[int]:
    import augclient

    recipe = augclient.Recipe(crop={"pad": True})
    with augclient.connect(f"127.0.0.1:{port}") as server:
        for batch in server.stream(recipe, patch=PATCH, batch_size=SAMPLES):
            assert batch.label is not None
            first = batch.step * SAMPLES
            check(batch.image, batch.label, first % 200, (first + SAMPLES - 1) % 200)
            yield BATCH_BYTES


def receive_generated(port: int) -> Iterator[int]:
    import grpc
    from augclient.wire.methods import client_options
    from augclient.wire.v1 import augserver_pb2 as pb
    from augclient.wire.v1 import augserver_pb2_grpc

    with grpc.insecure_channel(f"127.0.0.1:{port}", client_options()) as channel:
        call = augserver_pb2_grpc.AugServerStub(channel).StreamBatches(pb.StreamBatchesRequest())
        for sample, part in enumerate(call):
            image = np.frombuffer(part.image, np.float32).reshape(1, *PATCH)
            label = np.frombuffer(part.label, np.uint8).reshape(PATCH)
            number = part.step + 1 if sample % SAMPLES == 0 else 1
            if image.item(0) != number or label.item(0) != number:
                raise SystemExit("wrong voxels")
            yield BATCH_BYTES // SAMPLES


SENDERS: dict[str, Callable[[str], None]] = {"tcp": send_tcp, "augserver": send_augserver, "generated": send_generated}
RECEIVERS: dict[str, Callable[[int], Iterator[int]]] = {
    "memcpy": receive_memcpy,
    "tcp": receive_tcp,
    "augserver": receive_augserver,
    "generated": receive_generated,
}


# ---------------------------------------------------------------- measuring


def say(value: object) -> None:
    print(value, flush=True)


def cpu_s(pid: int) -> float:
    """User and system seconds of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def receive(case: str, port: int, sender: int, window_s: float) -> None:
    """Child process: warm up, count for `window_s`, print one JSON line."""
    arrivals = RECEIVERS[case](port)
    warm_until = time.perf_counter() + WARM_S
    while time.perf_counter() < warm_until:
        next(arrivals)
    pids = [os.getpid(), *([sender] if sender else [])]
    before, began, received = [cpu_s(pid) for pid in pids], time.perf_counter(), 0
    while time.perf_counter() < began + window_s:
        received += next(arrivals)
    seconds, used = time.perf_counter() - began, [cpu_s(pid) - was for pid, was in zip(pids, before, strict=True)]
    gigabytes = received / 1e9
    client, server = used[0] / gigabytes, (used[1] / gigabytes if sender else 0.0)
    say(json.dumps({"gb_per_s": gigabytes / seconds, "server_cpu_s_per_gb": server, "client_cpu_s_per_gb": client}))
    os._exit(0)  # the streams are endless


def run(case: str, dataset: str, window_s: float) -> dict[str, float]:
    """One case, once, in fresh processes."""
    me = [sys.executable, __file__]
    sender, port = None, 0
    try:
        if case in SENDERS:
            sender = subprocess.Popen([*me, "--send", case, "--dataset", dataset], stdout=subprocess.PIPE, text=True)
            assert sender.stdout is not None
            port = int(sender.stdout.readline())
        pid = sender.pid if sender else 0
        command = [*me, "--receive", case, "--port", str(port), "--sender", str(pid), "--window-s", str(window_s)]
        out = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, timeout=120).stdout
        return dict(json.loads(out))
    finally:
        if sender is not None:
            sender.kill()
            sender.wait()


def make_dataset(folder: str) -> str:
    """A store of one small labelled volume: its voxels do not matter, no kernel reads them."""
    from augserver.store import DatasetWriter

    path = Path(folder, "wire.zarr")
    with DatasetWriter(path, modality="ct", classes={0: "background", 1: "organ"}, preprocessing={}) as writer:
        label = np.zeros((8, 10, 12), np.uint8)
        label[3, 4, 5] = 1
        writer.write("volume", np.zeros((1, 8, 10, 12), np.int16), label, (3.0, 1.0, 1.0), np.diag([1.0, 1.0, 3.0, 1.0])[:, [2, 1, 0, 3]])
        writer.finish()
    return str(path)


def measure(rounds: int, window_s: float) -> dict[str, Any]:
    """Medians of all cases over interleaved rounds, and augserver's ratios to the others."""
    runs: dict[str, list[dict[str, float]]] = {case: [] for case in RECEIVERS}
    with tempfile.TemporaryDirectory() as folder:
        dataset = make_dataset(folder)
        for _ in range(rounds):
            for case, results in runs.items():
                results.append(run(case, dataset, window_s))
    cases = {case: {key: statistics.median(r[key] for r in results) for key in results[0]} for case, results in runs.items()}
    ours = cases["augserver"]["gb_per_s"]
    return {"cases": cases, "ratios": {other: ours / cases[other]["gb_per_s"] for other in TARGETS}, "targets": TARGETS}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--window-s", type=float, default=1.5)
    for hidden in ("--send", "--receive", "--dataset"):
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    for hidden in ("--port", "--sender"):
        parser.add_argument(hidden, type=int, default=0, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.send:
        SENDERS[options.send](options.dataset)
        return 0
    if options.receive:
        receive(options.receive, options.port, options.sender, options.window_s)
        return 0
    result = measure(options.rounds, options.window_s)
    if options.json:
        print(json.dumps(result))
    else:
        print(f"{'case':<10} {'GB/s':>6}   CPU s/GB: {'server':>6} {'client':>6}")
        for case, row in result["cases"].items():
            print(f"{case:<10} {row['gb_per_s']:6.2f}   {'':9} {row['server_cpu_s_per_gb']:6.2f} {row['client_cpu_s_per_gb']:6.2f}")
        for other, ratio in result["ratios"].items():
            print(f"augserver / {other}: {ratio:.2f} (target {TARGETS[other]})")
    return 0 if all(result["ratios"][other] >= target for other, target in TARGETS.items()) else 1


if __name__ == "__main__":
    sys.exit(main())
