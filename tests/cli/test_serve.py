"""`augserver serve` as an operator meets it: one line when ready, clear errors before that, nothing left behind after."""

from __future__ import annotations

import contextlib
import re
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import numpy as np
import psutil
import pytest
from augclient import Recipe, Server, connect
from augclient.errors import UnavailableError
from augclient.wire.v1 import augserver_pb2 as pb
from augclient.wire.v1 import augserver_pb2_grpc

from augserver.cli import main
from augserver.store import DatasetWriter

START = [sys.executable, "-P", "-c", "from augserver.cli import main; main()", "serve"]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("store") / "toy.zarr"
    with DatasetWriter(path, modality="mr") as writer:
        for name in ("a", "b"):
            writer.write(name, np.arange(1000, dtype=np.int16).reshape(1, 10, 10, 10), None, (1.0, 1.0, 1.0), np.eye(4)[[2, 1, 0, 3]], {})
        writer.finish()
    return path


@pytest.fixture
def start(dataset: Path, tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start a server in an empty working directory; killed at the end if it still runs."""
    with contextlib.ExitStack() as stack:

        def begin(*arguments: str) -> subprocess.Popen[str]:
            process = subprocess.Popen(
                [*START, str(dataset), "--address", "127.0.0.1:0", *arguments],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                cwd=tmp_path,
            )
            stack.callback(process.communicate)
            stack.callback(process.kill)
            return process

        yield begin


def ready(process: subprocess.Popen[str]) -> str:
    """The ready line; fails after a minute."""
    assert process.stdout is not None
    assert select.select([process.stdout], [], [], 60)[0]
    return process.stdout.readline()


def ask_until_refused(server: Server) -> None:
    while True:
        server.dataset()


def exit_code(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    """Exit code and stderr of a command that must fail in this process; stdout stays empty."""
    with pytest.raises(SystemExit) as caught:
        main(["serve", *arguments])
    output = capsys.readouterr()
    assert output.out == ""
    assert "Traceback" not in output.err
    code = caught.value.code
    assert isinstance(code, int)
    return code, output.err


def test_one_line_on_stdout_says_where(start: Callable[..., subprocess.Popen[str]]) -> None:
    process = start("--threads", "1")
    match = re.fullmatch(r"serving on (127\.0\.0\.1:(\d+)) \(cpu, 1 thread, 2 volumes\)\n", ready(process))
    assert match is not None
    assert int(match[2]) > 0
    with connect(match[1]) as server:
        assert server.dataset().volumes is not None
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=30)
    assert out == ""
    assert process.returncode == 0
    assert re.search(r"backend 'auto' takes the cpu: backend 'cuda': .*\n", err)  # and why
    assert re.search(r"^backend: cpu, 1 thread, ", err, re.MULTILINE)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains_and_leaves_nothing(start: Callable[..., subprocess.Popen[str]], number: int, tmp_path: Path) -> None:
    process = start()
    address = ready(process).split()[2]
    inside = psutil.Process(process.pid)
    assert inside.children(recursive=True) == []
    with connect(address) as server, server.stream(Recipe(), patch=(8, 8, 8), batch_size=2, reconnect_s=0.0) as stream:
        steps = [next(stream).step for _ in range(3)]
        process.send_signal(number)
        with pytest.raises(UnavailableError):
            steps.extend(batch.step for batch in stream)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 0
    assert steps == list(range(len(steps)))  # whole batches, in order, until it ended
    assert out == ""
    assert "Traceback" not in err
    assert "Error" not in err
    assert list(tmp_path.iterdir()) == []
    host, port = address.split(":")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((host, int(port)), timeout=5)
    with socket.create_server((host, int(port))):
        pass  # the port can be bound again at once


@pytest.mark.parametrize(
    ("arguments", "numbers", "code"),
    [
        (("--config", "server.toml"), [signal.SIGTERM], 0),  # the drain gives up after a second
        ((), [signal.SIGTERM, signal.SIGINT], 128 + signal.SIGINT),
    ],
)
def test_a_drain_is_bounded_and_a_second_signal_cuts_it_short(
    start: Callable[..., subprocess.Popen[str]], tmp_path: Path, arguments: tuple[str, ...], numbers: list[int], code: int
) -> None:
    (tmp_path / "server.toml").write_text("[listen]\ndrain_s = 1.0\n")
    process = start(*arguments)
    address = ready(process).split()[2]
    request = pb.StreamBatchesRequest(recipe=Recipe(crop={"pad": True}).proto, patch=[128, 128, 128], batch_size=8)
    with connect(address) as server, grpc.insecure_channel(address) as channel:
        call = augserver_pb2_grpc.AugServerStub(channel).StreamBatches(request)
        next(call)  # and no further: the server stays inside a batch of 67 MB
        process.send_signal(numbers[0])
        with pytest.raises(UnavailableError):
            ask_until_refused(server)
        for number in numbers[1:]:
            process.send_signal(number)
        process.communicate(timeout=30)
    assert process.returncode == code


def test_a_port_that_is_taken_is_named(dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, err = exit_code(capsys, str(dataset), "--address", f"127.0.0.1:{port}")
    assert code == 6
    assert f"cannot listen on 127.0.0.1:{port}: Address already in use" in err
    assert err.count("\n") == 1


def test_two_servers_cannot_share_a_port(
    start: Callable[..., subprocess.Popen[str]], dataset: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    address = ready(start()).split()[2]
    code, err = exit_code(capsys, str(dataset), "--address", address)
    assert code == 6
    assert "Address already in use" in err


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--address", "0.0.0.0:0"], 64, "--insecure"),
        (["--address", "nonsense"], 64, "HOST:PORT"),
        (["--backend", "cuda"], 6, "cuda"),
        (["--backend", "tpu"], 64, "'tpu' is not one of"),
        (["--threads", "0"], 64, "0 is not in the range"),
        (["--isa", "x86-64-v9"], 6, "x86-64-v9"),
        (["--config", "nowhere.toml"], 4, "nowhere.toml"),
    ],
)
def test_a_wrong_option_is_one_clear_error(
    dataset: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, message: str
) -> None:
    got, err = exit_code(capsys, str(dataset), *arguments)
    assert (got, message in err) == (code, True), err


def test_what_is_no_dataset_or_an_empty_one_is_refused_before_binding(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, err = exit_code(capsys, str(tmp_path / "nowhere.zarr"))
    assert (code, "there is no dataset" in err) == (4, True)
    (tmp_path / "stranger").mkdir()
    assert exit_code(capsys, str(tmp_path / "stranger"))[0] == 6
    with DatasetWriter(tmp_path / "empty.zarr", modality="ct"):
        code, err = exit_code(capsys, str(tmp_path / "empty.zarr"), "--address", "nonsense")
    assert code == 6
    assert "empty.zarr" in err


def test_an_unknown_config_key_names_the_nearest(dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "server.toml").write_text("[limits]\nmax_patch_voxel = 7\n")
    code, err = exit_code(capsys, str(dataset), "--config", str(tmp_path / "server.toml"))
    assert (code, "'max_patch_voxels'" in err) == (64, True)


def test_help_is_instant_and_imports_nothing_heavy() -> None:
    script = (
        "import sys\nfrom augserver.cli import main\n"
        "try:\n    main(['--help'])\n"
        "except SystemExit:\n    print([name for name in ('numpy', 'zarr', 'SimpleITK', 'tensorflow') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-P", "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.endswith("[]\n")
    assert "serve" in result.stdout
