"""docker/README.md: commands for an engine are those of these images and this command line; the others are run."""

from __future__ import annotations

import importlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
from augclient import TlsConfig, connect
from augclient.errors import AuthError

from augserver.store import DatasetWriter

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "docker" / "README.md").read_text()


def blocks(language: str) -> list[list[str]]:
    """The commands of each block; one that goes on in the next line is one."""
    return [
        block.replace("\\\n", " ").strip().splitlines()
        for block in re.findall(rf"^```{language}\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
    ]


ENGINE = [line for block in blocks("console") for line in block]


def words_of(line: str) -> list[str]:
    return [word for word in shlex.split(line) if not re.fullmatch(r"[A-Z]+=.*", word)]


@pytest.mark.parametrize("line", [line for line in ENGINE if line.startswith("docker build")])
def test_images_are_built_from_files_and_targets_that_exist(line: str) -> None:
    words = words_of(line)
    dockerfile = ROOT / words[words.index("-f") + 1]
    assert dockerfile.is_file()
    assert words[-1] == "."
    if "--target" in words:
        assert f" AS {words[words.index('--target') + 1]}\n" in dockerfile.read_text()


@pytest.mark.parametrize("line", [line for line in ENGINE if line.startswith("docker run")])
def test_containers_are_given_commands_of_this_program(line: str, tmp_path: Path) -> None:
    words = words_of(line.partition(" >> ")[0])
    [at] = [k for k, word in enumerate(words) if word in ("augserver", "augserver-ingest") and words[k - 1] != "--name"]
    name, *arguments = words[at + 1 :]
    command: click.Command = getattr(importlib.import_module(f"augserver.cli.{name}"), name)
    given = command.make_context(name, arguments).params
    mounted = {words[k + 1].split(":")[1] for k, word in enumerate(words) if word == "-v"}
    inside = [str(value) for value in flat(given) if str(value).startswith("/")]
    assert all(any(path == each or path.startswith(each + "/") for each in mounted) for path in inside)


def flat(given: dict[str, Any]) -> list[Any]:
    return [each for value in given.values() for each in (value if isinstance(value, (tuple, list)) else [value])]


@pytest.mark.parametrize("line", [line for line in ENGINE if " compose " in line])
def test_compose_is_given_profiles_that_exist(line: str) -> None:
    words = words_of(line)
    text = (ROOT / words[words.index("-f") + 1]).read_text()
    assert f"profiles: [{words[words.index('--profile') + 1]}]" in text


@pytest.mark.slow
def test_the_certificate_the_token_and_the_server_that_asks_for_it(tmp_path: Path) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    with DatasetWriter(tmp_path / "ct.zarr", modality="ct") as writer:
        writer.write("case_1", np.arange(1000, dtype=np.int16).reshape(1, 10, 10, 10), None, (1.0, 1.0, 1.0), np.eye(4)[[2, 1, 0, 3]], {})
        writer.finish()
    [block] = blocks("sh")
    *setup, serving = block
    environment = {**os.environ, "PATH": f"{program(tmp_path)}:{os.environ['PATH']}"}
    made = subprocess.run(["sh", "-ec", "\n".join(setup)], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    token = made.stderr.split()[-1]
    log = tmp_path / "log"
    with (
        log.open("wb") as errors,
        subprocess.Popen(shlex.split(serving), cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=errors, text=True) as server,
    ):
        try:
            assert server.stdout is not None
            address = server.stdout.readline().split()[2]
            trusted = TlsConfig(ca=tmp_path / "keys" / "cert.pem")
            with connect(address, token=token, tls=trusted) as client:
                assert client.dataset().volumes == ("case_1",)
            with pytest.raises(AuthError), connect(address, tls=trusted) as client:
                client.dataset()
            health = [sys.executable, "-P", str(ROOT / "docker" / "health.py"), address, "--tls-ca", str(tmp_path / "keys" / "cert.pem")]
            assert subprocess.run([*health, "--tls-name", "localhost"], timeout=60).returncode == 0
            refused = subprocess.run([*health, "--tls-name", "elsewhere"], timeout=60, capture_output=True, text=True)
            assert (refused.returncode, refused.stderr.startswith("health: UNAVAILABLE")) == (1, True)
        finally:
            server.terminate()
    assert server.returncode == 0
    # gRPC's C++ has forms of its own: a line, and under load a trace of places in its sources after it.
    theirs = r"[IWEF]\d{4} |=== Source Location Trace|\S+\.(cc|h):\d+$|$"
    own = [line for line in log.read_text().splitlines() if not re.match(theirs, line.strip())]
    lines = [json.loads(line) for line in own]
    assert any(line["message"].startswith("metrics: http://127.0.0.1:") for line in lines)
    assert any("no token came with the call" in line["message"] for line in lines)
    assert token not in log.read_text()


def program(folder: Path) -> Path:
    """A folder with an `augserver` command that is this installation's."""
    path = folder / "bin" / "augserver"
    path.parent.mkdir()
    path.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -P -c "from augserver.cli import main; main()" "$@"\n')
    path.chmod(0o755)
    return path.parent
