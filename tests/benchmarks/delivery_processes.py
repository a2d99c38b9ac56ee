"""Measure deliveries: senders and a receiver in fresh processes, rounds in which every case takes its turn, medians.

A receiver counts a batch when it lies in ready arrays. GB = 1e9 bytes of payload; CPU = user + system seconds of all senders, or of the
receiver, per GB.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

WARM_S = 0.5
CASES_SCRIPT = Path(__file__).with_name("delivery_cases.py")


@dataclass(frozen=True, kw_only=True)
class Case:
    """One way of delivery.

    Attributes:
        note: what it is, in the table.
        receive: given the senders' addresses, the folder and the number of the stream: yields the bytes and volumes of each arrival.
        send: given a folder for its files, calls `say(address)` and serves until killed; None: there is only a receiver.
        senders: processes.
        streams: threads of the receiver, each with a stream of its own.
        environment: of both sides, beside the usual one.
    """

    note: str
    receive: Callable[[list[str], str, int], Iterator[tuple[int, int]]]
    send: Callable[[str], None] | None = None
    senders: int = 1
    streams: int = 1
    environment: Mapping[str, str] = field(default_factory=dict)


def say(value: object) -> None:
    """Tell the process that started this one."""
    print(value, flush=True)


def measure(cases: Mapping[str, Case], prepare: Callable[[str], None], rounds: int, window_s: float) -> dict[str, dict[str, float]]:
    """Medians of each case over interleaved rounds: gb_per_s, volumes_per_s, server_cpu_s_per_gb, client_cpu_s_per_gb, spread.

    Args:
        prepare: puts into a fresh folder what senders need.
    """
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in cases}
    with tempfile.TemporaryDirectory() as folder:
        prepare(folder)
        for _ in range(rounds):
            for name, case in cases.items():
                runs[name].append(_run(name, case, folder, window_s))
    figures = {}
    for name, results in runs.items():
        figures[name] = {key: statistics.median(each[key] for each in results) for key in results[0]}
        rates = [each["gb_per_s"] for each in results]
        figures[name]["spread"] = (max(rates) - min(rates)) / statistics.median(rates)
    return figures


def run_child(cases: Mapping[str, Case], arguments: list[str]) -> None:
    """What the script of the cases does: send NAME FOLDER, or receive NAME FOLDER ADDRESSES PIDS WINDOW_S."""
    role, name, folder, *rest = arguments
    case = cases[name]
    if role == "send" and case.send is not None:
        case.send(folder)
        return
    addresses, pids, window_s = rest
    _receive(case, folder, addresses.split(",") if addresses else [], [int(pid) for pid in pids.split(",") if pid], float(window_s))


def _run(name: str, case: Case, folder: str, window_s: float) -> dict[str, float]:
    """One case, once."""
    me, environment = [sys.executable, str(CASES_SCRIPT)], os.environ | case.environment
    senders: list[subprocess.Popen[str]] = []
    try:
        for _ in range(case.senders if case.send else 0):
            senders.append(subprocess.Popen([*me, "send", name, folder], stdout=subprocess.PIPE, text=True, env=environment))
        addresses = ",".join(sender.stdout.readline().strip() for sender in senders if sender.stdout)
        pids = ",".join(str(sender.pid) for sender in senders)
        command = [*me, "receive", name, folder, addresses, pids, str(window_s)]
        out = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, timeout=120, env=environment).stdout
        return dict(json.loads(out.splitlines()[-1]))
    finally:
        for sender in senders:
            sender.kill()
            sender.wait()
            if sender.stdout:
                sender.stdout.close()


def _cpu_s(pid: int) -> float:
    """User and system seconds of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _receive(case: Case, folder: str, addresses: list[str], senders: list[int], window_s: float) -> None:
    """Warm all streams up, count for `window_s` on each, print one JSON line.

    Every stream's clock starts and ends at an arrival of its own; CPU is taken over the first stream's window.
    """
    rates: list[tuple[float, float]] = []
    cpu: dict[str, float] = {}
    warm = threading.Barrier(case.streams)
    pids = [os.getpid(), *senders]

    def work(number: int) -> None:
        try:
            arrivals = case.receive(addresses, folder, number)
            next(arrivals)
            warm_until = time.perf_counter() + WARM_S
            while time.perf_counter() < warm_until:
                next(arrivals)
            warm.wait()
            next(arrivals)
            before, began = [_cpu_s(pid) for pid in pids], time.perf_counter()
            size = volumes = 0
            while (now := time.perf_counter()) < began + window_s:
                some, more = next(arrivals)
                size, volumes = size + some, volumes + more
            if number == 0:
                used = [_cpu_s(pid) - was for pid, was in zip(pids, before, strict=True)]
                cpu.update(client=used[0] / (now - began), server=sum(used[1:]) / (now - began))
            rates.append((size / (now - began) / 1e9, volumes / (now - began)))
        except BaseException as error:
            print(f"stream {number}: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
            os._exit(1)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(case.streams)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    rate = sum(each[0] for each in rates)
    result: dict[str, Any] = {"gb_per_s": rate, "volumes_per_s": sum(each[1] for each in rates)}
    say(json.dumps(result | {f"{side}_cpu_s_per_gb": cpu[side] / rate for side in ("server", "client")}))
    os._exit(0)  # the streams are endless
