"""Several real servers behind one stream, and several processes behind one address."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from augclient import Recipe, connect
from augclient.wire.rendezvous import order

from augserver.cli.processes.device_workers import parse_devices
from augserver.errors import ConfigError, RequestError, UnavailableError

RECIPE = Recipe(crop={"mode": "uniform"}, affine={"rotate_deg": 10}, noise={"std": [1, 5]})
HOW: dict[str, Any] = {"patch": (8, 20, 20), "batch_size": 4, "seed": 5}


def taken(batch: Any) -> tuple[Any, ...]:
    return batch.step, [str(sample) for sample in batch.samples], batch.image.tobytes(), batch.label.tobytes()


@pytest.fixture(scope="module")
def wanted(serve: Callable[..., Any], toy_dataset: Path) -> list[Any]:
    """Forty batches from one server."""
    with connect(serve(toy_dataset).address) as server, server.stream(RECIPE, steps=40, **HOW) as stream:
        return [taken(batch) for batch in stream]


@pytest.mark.slow
def test_three_servers_give_the_bytes_of_one_and_decode_only_their_own_volumes(
    serve: Callable[..., Any], toy_dataset: Path, wanted: list[Any]
) -> None:
    servers = [serve(toy_dataset, "--threads", "1") for _ in range(3)]
    addresses = [each.address for each in servers]
    with connect(addresses) as server:
        assert [taken(batch) for batch in server.stream(RECIPE, steps=40, **HOW)] == wanted
        volumes = server.dataset().volumes
    assert {order(addresses, volume)[0] for volume in volumes} <= set(addresses)


@pytest.mark.slow
def test_servers_on_this_host_share_memory_with_the_stream_of_a_fleet(
    warm_server: Callable[..., Any], serve: Callable[..., Any], toy_dataset: Path, wanted: list[Any]
) -> None:
    near = [warm_server(toy_dataset) for _ in range(2)]
    addresses = [each.address for each in near]
    with connect(addresses) as server, server.stream(RECIPE, steps=40, **HOW) as stream:
        assert [taken(batch) for batch in stream] == wanted
        assert stream.transport == "local"
        assert all(f"{address}: the server is on this host" in stream.transport_reason for address in addresses)
        assert stream.statistics().held == 0
    far = serve(toy_dataset, config="[local]\nmode = 'off'\n").address
    with connect([*addresses, far]) as server:
        with server.stream(RECIPE, steps=40, **HOW) as stream:
            assert [taken(batch) for batch in stream] == wanted
            assert stream.transport == "grpc"
            assert f"{far}: shared memory cannot be had: the server has no local socket" in stream.transport_reason
        with server.stream(RECIPE, steps=40, transport="grpc", **HOW) as stream:
            assert [taken(batch) for batch in stream] == wanted
            assert "shares memory" not in stream.transport_reason
        with pytest.raises(RequestError, match='transport: got "local"; allowed here: "auto", "grpc"'):
            server.stream(RECIPE, transport="local", **HOW)
    for each in near:
        each.wait_idle()


@pytest.mark.slow
def test_one_address_leads_to_all_workers_and_a_killed_one_returns(serve: Callable[..., Any], toy_dataset: Path, wanted: list[Any]) -> None:
    running = serve(toy_dataset, "--devices", "cpu:2")
    host, _, port = running.address.rpartition(":")
    assert running.ready_line.endswith("(cpu 1, cpu 2, 3 volumes)\n"), running.log.read_text()
    supervisor = psutil.Process(running.process.pid)
    workers = {child.net_connections()[0].laddr.port: child for child in supervisor.children() if child.net_connections()}
    assert len(workers) == 2
    assert int(port) in workers
    with connect(running.address) as server:
        assert server.dataset().volumes == ("case_1", "case_2", "case_3")
        for victim in workers.values():
            with server.stream(RECIPE, steps=40, prefetch=1, **HOW) as stream:
                got = [taken(next(stream)) for _ in range(10)]
                victim.kill()
                assert got + [taken(batch) for batch in stream] == wanted
    back = connect_when_back(running.address)
    assert len(psutil.Process(running.process.pid).children()) == 2
    with back as server, server.stream(RECIPE, steps=40, **HOW) as stream:
        assert [taken(batch) for batch in stream] == wanted
    descendants = supervisor.children(recursive=True)
    running.signal(signal.SIGTERM)
    assert running.wait() == 0
    assert not [each for each in descendants if each.is_running()]
    with socket.create_server((host, int(port))):
        pass  # free at once


def connect_when_back(address: str) -> Any:
    """A connection to a server that is being started again."""
    while True:
        with contextlib.suppress(UnavailableError):
            return connect(address)


@pytest.mark.slow
def test_workers_end_with_a_supervisor_that_is_killed(serve: Callable[..., Any], toy_dataset: Path) -> None:
    running = serve(toy_dataset, "--devices", "cpu:2")
    workers = psutil.Process(running.process.pid).children()
    assert len(workers) == 2
    running.signal(signal.SIGKILL)
    running.wait()
    gone, alive = psutil.wait_procs(workers, timeout=20)
    assert (len(gone), alive) == (2, [])


@pytest.mark.slow
def test_checkpoints_of_tensorflow_and_torch_carry_the_stream_of_a_fleet(
    serve: Callable[..., Any], toy_dataset: Path, wanted: list[Any], tmp_path: Path
) -> None:
    tensorflow = pytest.importorskip("tensorflow")
    import augclient.tensorflow
    import augclient.torch

    addresses = [serve(toy_dataset, "--threads", "1").address for _ in range(2)]
    images = [image for _, _, image, _ in wanted]
    with connect(addresses) as server:
        data = augclient.tensorflow.dataset(server, RECIPE, steps=12, **HOW)
        iterator = iter(data)
        got = [next(iterator)[0].numpy().tobytes() for _ in range(5)]
        path = tensorflow.train.Checkpoint(iterator=iterator).write(str(tmp_path / "checkpoint"))
    with connect(addresses[::-1]) as server:
        data = augclient.tensorflow.dataset(server, RECIPE, steps=12, **HOW)
        iterator = iter(data)
        tensorflow.train.Checkpoint(iterator=iterator).read(path).assert_consumed()
        got += [batch[0].numpy().tobytes() for batch in iterator]
        del data, iterator
    assert got == images[:12]
    whole = augclient.torch.BatchDataset(addresses, RECIPE, steps=12, **HOW)
    passed = iter(whole)
    got = [np.asarray(next(passed)[0]).tobytes() for _ in range(5)]
    token = whole.state_dict()
    passed.close()
    rest = augclient.torch.BatchDataset(addresses[0], RECIPE, steps=12, state=token, **HOW)
    assert got + [np.asarray(image).tobytes() for image, _ in rest] == images[:12]


@pytest.mark.parametrize(
    ("text", "threads", "names", "options"),
    [
        ("cuda:0,cuda:3", 0, ["cuda:0", "cuda:3"], ("--backend", "cuda", "--cuda-devices", "3")),
        ("cpu", 3, ["cpu"], ("--backend", "cpu", "--threads", "3")),
        ("cpu:2", 5, ["cpu 1", "cpu 2"], ("--backend", "cpu", "--threads", "5")),
        ("cuda:1, cpu:64", 0, None, None),
    ],
)
def test_devices_are_read(text: str, threads: int, names: list[str] | None, options: tuple[str, ...]) -> None:
    if names is None:
        with pytest.raises(ConfigError, match="1 to 64 workers, got 65"):
            parse_devices(text, threads=threads)
        return
    devices = parse_devices(text, threads=threads)
    assert [device.name for device in devices] == names
    assert devices[-1].options == options


def test_cpu_workers_share_the_cores() -> None:
    cores = len(os.sched_getaffinity(0))
    assert parse_devices("cpu:2", threads=0)[0].options[-1] == str(max(cores // 2, 1))
    assert parse_devices("cpu:64", threads=0)[0].options[-1] == str(max(cores // 64, 1))


@pytest.mark.parametrize("text", ["", "gpu:0", "cuda", "cuda:x", "cpu:0", "cuda:1,cuda:01", "cpu:65", "cuda:0,"])
def test_devices_without_meaning_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="--devices must"):
        parse_devices(text, threads=0)
