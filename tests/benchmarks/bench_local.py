"""Shared memory beside gRPC on loopback: how fast batches arrive, what an arrival costs by size, and how much of the kernel's rate is left.

    python tests/benchmarks/bench_local.py [--json] [--rounds 3] [--window-s 1.5]

Server and client are processes of their own on the same cores. One batch is 4 x (float32 160x120x120 + uint8 label), 46 MB.

    view         a kernel that writes nothing; the client checks first and last voxels             how fast batches pass from hand to hand
    view small   the same with batches of 0.46 MB: an arrival costs the same, whatever its size
    writable     as view, mapped copy-on-write, as the PyTorch adapter does
    read         as view, and the client sums every voxel; `read writable` and `read grpc` likewise
    recipe       a real recipe on a 200x170x170 volume: rotation, scale, occlusion, noise, window; beside `kernel`, the same batches made
                 by the kernel alone, into one array

Targets: view >= 5 grpc in GB/s; recipe >= 0.8 kernel in batches/s; time to a batch of `view` <= 3 times that of `view small`, for 100 times
the bytes.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

SAMPLES, PATCH, SMALL_PATCH = 4, (160, 120, 120), (16, 36, 40)
VOLUME = (200, 170, 170)
WARM_S = 0.5
TARGETS = {"view / grpc": 5.0, "recipe / kernel": 0.8}

# name: (transport, patch, kernel, writable, read)
CASES: dict[str, tuple[str, tuple[int, int, int], str, bool, bool]] = {
    "view": ("local", PATCH, "none", False, False),
    "view small": ("local", SMALL_PATCH, "none", False, False),
    "writable": ("local", PATCH, "none", True, False),
    "grpc": ("grpc", PATCH, "none", False, False),
    "read": ("local", PATCH, "none", False, True),
    "read writable": ("local", PATCH, "none", True, True),
    "read grpc": ("grpc", PATCH, "none", False, True),
    "recipe": ("local", PATCH, "cpu", False, False),
    "recipe grpc": ("grpc", PATCH, "cpu", False, False),
}


def make_recipe(kernel: str) -> Any:
    from augclient import Recipe

    if kernel == "none":
        return Recipe(crop={"pad": True})
    return Recipe(
        crop={"mode": "uniform"},
        affine={"rotate_deg": 15, "scale": [0.9, 1.1]},
        occlude={"max_voxels": 40, "probability": 0.5},
        noise={"std": [5, 30]},
        window={"low": -160, "high": 240},
    )


def serve(dataset: str, kernel: str) -> None:
    """Child process: say the port, then serve until killed."""
    from augserver.config import ListenConfig, ServerConfig
    from augserver.kernel.cpu import CpuBackend
    from augserver.service.server import Server
    from augserver.store import Dataset

    class NoKernel(CpuBackend):
        """The CPU backend without its kernel: writes the first and last sample's index into the first and last voxel."""

        def augment(self, volumes: Any, params: Any, out_image: Any, out_label: Any = None, **_: Any) -> None:
            for array in (out_image, out_label):
                array.reshape(-1)[[0, -1]] = params[0].index % 200, params[-1].index % 200

    backend = NoKernel() if kernel == "none" else CpuBackend()
    server = Server(Dataset.open(Path(dataset)), backend, ServerConfig(listen=ListenConfig(address="127.0.0.1:0")))
    server.start()
    say(server.port)
    time.sleep(3600)


def arrivals(case: str, port: int) -> Iterator[int]:
    """The bytes of each batch that has arrived."""
    import augclient

    transport, patch, kernel, writable, read = CASES[case]
    with augclient.connect(f"127.0.0.1:{port}") as server:
        how: dict[str, Any] = {"transport": transport, "writable": writable}
        for batch in server.stream(make_recipe(kernel), patch=patch, batch_size=SAMPLES, **how):
            first, last = batch.step * SAMPLES % 200, (batch.step * SAMPLES + SAMPLES - 1) % 200
            label = batch.label
            assert label is not None
            if read:
                batch.image.reshape(-1).view(np.uint64).max()
                label.reshape(-1).view(np.uint64).max()
            got = (batch.image.item(0), batch.image.item(batch.image.size - 1), label.item(0), label.item(label.size - 1))
            if kernel == "none" and got != (first, last, first, last):
                raise SystemExit(f"wrong voxels {got}, due are {first} and {last}")
            yield batch.image.nbytes + label.nbytes


def receive(case: str, port: int, window_s: float, sender: int) -> None:
    """Child process: warm up, count for `window_s`, print one JSON line."""
    batches = arrivals(case, port)
    warm_until = time.perf_counter() + WARM_S
    while time.perf_counter() < warm_until:
        next(batches)
    used, began, count, size = [cpu_s(pid) for pid in (sender, os.getpid())], time.perf_counter(), 0, 0
    while time.perf_counter() < began + window_s:
        size += next(batches)
        count += 1
    seconds = time.perf_counter() - began
    server, client = (cpu_s(pid) - was for pid, was in zip((sender, os.getpid()), used, strict=True))
    rate = {"gb_per_s": size / 1e9 / seconds, "batches_per_s": count / seconds, "ms_per_batch": 1e3 * seconds / count}
    say(json.dumps(rate | {"server_cpu_ms": 1e3 * server / count, "client_cpu_ms": 1e3 * client / count}))
    os._exit(0)  # the streams are endless


