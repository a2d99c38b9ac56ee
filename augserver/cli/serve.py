"""`augserver serve`: one dataset on one address, until a signal."""

from __future__ import annotations

import dataclasses
import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from augserver.backends import BACKEND_CHOICES, BACKENDS, EXIT_DEVICE_LOST
from augserver.cli.notices import say

if TYPE_CHECKING:
    from augclient.serving_child import Ready

    from augserver.cli.processes.grpc_log import HandshakeLog
    from augserver.cli.processes.stop_signals import StopSignals
    from augserver.config import ServerConfig
    from augserver.errors import UnavailableError
    from augserver.kernel import Backend
    from augserver.service.server import Server
    from augserver.store import Dataset


@click.command()
@click.argument("dataset", type=click.Path(path_type=Path))
@click.option("--address", help="HOST:PORT to listen on; port 0 picks one.  [default: 127.0.0.1:50051]")
@click.option("--backend", type=click.Choice(BACKEND_CHOICES), help="What computes the samples.  [default: auto]")
@click.option("--threads", type=click.IntRange(min=1), help="Threads of the CPU backend.  [default: one per core]")
@click.option("--isa", help="Force an instruction set, such as x86-64-v2: same bits, other speed.", hidden=True)
@click.option("--config", "config_path", type=click.Path(path_type=Path), help="TOML file with any of the settings; options win over it.")
@click.option("--tls-cert", type=click.Path(), help="PEM certificate chain: speak TLS. Needs --tls-key.")
@click.option("--tls-key", type=click.Path(), help="PEM key of the certificate.")
@click.option("--tls-client-ca", type=click.Path(), help="PEM authority whose certificates clients must show (mTLS).")
@click.option("--token-file", type=click.Path(), help="TOML of the tokens that may call, and their rights; `augserver token` makes one.")
@click.option("--insecure", is_flag=True, default=None, help="Allow an address that others can reach without TLS or without asking who.")
@click.option("--http", help="HOST:PORT of a page for the browser: rates, volumes, a recipe studio. Needs augserver[web].")
@click.option("--metrics-port", type=click.IntRange(0, 65535), help="Port of GET /metrics for Prometheus, on loopback; 0 picks one.")
@click.option("--log-format", type=click.Choice(["text", "json"]), default="text", show_default=True, help="Of the log, on stderr.")
@click.option("--devices", help="One process for each device, behind one address: cuda:0,cuda:1 or cpu:2.")
@click.option("--ready-fd", type=click.IntRange(min=0), help="Descriptor to write one line of JSON to, once ready; for programs.")
@click.option("--cuda-devices", help="GPU of a worker.", hidden=True)
@click.option("--cache-bytes", type=int, help="Memory of a worker for volumes.", hidden=True)
@click.option("--peers", help="Other workers, which clients are told of.", hidden=True)
@click.option("--supervisor", type=int, help="Process that started this one as its worker, and with which it ends.", hidden=True)
def serve(
    dataset: Path,
    address: str | None,
    backend: str | None,
    threads: int | None,
    isa: str | None,
    config_path: Path | None,
    tls_cert: str | None,
    tls_key: str | None,
    tls_client_ca: str | None,
    token_file: str | None,
    insecure: bool | None,
    http: str | None,
    metrics_port: int | None,
    log_format: str,
    devices: str | None,
    ready_fd: int | None,
    cuda_devices: str | None,
    cache_bytes: int | None,
    peers: str | None,
    supervisor: int | None,
) -> int:
    """Serve augmented batches of DATASET (a folder made by `augserver ingest`).

    Once ready, one line on stdout says where. Ctrl-C or SIGTERM finishes the batches in flight and stops; a second one stops at once.
    Where a GPU may compute, this process supervises the one that serves and starts it again, on the same port, when it loses the device.
    With --devices every device has such a process; a client connects to the one address and streams from all of them.
    """
    traced = False
    if tls_cert or config_path:  # which may ask for TLS
        from augserver.cli.processes.grpc_log import ask_for_handshakes

        traced = ask_for_handshakes()
    from augserver.cli.logs import set_up_logs
    from augserver.cli.processes.stop_signals import StopSignals
    from augserver.config import ServerConfig, load_config

    config = load_config(config_path) if config_path else ServerConfig()
    config = dataclasses.replace(
        config,
        kernel=dataclasses.replace(config.kernel, **_given(backend=backend, threads=threads, isa=isa)),
        listen=dataclasses.replace(config.listen, **_given(address=address, insecure=insecure, peers=peers)),
        cuda=dataclasses.replace(config.cuda, **_given(devices=cuda_devices)),
        cache=dataclasses.replace(config.cache, **_given(max_bytes=cache_bytes)),
        page=dataclasses.replace(config.page, **_given(address=http)),
        security=dataclasses.replace(
            config.security, **_given(tls_cert=tls_cert, tls_key=tls_key, tls_client_ca=tls_client_ca, token_file=token_file)
        ),
    )
    if metrics_port is not None:
        host = config.metrics.address.rpartition(":")[0] or "127.0.0.1"
        config = dataclasses.replace(config, metrics=dataclasses.replace(config.metrics, address=f"{host}:{metrics_port}"))
    if config.page.address and supervisor is None:
        from augserver.web.page import check_page

        check_page(config)
    set_up_logs(log_format)
    from augserver.cli.processes.readiness import check_ready_fd

    check_ready_fd(ready_fd)
    given: dict[str, Any] = {"--isa": isa, "--config": config_path, "--log-format": log_format}
    if devices is not None:
        return _serve_devices(dataset, devices, backend, config, given, ready_fd)
    if supervisor is None and _may_lose_its_device(config.kernel.backend):
        given |= {"--threads": threads, "--http": config.page.address or None, "--metrics-port": metrics_port}
        return _supervise(_arguments(dataset, config, given), config, ready_fd)
    handshakes: HandshakeLog | None = None
    with ExitStack() as stack:
        if traced:
            from augserver.cli.processes.grpc_log import HandshakeLog
            from augserver.service.access import Refusals

            handshakes = stack.enter_context(HandshakeLog(Refusals()))
        signals = stack.enter_context(StopSignals())
        if supervisor is not None:
            from augserver.cli.processes.supervisor import end_with_supervisor

            end_with_supervisor(supervisor)
        return _run(dataset, config, signals, ready_fd, handshakes)


