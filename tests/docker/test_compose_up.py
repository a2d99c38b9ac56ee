"""compose.yaml run for real by podman, on the images that tests/docker/build.sh built: a training from beginning to end.

podman asks for a container's health by systemd's timers, and Debian's version cannot wait for it: here the test does both.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from augserver.ingest.torso_phantom import CLASSES, make_torso
from augserver.store import DatasetWriter

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
FIT = ROOT / "client" / "augtrain" / "fit" / "examples" / "torsos.toml"
ENDLESS = 1_000_000
CHANGES = {
    "steps = 400": f"steps = {ENDLESS}",
    "every = 100": f"every = {ENDLESS}\n\n[checkpoints]\nevery = 2",
    "width = 0.5": "width = 0.125",
    '["torso_4", "torso_5"]': '["torso_2"]',
}
USER = 10001
INTERRUPTED = 130  # what `augtrain fit` says of a run that goes on another time
PROJECT = "augserver-test"
LIMIT_S = 180.0


class Project:
    """The services of compose.yaml in their profile `cpu`."""

    def __init__(self, dataset: Path, work: Path) -> None:
        self.work = work
        self._environment = {**os.environ, "DATASET": str(dataset), "WORK": str(work)}

    def compose(self, *arguments: str) -> str:
        command = [sys.executable, "-P", "-m", "podman_compose", "--file", str(ROOT / "docker" / "compose.yaml"), "--profile", "cpu"]
        return self._run(*command, "--project-name", PROJECT, *arguments).stdout

    def podman(self, *arguments: str) -> str:
        return self._run("podman", *arguments).stdout

    def is_well(self, service: str) -> bool:
        return self._run("podman", "healthcheck", "run", name_of(service), check=False).returncode == 0

    def state(self, service: str) -> Any:
        [found] = json.loads(self.podman("inspect", name_of(service)))
        return found

    def log(self, service: str) -> str:
        done = self._run("podman", "logs", name_of(service))
        return done.stdout + done.stderr

    def wait(self, service: str) -> int:
        """Its exit code, once it has ended."""
        wait_until(lambda: not self.state(service)["State"]["Running"])
        code: int = self.state(service)["State"]["ExitCode"]
        return code

    def _run(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(command, env=self._environment, capture_output=True, text=True, timeout=LIMIT_S)
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done


def name_of(service: str) -> str:
    return f"{PROJECT}_{service}_1"


def wait_until(holds: Callable[[], bool]) -> None:
    pace, until = threading.Event(), time.monotonic() + LIMIT_S
    while not holds():
        assert time.monotonic() < until
        pace.wait(0.2)


@pytest.fixture(scope="module")
def project(images: Mapping[str, Any], open_to_user: Callable[..., None], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """Three torsos, a short training of them, and nothing started yet."""
    assert {"server", "trainer"} <= images.keys()
    folder = tmp_path_factory.mktemp("compose")
    with DatasetWriter(folder / "torsos.zarr", modality="ct", classes=CLASSES) as writer:
        for seed in range(3):
            torso = make_torso(seed)
            writer.write(f"torso_{seed}", torso.image, torso.label, torso.spacing_mm, torso.affine, {})
        writer.finish()
    fit = FIT.read_text()
    for written, changed in CHANGES.items():
        assert fit.count(written) == 1
        fit = fit.replace(written, changed)
    work = folder / "training"
    work.mkdir()
    (work / "fit.toml").write_text(fit)
    open_to_user(folder)
    made = Project(folder / "torsos.zarr", work)
    try:
        yield made
    finally:
        made.compose("down", "--volumes")


@dataclass(frozen=True)
class Trained:
    """A training that was stopped, taken up again, and has come to its end."""

    project: Project
    stopped_at: int
    steps: int


@pytest.fixture(scope="module")
def trained(project: Project) -> Trained:
    run = project.work / "run"
    project.compose("up", "--detach", "--no-build", "server")
    wait_until(lambda: project.is_well("server"))
    project.compose("up", "--detach", "--no-build", "trainer")
    wait_until(lambda: any(run.glob("checkpoints/*")) or not project.state("trainer")["State"]["Running"])
    project.compose("stop", "trainer")
    assert project.wait("trainer") == INTERRUPTED, project.log("trainer")
    stopped_at = json.loads((run / "result.json").read_text())["steps"]
    fit = (project.work / "fit.toml").read_text()
    (project.work / "fit.toml").write_text(fit.replace(f"steps = {ENDLESS}", f"steps = {stopped_at + 4}"))
    project.compose("up", "--detach", "--no-build", "trainer")
    assert project.wait("trainer") == 0, project.log("trainer")
    return Trained(project, stopped_at, stopped_at + 4)


def test_a_training_that_is_stopped_goes_on_to_its_end_over_shared_memory(trained: Trained) -> None:
    log, run = trained.project.log("trainer"), trained.project.work / "run"
    assert f"going on at step {trained.stopped_at} from the checkpoint" in log
    assert re.search(r"batches came by\W+shared memory", log)
    result = json.loads((run / "result.json").read_text())
    assert (result["steps"], result["finished"], result["transport"]) == (trained.steps, True, "local")
    assert {each.stat().st_uid for each in run.rglob("*")} == {USER}
    assert (run / "curves.png").stat().st_size > 0
    assert any((run / "model").iterdir())


@pytest.mark.parametrize("service", ["server", "trainer"])
def test_a_container_can_do_no_more_than_it_must(trained: Trained, service: str) -> None:
    found = trained.project.state(service)
    assert found["HostConfig"]["ReadonlyRootfs"] is True
    assert not found["EffectiveCaps"]
    assert not found["BoundingCaps"]
    assert found["Config"]["User"] == f"{USER}:{USER}"
    assert found["HostConfig"]["SecurityOpt"] == ["no-new-privileges"]


def test_the_two_see_a_folder_of_sockets_and_loopback(trained: Trained) -> None:
    inside = trained.project.podman(
        "exec", name_of("server"), "sh", "-c", "stat -c '%u:%g %a' /run/augserver; cat /proc/mounts; cat /proc/net/dev"
    )
    owner, *lines = inside.splitlines()
    assert owner == f"{USER}:{USER} 700"
    [sockets] = [line for line in lines if " /run/augserver " in line]
    assert sockets.startswith("tmpfs ")
    assert "size=1024k" in sockets
    [dataset] = [line.split()[3] for line in lines if " /dataset " in line]
    assert "ro" in dataset.split(",")
    assert [line.split(":")[0].strip() for line in lines if re.match(r" *\w+: +\d", line)] == ["lo"]
    assert trained.project.state("trainer")["HostConfig"]["NetworkMode"] == f"container:{trained.project.state('server')['Id']}"


def test_stopped_it_ends_with_0_and_taken_down_it_is_gone(trained: Trained) -> None:
    trained.project.compose("stop")
    assert trained.project.wait("server") == 0
    assert "Traceback" not in trained.project.log("server")
    trained.project.compose("down", "--volumes")
    for kind in ("container", "volume", "pod"):
        assert PROJECT not in trained.project.podman(kind, "ls", *(["--all"] if kind == "container" else []))