def run_kernel(dataset: str, window_s: float) -> dict[str, float]:
    """The kernel alone on the recipe's batches, with all cores, into one array."""
    from augserver.augment import compile_recipe
    from augserver.kernel import open_backend
    from augserver.pipeline.plan import Plan, batch_indices
    from augserver.store import Dataset

    data = Dataset.open(Path(dataset))
    volume = data.read(data.volumes[0])
    recipe = compile_recipe(make_recipe("cpu").proto, modality=data.modality, classes=data.classes)
    plan = Plan({id_: data.info(id_) for id_ in data.volumes}, recipe, PATCH, seed=0)
    backend = open_backend("cpu")
    image, label = backend.allocate((SAMPLES, 1, *PATCH), np.float32), backend.allocate((SAMPLES, *PATCH), np.uint8)
    count, began, warm_until = 0, 0.0, time.perf_counter() + WARM_S
    for step in range(10**9):
        backend.augment([volume] * SAMPLES, [plan.params(index, volume) for index in batch_indices(step, SAMPLES, 0, 1)], image, label)
        now = time.perf_counter()
        if not began:
            began = now if now >= warm_until else 0.0
            continue
        count += 1
        if now - began >= window_s:
            break
    seconds = time.perf_counter() - began
    return {"gb_per_s": count * (image.nbytes + label.nbytes) / 1e9 / seconds, "batches_per_s": count / seconds,
            "ms_per_batch": 1e3 * seconds / count, "server_cpu_ms": 0.0, "client_cpu_ms": 0.0}  # fmt: skip


def run(case: str, dataset: str, window_s: float) -> dict[str, float]:
    """One case, once, in fresh processes."""
    me = [sys.executable, __file__]
    if case == "kernel":
        out = subprocess.run(
            [*me, "--kernel", "--dataset", dataset, "--window-s", str(window_s)], capture_output=True, text=True, check=True
        )
        return dict(json.loads(out.stdout))
    sender = subprocess.Popen([*me, "--serve", CASES[case][2], "--dataset", dataset], stdout=subprocess.PIPE, text=True)
    try:
        assert sender.stdout is not None
        port = int(sender.stdout.readline())
        command = [*me, "--receive", case, "--port", str(port), "--sender", str(sender.pid), "--window-s", str(window_s)]
        return dict(json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, timeout=120).stdout))
    finally:
        sender.terminate()
        sender.wait()


def make_dataset(folder: str) -> str:
    """A store of one labelled volume of seeded noise."""
    from augserver.store import DatasetWriter

    path = Path(folder, "local.zarr")
    rng = np.random.default_rng(0)
    with DatasetWriter(path, modality="ct", classes={0: "background", 1: "organ"}, preprocessing={}) as writer:
        image = rng.integers(-1000, 1500, (1, *VOLUME)).astype(np.int16)
        label = rng.integers(0, 2, VOLUME).astype(np.uint8)
        writer.write("volume", image, label, (3.0, 1.0, 1.0), np.diag([1.0, 1.0, 3.0, 1.0])[:, [2, 1, 0, 3]])
        writer.finish()
    return str(path)


def measure(rounds: int, window_s: float) -> dict[str, Any]:
    """Medians of all cases over interleaved rounds, and the ratios that count."""
    runs: dict[str, list[dict[str, float]]] = {case: [] for case in [*CASES, "kernel"]}
    with tempfile.TemporaryDirectory() as folder:
        dataset = make_dataset(folder)
        for _ in range(rounds):
            for case, results in runs.items():
                results.append(run(case, dataset, window_s))
    cases = {case: {key: statistics.median(r[key] for r in results) for key in results[0]} for case, results in runs.items()}
    ratios = {
        "view / grpc": cases["view"]["gb_per_s"] / cases["grpc"]["gb_per_s"],
        "recipe / kernel": cases["recipe"]["batches_per_s"] / cases["kernel"]["batches_per_s"],
        "ms view / view small": cases["view"]["ms_per_batch"] / cases["view small"]["ms_per_batch"],
    }
    return {"cases": cases, "ratios": ratios, "targets": TARGETS}


def say(value: object) -> None:
    print(value, flush=True)


def cpu_s(pid: int) -> float:
    """User and system seconds of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--window-s", type=float, default=1.5)
    for hidden in ("--serve", "--receive", "--dataset"):
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    for hidden in ("--port", "--sender"):
        parser.add_argument(hidden, type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--kernel", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.serve:
        serve(options.dataset, options.serve)
        return 0
    if options.receive:
        receive(options.receive, options.port, options.window_s, options.sender)
        return 0
    if options.kernel:
        say(json.dumps(run_kernel(options.dataset, options.window_s)))
        return 0
    result = measure(options.rounds, options.window_s)
    if options.json:
        print(json.dumps(result))
    else:
        print(f"{'case':<14} {'GB/s':>7} {'batch/s':>8} {'ms/batch':>9}   CPU ms/batch: {'server':>7} {'client':>7}")
        for case, row in result["cases"].items():
            rates = f"{row['gb_per_s']:7.2f} {row['batches_per_s']:8.1f} {row['ms_per_batch']:9.3f}"
            print(f"{case:<14} {rates} {'':16} {row['server_cpu_ms']:7.2f} {row['client_cpu_ms']:7.2f}")
        for name, ratio in result["ratios"].items():
            print(f"{name}: {ratio:.2f}" + (f" (target {TARGETS[name]})" if name in TARGETS else ""))
    return 0 if all(result["ratios"][name] >= target for name, target in TARGETS.items()) else 1


if __name__ == "__main__":
    sys.exit(main())
