"""Shared memory end to end: who dies, who is slow, who is not meant to be here, and what is left behind."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from augclient import Recipe, connect
from augclient.errors import BudgetError, StateError
from augclient.local import open_link
from augclient.wire.v1 import augserver_pb2 as pb
from augclient.wire.v1 import augserver_pb2_grpc

from augserver.config import parse_config
from augserver.kernel import open_backend
from augserver.service.server import Server
from augserver.store import Dataset

RECIPE = Recipe(crop={"mode": "uniform", "pad": True}, affine={"rotate_deg": 20}, noise={"std": [1, 30]}, window={"low": -900, "high": 900})
HOW: dict[str, Any] = {"patch": (9, 21, 33), "batch_size": 4, "seed": 5}

HOLDING_CLIENT = """
import sys
from augclient import Recipe, connect
server = connect(sys.argv[1])
stream = server.stream(Recipe(crop={"pad": True}), patch=(9, 21, 33), batch_size=4, transport="local")
kept = [next(stream) for _ in range(4)]
print("holding", flush=True)
sys.stdin.read()
"""

STRANGER = """
import os, socket, sys
os.setgid(65534); os.setgroups([]) if os.getuid() == 0 else None; os.setuid(65534)
client = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
try:
    client.connect(sys.argv[1])
    print("connected", client.recv(64))
except OSError as error:
    print(type(error).__name__)
"""


def bytes_of(batch: Any) -> tuple[int, bytes, bytes]:
    return batch.step, batch.image.tobytes(), batch.label.tobytes()


def wait_until(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    """Wait for a state that no event announces; the deadline fails the test, the poll only paces it."""
    pace, until = threading.Event(), time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, f"state not reached in {seconds} s"
        pace.wait(0.01)


@pytest.fixture
def server(toy_dataset: Path, tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Servers in this process, whose slots can be counted."""
    with contextlib.ExitStack() as stack:

        def start(**sections: Any) -> Server:
            local = {"folder": str(tmp_path / "run")} | sections.pop("local", {})
            config = parse_config({"listen": {"address": "127.0.0.1:0"}, "local": local} | sections)
            made = Server(Dataset.open(toy_dataset), open_backend("cpu", threads=2), config)
            made.start()
            stack.callback(made.stop)
            return made

        yield start


@pytest.fixture
def holding() -> Iterator[Callable[[Server], subprocess.Popen[bytes]]]:
    """Clients in processes of their own that hold four batches each and return none."""
    started: list[subprocess.Popen[bytes]] = []

    def start(running: Server) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-c", HOLDING_CLIENT, str(running.address)]
        started.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE))
        stdout = started[-1].stdout
        assert stdout is not None
        assert stdout.readline() == b"holding\n"
        return started[-1]

    yield start
    for each in started:
        each.kill()
        each.communicate()


@pytest.mark.parametrize("dtype", ["float32", "float16", "uint8"])
@pytest.mark.parametrize("batch_size", [1, 3])
def test_bytes_are_those_over_grpc(server: Callable[..., Server], dtype: str, batch_size: int) -> None:
    how = HOW | {"image_dtype": dtype, "batch_size": batch_size, "steps": 7, "start": 2}
    with connect(str(server().address)) as client:
        with client.stream(RECIPE, transport="grpc", **how) as stream:
            wanted = [bytes_of(batch) for batch in stream]
        with client.stream(RECIPE, transport="local", **how) as stream:
            assert [bytes_of(batch) for batch in stream] == wanted


def test_kill_9_of_a_client_returns_its_leases_and_ends_its_stream(server: Callable[..., Server], holding: Callable[..., Any]) -> None:
    running = server()
    victim = holding(running)
    assert running.slots.statistics().leased >= 4
    victim.kill()
    wait_until(lambda: running.slots.statistics().reserved_bytes == 0)
    assert running.scheduler.statistics().streams == 0


