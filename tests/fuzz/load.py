"""Load on one server: many clients with mixed recipes, of which some leave without a word and some talk nonsense.

    python tests/fuzz/load.py --minutes 10 --clients 16

Every batch is compared with one made in this process before; the server's memory, descriptors and threads are read every second. Ends
with a table and code 0, or with what was wrong and code 1.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import select
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import augclient
import grpc
import numpy as np
import psutil

from augserver.augment import compile_recipe
from augserver.kernel import open_backend
from augserver.pipeline.plan import Plan, batch_indices
from augserver.store import Dataset, DatasetWriter

sys.path.insert(0, str(Path(__file__).parent))
from wild_calls import ANSWERS, call_once

WILD_SHARE = 0.05  # of all calls
STEPS = 24  # of which each client takes a random stretch
WINDOW = {"low": [-200, -100], "high": [200, 400]}
RECIPES = {
    "identity": {},
    "crops": {"crop": {"mode": "uniform"}, "noise": {"std": [0, 30]}},
    "affine": {"affine": {"rotate_deg": [-20, 20], "scale": [0.8, 1.2], "reflect": 0.5}, "window": WINDOW},
    "all": {"crop": {"mode": "foreground"}, "affine": {"shear": 0.1}, "occlude": {"max_voxels": 9}, "noise": {"std": 20}, "window": WINDOW},
}
PATCHES = [(24, 32, 40), (8, 48, 16)]
BATCH_SIZES = [1, 4]
TRANSPORTS = ["auto", "grpc", "local"]

Key = tuple[str, tuple[int, int, int], int]


@dataclass
class Findings:
    """What all clients saw."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    latencies_s: list[float] = field(default_factory=list)
    batches: int = 0
    left: int = 0
    wild: int = 0
    wrong: list[str] = field(default_factory=list)
    stopped: threading.Event = field(default_factory=threading.Event)


def make_dataset(path: Path) -> Path:
    """Five volumes of seeded noise with labels."""
    rng = np.random.default_rng(0)
    affine = np.eye(4)[[2, 1, 0, 3]]
    with DatasetWriter(path, modality="ct", classes={1: "liver", 2: "bone"}) as writer:
        for number in range(5):
            shape = (40 + number, 52, 48)
            image, label = rng.integers(-1000, 1500, (1, *shape)).astype(np.int16), rng.integers(0, 3, shape).astype(np.uint8)
            writer.write(f"case_{number}", image, label, (1.0, 1.0, 1.0), affine, {})
        writer.finish()
    return path


def digest(image: np.ndarray, label: np.ndarray | None) -> str:
    """Of one batch's bytes."""
    return hashlib.sha256(image.tobytes() + (b"" if label is None else label.tobytes())).hexdigest()


def make_references(path: Path) -> dict[Key, list[str]]:
    """The digest of every step of every stream that a client may ask for, made without a server."""
    dataset = Dataset.open(path)
    volumes = {name: dataset.read(name) for name in dataset.volumes}
    references: dict[Key, list[str]] = {}
    with closing(open_backend("cpu", threads=2)) as backend:
        for name, sections in RECIPES.items():
            recipe = compile_recipe(augclient.Recipe(**sections).proto, modality="ct", classes=dataset.classes)
            for patch in PATCHES:
                plan = Plan({one: volume.info for one, volume in volumes.items()}, recipe, patch, seed=3)
                for size in BATCH_SIZES:
                    digests = references[name, patch, size] = []
                    image, label = np.empty((size, 1, *patch), np.float32), np.empty((size, *patch), np.uint8)
                    for step in range(STEPS):
                        indices = batch_indices(step, size)
                        params = [plan.params(index, volumes[plan.address(index)[2]]) for index in indices]
                        backend.augment([volumes[each.volume] for each in params], params, image, label)
                        digests.append(digest(image, label))
    return references


@contextmanager
def running_server(path: Path, log: Path) -> Iterator[tuple[str, str, psutil.Process]]:
    """Address, metrics URL and process of `augserver serve`."""
    options = ["--address", "127.0.0.1:0", "--backend", "cpu", "--metrics-port", "0", "--log-format", "json"]
    command = [sys.executable, "-P", "-c", "from augserver.cli import main; main()", "serve", str(path), *options]
    with log.open("w") as errors, subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True) as process:
        try:
            assert process.stdout is not None
            if not select.select([process.stdout], [], [], 60)[0]:
                raise TimeoutError("the server was not ready within a minute")
            address = process.stdout.readline().split()[2]
            lines = [json.loads(line)["message"] for line in log.read_text().splitlines()]
            [metrics] = [line.removeprefix("metrics: ") for line in lines if line.startswith("metrics: ")]
            yield address, metrics, psutil.Process(process.pid)
            process.terminate()
            if process.wait(30):
                raise RuntimeError(f"the server ended with code {process.returncode}")
        finally:
            process.kill()


