"""The Dockerfiles as text: what every image has to have, whoever builds it. test_image.py looks at a real one."""

from __future__ import annotations

import io
import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

dockerfile_parse = pytest.importorskip("dockerfile_parse", reason="not installed: pip install --group test")

ROOT = Path(__file__).resolve().parents[2]
SERVERS = ("server-cpu", "server-cuda")
ALL = (*SERVERS, "trainer")
LABELS = "org.opencontainers.image."


def stages(name: str) -> dict[str, list[dict[str, Any]]]:
    """Instructions of each stage after its FROM; the stage without a name is "". What stands before the first FROM is "ARG"."""
    path = ROOT / "docker" / f"{name}.Dockerfile"
    found: dict[str, list[dict[str, Any]]] = {"ARG": []}
    current = "ARG"
    for each in dockerfile_parse.DockerfileParser(fileobj=io.BytesIO(path.read_bytes())).structure:
        if each["instruction"] == "FROM":
            current = each["value"].partition(" AS ")[2]
            found[current] = [each]
        elif each["instruction"] != "COMMENT":
            found[current].append(each)
    return found


def shipped(name: str) -> list[dict[str, Any]]:
    """Instructions of the stage that serves or trains."""
    return stages(name)["trainer" if name == "trainer" else "server"]


def values(instructions: list[dict[str, Any]], kind: str) -> list[str]:
    return [each["value"] for each in instructions if each["instruction"] == kind]


@pytest.mark.parametrize("name", ALL)
def test_the_base_is_an_argument_of_one_version_and_the_same_for_every_stage(name: str) -> None:
    [base] = [value for value in values(stages(name)["ARG"], "ARG") if value.startswith("BASE=")]
    assert re.fullmatch(r"BASE=python:3\.\d+-slim-\w+", base)
    assert values(stages(name)["build"], "FROM") == ["${BASE} AS build"]
    assert values(shipped(name), "FROM")[0].startswith("${BASE} AS ")


@pytest.mark.parametrize("name", ALL)
def test_nothing_runs_in_what_is_shipped_so_that_nothing_of_the_build_can_stay(name: str) -> None:
    assert values(shipped(name), "RUN") == []
    assert values(shipped(name), "ADD") == []
    assert all(value.startswith("--from=build /opt/aug") for value in values(shipped(name), "COPY"))


@pytest.mark.parametrize("name", ALL)
def test_it_runs_as_a_numeric_user_that_is_not_root(name: str) -> None:
    assert values(shipped(name), "USER") == ["10001:10001"]


@pytest.mark.parametrize("name", ALL)
def test_it_says_what_it_is_and_how_it_is_stopped(name: str) -> None:
    [labels] = values(shipped(name), "LABEL")
    assert {f"{LABELS}{key}" for key in ("title", "description", "licenses", "version")} <= {each.split("=")[0] for each in labels.split()}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert f'{LABELS}version="{project["version"]}"' in labels
    assert values(shipped(name), "STOPSIGNAL") == ["SIGTERM"]


@pytest.mark.parametrize("name", SERVERS)
def test_its_health_is_asked_for_over_grpc(name: str) -> None:
    [check] = values(shipped(name), "HEALTHCHECK")
    command = json.loads(check.partition("CMD ")[2])
    assert command == ["python", "/opt/augserver/health.py", "127.0.0.1:50051"]
    assert any("cp /src/docker/health.py /opt/augserver/health.py" in value for value in values(stages(name)["build"], "RUN"))
    timeout_s = int(re.search(r"--timeout=(\d+)s", check)[1])  # type: ignore[index]
    assert f"_TIMEOUT_S = {timeout_s - 1}.0" in (ROOT / "docker" / "health.py").read_text()


@pytest.mark.parametrize("name", SERVERS)
def test_arguments_replace_the_command_after_the_programs_name(name: str) -> None:
    assert json.loads(values(shipped(name), "ENTRYPOINT")[0]) == ["augserver"]
    assert json.loads(values(shipped(name), "CMD")[0])[:2] == ["serve", "/dataset"]


def test_an_image_without_a_target_is_the_one_that_serves() -> None:
    assert values(stages("server-cpu")[""], "FROM") == ["server"]
    assert [each["instruction"] for each in stages("server-cpu")[""]] == ["FROM"]


@pytest.mark.parametrize("name", ALL)
def test_pip_installs_pinned_versions_and_gets_its_settings_as_a_secret(name: str) -> None:
    runs = values(stages(name)["build"], "RUN")
    installs = [part for run in runs for part in run.split("&&") if re.search(r"pip( --python \S+)? install", part)]
    assert len(installs) >= 3
    assert all("/src/docker/pins/" in each or "--no-index" in each for each in installs)
    for run in runs:
        if "/src/docker/pins/" in run:
            assert "--mount=type=secret,id=pip,target=/etc/pip.conf" in run


@pytest.mark.parametrize("name", ALL)
def test_no_address_of_a_registry_is_written_down(name: str) -> None:
    for path in (ROOT / "docker" / f"{name}.Dockerfile", *(ROOT / "docker" / "pins").iterdir()):
        assert "://" not in path.read_text(), path
