"""One supervised server process for each device, behind one address.

    augserver serve DS --devices cuda:0,cuda:1 --address HOST:PORT

    supervisor -- worker cuda:0, listens on PORT;   names the other to clients (GetDataset.peers)
              '-- worker cuda:1, listens on PORT+1

Each process has its own driver context, interpreter lock and volumes, so a device that fails takes no other along. A client that
connects to PORT streams from all, and each holds only the volumes that fall to it.
"""

from __future__ import annotations

import dataclasses
import os
import re
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from augclient.serving_child import Ready, count_of

from augserver.backends import BACKENDS
from augserver.cli.notices import say
from augserver.cli.processes.readiness import announce
from augserver.cli.processes.stop_signals import StopSignals
from augserver.cli.processes.supervisor import HeldPort, Supervisor, WorkerSpec
from augserver.config import ServerConfig
from augserver.cores import count_cores
from augserver.errors import ConfigError
from augserver.pipeline.host_memory import read_available_bytes
from augserver.service.address import Address, parse_address, require_closed

_MAX_WORKERS = 64


@dataclass(frozen=True, slots=True)
class Device:
    """What one worker computes on.

    Attributes:
        name: for messages, such as "cuda:0" or "cpu".
        options: of `augserver serve` for its worker.
    """

    name: str
    options: tuple[str, ...]


def parse_devices(text: str, *, threads: int) -> list[Device]:
    """Read "cuda:0,cuda:1" (one worker for each device) or "cpu:2" (two workers that share the cores).

    Args:
        threads: of each CPU worker; 0: an equal part of the cores that this process may use, at least 1.
    Raises:
        ConfigError: an item of another form, a GPU named twice, or more workers than 64.
    """
    devices: list[Device] = []
    cpus = 0
    for item in text.split(","):
        match = re.fullmatch(r"([a-z]+)(?::(\d{1,4}))?", item.strip())
        entry = BACKENDS.get(match[1]) if match else None
        if match is None or entry is None or (entry.has_devices and not match[2]):
            raise ConfigError(f"--devices must name cuda:0, cuda:1, ... for single GPUs or cpu:N for N processes, got {item!r} in {text!r}")
        if entry.has_devices:
            ordinal = str(int(match[2]))
            devices.append(Device(f"{entry.name}:{ordinal}", ("--backend", entry.name, entry.device_option, ordinal)))
        else:
            cpus += int(match[2] or 1)
    count = len(devices) + cpus
    if not 1 <= count <= _MAX_WORKERS:
        raise ConfigError(f"--devices must make 1 to {_MAX_WORKERS} workers, got {count} in {text!r}")
    if len({device.name for device in devices}) < len(devices):
        raise ConfigError(f"--devices must name each GPU once, got {text!r}; one process keeps a GPU busy")
    each = threads or max(count_cores() // max(cpus, 1), 1)
    return devices + [Device(f"cpu {k + 1}" if cpus > 1 else "cpu", ("--backend", "cpu", "--threads", str(each))) for k in range(cpus)]


def supervise_devices(arguments: Sequence[str], devices: Sequence[Device], config: ServerConfig, ready_fd: int | None) -> int:
    """Serve on all devices until a stop signal; one ready line on stdout once all are up. Returns the exit code.

    Args:
        arguments: of `augserver serve` that are the same for all workers: the dataset and options.
        config: where to listen; the host's memory for volumes is shared out equally.
        ready_fd: of --ready-fd.
    Raises:
        ConfigError, StateError: an address that is not allowed or taken. UnavailableError: a worker cannot be kept alive.
    """
    address = parse_address(config.listen.address)
    require_closed(address, config.security, insecure=config.listen.insecure)
    cache_bytes = (config.cache.max_bytes or read_available_bytes() // 2) // len(devices)
    with ExitStack() as stack:
        ports = [stack.enter_context(HeldPort(_nth(address, k))) for k in range(len(devices))]
        signals = stack.enter_context(StopSignals())
        ready: dict[str, Ready] = {}

        def on_ready(name: str, told: Ready) -> None:
            ready[name] = told
            if len(ready) == len(devices):
                each = [ready[device.name] for device in devices]
                names = ", ".join(device.name for device in devices)
                whole = dataclasses.replace(
                    each[0],
                    backend=",".join(dict.fromkeys(one.backend for one in each)),
                    device=", ".join(one.device for one in each),
                    threads=sum(one.threads for one in each),
                )
                announce(whole, ready_fd, f"serving on {whole.address} ({names}, {count_of(whole.volumes, 'volume')})")

        def spec(k: int) -> WorkerSpec:
            peers = ",".join(f":{port.address.port}" for port in ports if port is not ports[k])
            fixed = ["--address", str(ports[k].address), "--peers", peers, "--cache-bytes", str(cache_bytes), *devices[k].options]
            if config.metrics.address:
                fixed += ["--metrics-port", str(_nth(parse_address(config.metrics.address), k).port)]
            command = [sys.executable, "-P", "-c", "from augserver.cli import main; main()", "serve", *arguments, *fixed]
            command += ["--supervisor", str(os.getpid())]
            if config.page.address:
                command += ["--http", str(_nth(parse_address(config.page.address), k))]
            return WorkerSpec(devices[k].name, lambda _: command)

        supervisor = Supervisor(
            [spec(k) for k in range(len(devices))],
            on_ready=on_ready,
            say=lambda line: say(f"augserver: {line}"),
            drain_s=config.listen.drain_s,
        )
        return supervisor.run(signals)


def _nth(address: Address, k: int) -> Address:
    """The address of the k-th worker: the ports after the one asked for, or any where any was asked for."""
    if address.port and address.port + k > 65535:
        raise ConfigError(f"--address {address} leaves no port for worker {k + 1}; the workers take the ports after it: choose a lower one")
    return Address(address.host, address.port and address.port + k)