def run_client(number: int, address: str, references: dict[Key, list[str]], findings: Findings) -> None:
    """One client after the other, until told to stop; what goes wrong ends it and is noted."""
    rng = random.Random(number)
    try:
        with grpc.insecure_channel(address, [("grpc.use_local_subchannel_pool", 1)]) as wild:
            while not findings.stopped.is_set():
                if rng.random() < WILD_SHARE:
                    code = call_once(wild, rng.randrange(1 << 40))
                    if code not in ANSWERS:
                        raise AssertionError(f"a wild call ended with {code}")
                    with findings.lock:
                        findings.wild += 1
                else:
                    take_stream(rng, address, references, findings)
    except Exception as error:
        with findings.lock:
            findings.wrong.append(f"client {number}: {type(error).__name__}: {error}")
        findings.stopped.set()


def take_stream(rng: random.Random, address: str, references: dict[Key, list[str]], findings: Findings) -> None:
    """Connect, take some batches, and leave: at the end, in the middle, or with batches in hand."""
    name, patch, size = key = rng.choice(list(references))
    start = rng.randrange(STEPS)
    leave_at = rng.choice([STEPS, rng.randrange(start, STEPS)])
    kept = []
    with augclient.connect(address) as server:
        recipe = augclient.Recipe(**RECIPES[name])
        stream = server.stream(
            recipe, patch=patch, batch_size=size, seed=3, start=start, steps=STEPS - start, transport=rng.choice(TRANSPORTS)
        )
        asked_at = time.perf_counter()
        for batch in stream:
            with findings.lock:
                findings.latencies_s.append(time.perf_counter() - asked_at)
                findings.batches += 1
            if digest(batch.image, batch.label) != references[key][batch.step]:
                raise AssertionError(f"batch {batch.step} of {key} has other bytes over {stream.transport}")
            if len(kept) < 3:
                kept.append(batch)
            if batch.step >= leave_at:
                with findings.lock:
                    findings.left += 1
                break
            asked_at = time.perf_counter()
        # and `with` closes the connection under the stream


def read_metrics(url: str) -> dict[str, float]:
    """Metrics without labels, and those with one as name{...}."""
    with urllib.request.urlopen(url, timeout=10) as answer:
        lines = [line.rsplit(" ", 1) for line in answer.read().decode().splitlines() if not line.startswith("#")]
    return {name: float(value) for name, value in lines}


def wait_until_idle(url: str) -> dict[str, float]:
    """Metrics once no stream is open and no slot is held; as they are after ten seconds otherwise."""
    deadline = time.monotonic() + 10
    while True:
        now = read_metrics(url)
        if time.monotonic() > deadline or not (now["augserver_streams"] or now["augserver_slots_reserved_bytes"]):
            return now
        time.sleep(0.1)


def judge(findings: Findings, held: list[tuple[int, int, int]], idle: dict[str, float], log: str) -> list[str]:
    """What is wrong, in words; nothing if all is well."""
    wrong = list(findings.wrong)
    settled = held[len(held) // 3 :]  # after the first third all volumes are decoded and all pools are grown
    half = len(settled) // 2
    for what, position, room in (("bytes of memory", 0, 32 << 20), ("descriptors", 1, 40), ("threads", 2, 40)):
        before = max(each[position] for each in settled[:half])
        after = max(each[position] for each in settled[half:])
        if after > before + room:
            wrong.append(f"{what} grew from {before} to {after}")
    for name in ("augserver_streams", "augserver_slots_reserved_bytes", 'augserver_slots{state="leased"}', "augserver_warp_used_bytes"):
        if idle[name]:
            wrong.append(f"{name} is {idle[name]:g} when nobody streams")
    if "incident" in log or "Traceback" in log:
        wrong.append("the server's log has an unexpected error")
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--clients", type=int, default=16)
    arguments = parser.parse_args()
    findings, held = Findings(), []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        path = make_dataset(folder / "load.zarr")
        references = make_references(path)
        address, metrics, process = stack.enter_context(running_server(path, folder / "log"))
        clients = [
            threading.Thread(target=run_client, args=(number, address, references, findings), daemon=True)
            for number in range(arguments.clients)
        ]
        for client in clients:
            client.start()
        deadline = time.monotonic() + arguments.minutes * 60
        while time.monotonic() < deadline and not findings.stopped.wait(min(1.0, arguments.minutes * 4)):
            held.append((process.memory_info().rss, process.num_fds(), process.num_threads()))
        findings.stopped.set()
        for client in clients:
            client.join(60)
            if client.is_alive():
                findings.wrong.append(f"{client.name} hangs")
        idle = wait_until_idle(metrics)
        wrong = judge(findings, held, idle, (folder / "log").read_text())
    latencies_ms = 1000 * np.sort(findings.latencies_s)
    p50, p99, worst = (np.percentile(latencies_ms, percent) for percent in (50, 99, 100))
    print(f"{arguments.clients} clients for {arguments.minutes:g} min: {findings.batches} batches, all compared")
    print(f"{findings.left} streams left early, {findings.wild} wild calls")
    print(f"a step: p50 {p50:.1f} ms, p99 {p99:.1f} ms, longest {worst:.0f} ms")
    for what, position, unit in (("memory", 0, 1e6), ("descriptors", 1, 1), ("threads", 2, 1)):
        print(f"server's {what}: {held[len(held) // 3][position] / unit:.0f} -> {held[-1][position] / unit:.0f}{' MB' if unit > 1 else ''}")
    for line in wrong:
        print(f"WRONG: {line}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
