"""`augserver doctor`: every finding that is not well says why and what to do; the exit code speaks of the CPU alone."""

from __future__ import annotations

import json
import socket

import pytest

import augserver.kernel
from augserver.cli import main
from augserver.cli.doctor.host_findings import optional_findings
from augserver.errors import BackendError
from augserver.kernel.cuda import driver as cuda_driver
from augserver.kernel.cuda import fatbin


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    with pytest.raises(SystemExit) as caught:
        main(["doctor", *arguments])
    code = caught.value.code
    assert isinstance(code, int)
    return code, capsys.readouterr().out


@pytest.fixture(autouse=True)
def no_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise OSError("libcuda.so.1: cannot open shared object file")

    monkeypatch.setattr(cuda_driver, "library", missing)


def test_a_machine_without_a_gpu_serves_on_the_cpu_and_is_told_what_a_gpu_takes(capsys: pytest.CaptureFixture[str]) -> None:
    code, out = run(capsys, "--json")
    report = json.loads(out)
    assert (code, report["cpu"], report["cuda"]) == (0, True, False)
    findings = {each["check"]: each for each in report["findings"]}
    assert {"system", "cpu kernel", "zarr", "SimpleITK", "loopback", "default port", "memory", "tensorflow", "pycuda"} <= set(findings)
    assert "libcuda.so.1" in findings["cuda driver"]["cause"]
    assert "--gpus all" in findings["cuda driver"]["next_step"]
    for each in findings.values():
        assert each["found"]
        assert each["well"] == (each["cause"] == "") == (each["next_step"] == ""), each


def test_the_text_says_the_same_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    code, out = run(capsys)
    assert code == 0
    assert "ok  cpu kernel" in out
    assert "NO  cuda driver" in out
    assert "next: install the NVIDIA driver" in out
    assert out.endswith("server on the CPU: works; on a GPU: does not work\n")


def test_a_broken_kernel_is_exit_code_1(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise BackendError("the compiled kernel cannot be loaded")

    monkeypatch.setattr(augserver.kernel, "warp", refuse)
    code, out = run(capsys)
    assert code == 1
    assert "why:  the compiled kernel cannot be loaded" in out


def test_missing_kernels_name_the_command_that_makes_them(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path
) -> None:
    monkeypatch.setattr(fatbin, "FATBIN", tmp_path / "kernel.fatbin")
    _, out = run(capsys)
    assert "next: run `augserver build-kernels` where nvcc is" in out
    assert "  nvcc " in out


def test_a_port_that_is_taken_is_found() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        [port] = [each for each in optional_findings(address) if each.check == "default port"]
    assert (port.well, port.found, port.cause) == (False, f"{address} is not free", "Address already in use")


def test_build_kernels_is_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["build-kernels", "--help"])
    assert caught.value.code == 0
    assert "--nvcc" in capsys.readouterr().out