def _given(**options: Any) -> dict[str, Any]:
    """Those options that the command line gave."""
    return {key: value for key, value in options.items() if value is not None}


def _arguments(dataset: Path, config: ServerConfig, options: Mapping[str, Any]) -> list[str]:
    """What a worker is told as this process was told it."""
    given = [str(part) for option, value in options.items() if value is not None for part in (option, value)]
    security = config.security
    paths = {
        "--tls-cert": security.tls_cert,
        "--tls-key": security.tls_key,
        "--tls-client-ca": security.tls_client_ca,
        "--token-file": security.token_file,
    }
    given += [part for option, path in paths.items() if path for part in (option, path)]
    return [str(dataset), *given, *(["--insecure"] if config.listen.insecure else [])]


def _serve_devices(
    dataset: Path, devices: str, backend: str | None, config: ServerConfig, options: Mapping[str, Any], ready_fd: int | None
) -> int:
    from augserver.cli.processes.device_workers import parse_devices, supervise_devices
    from augserver.errors import ConfigError

    workers = parse_devices(devices, threads=config.kernel.threads)
    if backend not in (None, "auto") and not all(worker.name.startswith(backend) for worker in workers):
        raise ConfigError(f"--devices {devices} says what computes, and --backend {backend} says otherwise; leave one of them out")
    return supervise_devices(_arguments(dataset, config, options), workers, config, ready_fd)


def _may_lose_its_device(backend: str) -> bool:
    """Whether a server of this --backend could end up on a device that can be lost to a process."""
    return any(entry.has_devices and backend in ("auto", entry.name) and entry.may_open() for entry in BACKENDS.values())


