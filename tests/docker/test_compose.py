"""compose.yaml: valid, in step with the images and with this server, and open to nobody."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from augserver.cli.serve import serve
from augserver.config import ServerConfig, parse_config
from augserver.service.address import parse_address

yaml = pytest.importorskip("yaml", reason="PyYAML is not installed: pip install --group test")

FOLDER = Path(__file__).resolve().parents[2] / "docker"
GIVEN = {"DATASET": "/data/ct.zarr", "WORK": "/data/training"}
PAIRS = (("server", "trainer"), ("server-gpu", "trainer-gpu"))
STUCK_WORKER_S = 15  # what the supervisor of a GPU server waits beyond the drain before it kills


def interpolated() -> str:
    """The text with its variables replaced, as compose does before it parses."""
    text = (FOLDER / "compose.yaml").read_text()
    return re.sub(r"\$\{(\w+):(?:\?[^}]*|-([^}]*))\}", lambda found: GIVEN.get(found[1]) or found[2], text)


def services() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(interpolated())["services"]
    return found


def config() -> ServerConfig:
    return parse_config(tomllib.loads((FOLDER / "server.toml").read_text()))


def parse(text: str) -> Any:
    compose_spec = pytest.importorskip("compose_spec", reason="not installed: pip install --group test")
    return compose_spec.PyCompose.from_json(json.dumps(yaml.safe_load(text)))  # merge keys are YAML's, not compose's


def test_it_follows_the_compose_specification() -> None:
    assert set(parse(interpolated()).service_names()) == {name for pair in PAIRS for name in pair}


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("cap_drop: [ALL]", "cap_drop: ALL"),
        ("condition: service_healthy", "condition: well"),
        ("profiles: [cpu]", "profiles: cpu"),
        ("stop_grace_period: 20s", "stop_grace_period: a while"),
    ],
)
def test_what_checks_it_would_find_a_mistake(right: str, wrong: str) -> None:
    with pytest.raises(ValueError, match=re.compile(".+", re.DOTALL)):
        parse(interpolated().replace(right, wrong))


@pytest.mark.parametrize("name", [name for pair in PAIRS for name in pair])
def test_a_container_can_do_no_more_than_it_must(name: str) -> None:
    service = services()[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", service["user"])
    assert not service.keys() & {"ports", "ipc", "pid", "privileged", "shm_size", "cap_add", "devices"}
    assert service.get("network_mode", "") != "host"


@pytest.mark.parametrize(("server", "trainer"), PAIRS)
def test_trainer_and_server_share_a_folder_and_loopback_and_nothing_else(server: str, trainer: str) -> None:
    found = services()
    mounts = {name: {each["source"]: each for each in found[name]["volumes"]} for name in (server, trainer)}
    assert mounts[server].keys() & mounts[trainer].keys() == {"sockets"}
    assert mounts[server]["sockets"]["target"] == mounts[trainer]["sockets"]["target"] == config().local.folder
    assert config().local.mode == "on"
    assert mounts[server][GIVEN["DATASET"]]["read_only"] is True
    assert found[server]["network_mode"] == "none"
    assert found[trainer]["network_mode"] == f"service:{server}"
    assert found[trainer]["depends_on"] == {server: {"condition": "service_healthy"}}
    assert found[server]["profiles"] == found[trainer]["profiles"]
    user, group = found[server]["user"].split(":")
    options = yaml.safe_load(interpolated())["volumes"]["sockets"]["driver_opts"]["o"].split(",")
    assert {f"uid={user}", f"gid={group}", f"mode=0{config().local.permissions}"} <= set(options)


@pytest.mark.parametrize(("server", "trainer"), PAIRS)
def test_the_command_lines_are_those_of_this_server_and_trainer(server: str, trainer: str) -> None:
    from augtrain.cli.fit import fit

    found = services()
    name, *arguments = found[server]["command"]
    assert name == "serve"
    options = serve.make_context("serve", list(arguments)).params
    assert options["backend"] == ("cuda" if server.endswith("gpu") else "cpu")
    targets = {each["target"]: each["source"] for each in found[server]["volumes"]}
    assert targets[str(options["dataset"])] == GIVEN["DATASET"]
    assert FOLDER / targets[str(options["config_path"])] == FOLDER / "server.toml"
    name, *arguments = found[trainer]["command"]
    assert name == "fit"
    asked = fit.make_context("fit", list(arguments)).params
    assert asked["servers"] == (config().listen.address,)
    assert parse_address(config().listen.address).is_loopback
    assert parse_address(config().metrics.address).is_loopback


@pytest.mark.parametrize(("server", "trainer"), PAIRS)
def test_gpus_are_reserved_where_they_compute(server: str, trainer: str) -> None:
    found = services()
    reserved = {name: found[name].get("deploy", {}).get("resources", {}).get("reservations", {}) for name in (server, trainer)}
    gpu = {"devices": [{"driver": "nvidia", "count": 1, "capabilities": ["gpu"]}]}
    assert reserved == ({server: gpu, trainer: gpu} if server.endswith("gpu") else {server: {}, trainer: {}})


@pytest.mark.parametrize("server", [server for server, _ in PAIRS])
def test_a_drain_is_not_cut_short(server: str) -> None:
    grace_s = int(services()[server]["stop_grace_period"].removesuffix("s"))
    assert grace_s > config().listen.drain_s + (STUCK_WORKER_S if server.endswith("gpu") else 0)


@pytest.mark.parametrize("name", [name for pair in PAIRS for name in pair])
def test_images_are_built_from_the_dockerfiles_here(name: str) -> None:
    build = services()[name]["build"]
    dockerfile = FOLDER / build["context"] / build["dockerfile"]
    assert dockerfile.resolve().parent == FOLDER
    asked = {line.split()[1].partition("=")[0] for line in dockerfile.read_text().splitlines() if line.startswith("ARG ")}
    assert build.get("args", {}).keys() <= asked