def test_a_client_that_never_releases_stalls_itself_alone(server: Callable[..., Server], holding: Callable[..., Any]) -> None:
    running = server()
    holding(running)
    wait_until(lambda: running.slots.statistics().filling == 0)
    before = running.slots.statistics()
    with connect(str(running.address)) as client, client.stream(RECIPE, steps=200, transport="local", **HOW) as stream:
        assert sum(1 for _ in stream) == 200
    wait_until(lambda: running.slots.statistics().rings == 1)
    after = running.slots.statistics()
    assert dataclasses.replace(after, ready=0, leased=after.ready + after.leased) == dataclasses.replace(
        before, ready=0, leased=before.ready + before.leased
    )  # not a byte more for who is slow; what is ready is leased as soon as its message is sent


@pytest.mark.usefixtures("nothing_is_left")
def test_kill_9_of_the_server_leaves_batches_valid_and_nothing_behind(serve: Callable[..., Any], toy_dataset: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    config = f"[local]\nfolder = '{folder}'\nmode = 'on'\n"
    running = serve(toy_dataset, config=config)
    with connect(running.address) as client:
        with client.stream(RECIPE, steps=30, transport="grpc", **HOW) as stream:
            wanted = [bytes_of(batch) for batch in stream]
        with client.stream(RECIPE, steps=30, transport="local", **HOW) as stream:
            kept = [next(stream) for _ in range(4)]
            [orphan] = folder.iterdir()
            running.signal(signal.SIGKILL)
            running.wait()
            assert [bytes_of(batch) for batch in kept] == wanted[:4]
            assert orphan.exists()
            again = serve(toy_dataset, config=config, address=running.address)
            got = [bytes_of(batch) for batch in kept]
            kept.clear()
            got += [bytes_of(batch) for batch in stream]
            assert got == wanted
            assert stream.transport == "local"
    assert not orphan.exists()
    assert len(list(folder.iterdir())) == 1
    again.signal(signal.SIGTERM)
    assert again.wait() == 0
    assert list(folder.iterdir()) == []


def test_the_ring_has_no_name_anywhere(server: Callable[..., Server]) -> None:
    with connect(str(server().address)) as client, client.stream(RECIPE, transport="local", **HOW) as stream:
        batch = next(stream)
        mapped = [line for line in Path("/proc/self/maps").read_text().splitlines() if "augserver-ring" in line]
        assert batch.step == 0
        assert mapped
        assert all(line.endswith("(deleted)") and line.split()[1][3] in "sp" for line in mapped)
        assert any(line.split()[1] == "r--s" for line in mapped)  # the client's: no way to write


def call_with(running: Server, **local: Any) -> grpc.RpcError:
    """What a client with these fields gets to hear."""
    request = pb.StreamBatchesRequest(recipe=RECIPE.proto, patch=HOW["patch"], batch_size=4, steps=2, local=pb.Local(**local))
    with grpc.insecure_channel(str(running.address)) as channel, pytest.raises(grpc.RpcError) as refused:
        list(augserver_pb2_grpc.AugServerStub(channel).StreamBatches(request))
    error: grpc.RpcError = refused.value
    return error


def test_a_wrong_token_is_refused(server: Callable[..., Server]) -> None:
    running = server()
    for token in (b"", os.urandom(32), os.urandom(10_000)):
        error = call_with(running, token=token, leases=2)
        assert error.code() is grpc.StatusCode.UNAUTHENTICATED
        assert "local.token is of no connection" in error.details()
    assert running.slots.statistics().rings == 0


def test_a_token_is_good_for_one_stream_while_its_connection_lives(server: Callable[..., Server]) -> None:
    running = server()
    with grpc.insecure_channel(str(running.address)) as channel:
        stub = augserver_pb2_grpc.AugServerStub(channel)
        link = open_link(stub.GetDataset(pb.GetDatasetRequest()).local_socket)
        local = pb.Local(token=link.token, leases=2)
        request = pb.StreamBatchesRequest(recipe=RECIPE.proto, patch=HOW["patch"], batch_size=4, steps=2, local=local)
        parts = list(stub.StreamBatches(request))
        assert [(part.step, part.last, part.HasField("slot"), part.image) for part in parts] == [(0, True, True, b""), (1, True, True, b"")]
        again = call_with(running, token=link.token, leases=2)
        assert again.code() is grpc.StatusCode.FAILED_PRECONDITION
        token = link.token
        del link, parts
        wait_until(lambda: running.slots.statistics().rings == 0)
        assert call_with(running, token=token, leases=2).code() is grpc.StatusCode.UNAUTHENTICATED


@pytest.mark.parametrize("leases", [0, 65, 2**32 - 1])
def test_absurd_numbers_of_leases_are_refused(server: Callable[..., Server], leases: int) -> None:
    error = call_with(server(), token=b"x", leases=leases)
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert f"local.leases must be 1 to 64, got {leases}" in error.details()


@pytest.mark.slow
def test_64_streams_at_once_are_served_alike(server: Callable[..., Server]) -> None:
    running = server(streams={"max_streams": 64})
    turns: list[int] = []

    def read(number: int) -> int:
        with client.stream(RECIPE, patch=(4, 9, 9), batch_size=1, seed=number, steps=12, transport="local") as stream:
            return sum(1 for _ in stream if turns.append(number) is None)

    with connect(str(running.address)) as client, ThreadPoolExecutor(64) as pool:
        opened = [client.stream(RECIPE, patch=(4, 9, 9), batch_size=1, seed=k, transport="local") for k in range(64)]
        assert [next(stream).step for stream in opened] == [0] * 64
        with pytest.raises(BudgetError, match=r"streams\.max_streams = 64"):
            next(client.stream(RECIPE, patch=(4, 9, 9), batch_size=1))
        for stream in opened:
            stream.close()
        del stream, opened
        wait_until(lambda: running.slots.statistics().rings == 0)
        assert list(pool.map(read, range(64))) == [12] * 64
    assert {turns.count(number) for number in range(64)} == {12}


def test_rings_beyond_the_budget_are_refused_by_its_name(server: Callable[..., Server]) -> None:
    running = server(streams={"max_slot_bytes": 1 << 20, "max_stream_bytes": 1 << 20})
    how = HOW | {"batch_size": 2, "transport": "local"}  # 62 kB a batch, 8 slots a ring
    with connect(str(running.address)) as client:
        streams = [client.stream(RECIPE, **how) for _ in range(2)]
        assert [next(stream).step for stream in streams] == [0, 0]
        with pytest.raises(BudgetError, match=r"streams\.max_slot_bytes = 1048576 bytes, of which \d+ are in use"):
            next(client.stream(RECIPE, **how))
        streams.pop(0).close()
        wait_until(lambda: running.slots.statistics().rings == 1)
        assert next(client.stream(RECIPE, **how)).step == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize(("permissions", "answer"), [("700", "PermissionError\n"), ("755", "connected b''\n")])
def test_another_user_gets_nothing(server: Callable[..., Server], permissions: str, answer: str) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:  # pytest's own folders are closed to others
        os.chmod(folder, 0o755)
        place = Path(folder, "run")
        place.mkdir(mode=0o755)
        place.chmod(int(permissions, 8))
        running = server(local={"folder": str(place), "permissions": permissions})
        with connect(str(running.address)) as client, client.stream(RECIPE, steps=1, transport="local", **HOW) as stream:
            assert len(list(stream)) == 1
        [path] = place.iterdir()
        assert stat.S_ISSOCK(path.stat().st_mode)
        said = subprocess.run([sys.executable, "-c", STRANGER, str(path)], capture_output=True, text=True, check=True)
        assert said.stdout == answer
        running.stop()


def test_a_server_whose_socket_is_not_shared_with_the_client_is_read_over_grpc(server: Callable[..., Server], tmp_path: Path) -> None:
    running = server()
    (tmp_path / "run").rename(tmp_path / "elsewhere")  # as seen from a container that does not share the folder
    with connect(str(running.address)) as client:
        with client.stream(RECIPE, steps=2, **HOW) as stream:
            assert len(list(stream)) == 2
            assert stream.transport == "grpc"
            assert "another host, or its folder is not shared" in stream.transport_reason
        with pytest.raises(StateError, match="its folder is not shared"):
            next(client.stream(RECIPE, steps=2, transport="local", **HOW))
    (tmp_path / "elsewhere").rename(tmp_path / "run")