def _supervise(arguments: Sequence[str], config: ServerConfig, ready_fd: int | None) -> int:
    """Run the server in a worker process, started again when it loses its GPU; a CPU is not lost, so that it needs none of this."""
    from augserver.cli.processes.readiness import announce
    from augserver.cli.processes.stop_signals import StopSignals
    from augserver.cli.processes.supervisor import HeldPort, Supervisor, WorkerSpec
    from augserver.service.address import parse_address, require_closed

    address = parse_address(config.listen.address)
    require_closed(address, config.security, insecure=config.listen.insecure)
    with HeldPort(address) as port, StopSignals() as signals:

        def command(ready: Ready | None) -> list[str]:
            # What "auto" took once is insisted on: to come back on the CPU would be slow without a word.
            backend = config.kernel.backend if ready is None else ready.backend
            fixed = ["--address", str(port.address), "--backend", backend, "--supervisor", str(os.getpid())]
            return [sys.executable, "-P", "-c", "from augserver.cli import main; main()", "serve", *arguments, *fixed]

        supervisor = Supervisor(
            [WorkerSpec("server", command)],
            on_ready=lambda _, ready: announce(ready, ready_fd),
            say=lambda line: say(f"augserver: {line}"),
            drain_s=config.listen.drain_s,
        )
        return supervisor.run(signals)


def _run(path: Path, config: ServerConfig, signals: StopSignals, ready_fd: int | None, handshakes: HandshakeLog | None) -> int:
    from augserver.cli.processes.readiness import announce
    from augserver.kernel import open_backend
    from augserver.service.server import Server
    from augserver.store import Dataset

    dataset = Dataset.open(path)
    losses: list[int] = []
    backend = open_backend(
        config.kernel.backend,
        threads=config.kernel.threads or None,
        isa=config.kernel.isa or None,
        cuda=config.cuda,
        on_lost=lambda error: _end_lost(error, losses),
    )
    try:
        server = Server(dataset, backend, config)
    except BaseException:
        backend.close()
        raise
    forced = 0
    try:
        server.start()
        say(f"backend: {backend.description}")
        if handshakes is not None and config.security.tls_cert and not handshakes.is_told(server.address):
            say("augserver: this grpcio does not tell of TLS handshakes that fail: who is refused for them will not be in this log")
        if server.metrics is not None:
            say(f"metrics: {server.metrics.url}")
        with _open_page(server, dataset, backend, config) as page:
            announce(dataclasses.replace(server.ready(), http=page), ready_fd)
            signals.wait()
            forced = _drain(server, config.listen.drain_s, signals)
    finally:
        server.stop()
    if losses:
        return losses[0]
    return 128 + forced if forced else 0


@contextmanager
def _open_page(server: Server, dataset: Dataset, backend: Backend, config: ServerConfig) -> Iterator[str | None]:
    """Serve the page, where one is asked for, while the block runs; its URL."""
    if not config.page.address:
        yield None
        return
    from augserver.web.page import Page

    with Page(server, dataset, backend, config) as page:
        say(f"page: {page.url}")
        yield page.url


def _end_lost(error: UnavailableError, losses: list[int]) -> None:
    """End this process as a stop signal would, with the code that tells a supervisor to start it again. From any thread."""
    say(f"augserver: {error}")
    losses.append(EXIT_DEVICE_LOST)
    os.kill(os.getpid(), signal.SIGTERM)


def _drain(server: Server, drain_s: float, signals: StopSignals) -> int:
    """Let the batches in flight end, for `drain_s` at most; the number of a second signal that cut this short, else 0."""
    server.drain()
    deadline = time.monotonic() + drain_s
    forced = 0
    # 50 ms: how late a second signal may be seen
    while not forced and not server.service.wait_idle(0.05) and time.monotonic() < deadline:
        forced = signals.wait(0)
    return forced
