"""Containers of an image that tests/docker/build.sh built, run by crun as an engine would."""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

PATIENCE_S = 60.0
USER = 10001  # of all images


@dataclass(frozen=True)
class Image:
    """An image as files: `rootfs`, and what its Dockerfile says of how it is run (`config`, Docker's names)."""

    rootfs: Path
    config: Mapping[str, Any]


def crun(*arguments: str) -> list[str]:
    """A command line of crun, as build.sh makes it run on this machine."""
    return [os.environ["AUGSERVER_CRUN"], *arguments]


class Container:
    """A process in an image: mounts, process ids, IPC and host name of its own, the host's network, a root that is read-only, no rights.

    Args:
        folder: for what crun notes and for the process's output.
        command: instead of the image's own arguments, after its entry point; with `entrypoint`, instead of that too.
        mounts: path inside -> folder or file here; read-only unless the path inside is in `writable`.
    """

    def __init__(
        self,
        image: Image,
        folder: Path,
        *command: str,
        entrypoint: tuple[str, ...] | None = None,
        mounts: Mapping[str, Path],
        writable: frozenset[str],
    ) -> None:
        self.name = f"aug-{uuid.uuid4().hex[:12]}"
        self._root = folder / "crun"
        self._user: str = image.config["User"]
        bundle = folder / self.name
        bundle.mkdir()
        start = list(image.config["Entrypoint"] if entrypoint is None else entrypoint)
        self._specify(bundle, image, start + list(command or image.config["Cmd"]), mounts, writable)
        self.log = bundle / "stderr"
        with self.log.open("wb") as errors:
            self.process = subprocess.Popen(
                crun("--root", str(self._root), "--cgroup-manager=disabled", "run", "--bundle", str(bundle), self.name),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )

    def _specify(self, bundle: Path, image: Image, args: list[str], mounts: Mapping[str, Path], writable: frozenset[str]) -> None:
        uid, gid = map(int, self._user.split(":"))
        none: dict[str, list[str]] = {kind: [] for kind in ("bounding", "effective", "inheritable", "permitted", "ambient")}
        bound = [
            {"destination": to, "type": "bind", "source": str(at), "options": ["bind", "rw" if to in writable else "ro"]}
            for to, at in mounts.items()
        ]
        specification = {
            "ociVersion": "1.0.2",
            "process": {
                "user": {"uid": uid, "gid": gid},
                "args": args,
                "env": image.config["Env"],
                "cwd": image.config["WorkingDir"],
                "noNewPrivileges": True,
                "capabilities": none,
            },
            "root": {"path": str(image.rootfs), "readonly": True},
            "mounts": [
                {"destination": "/proc", "type": "proc", "source": "proc"},
                {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]},
                # As engines have it; the folders of the mounts below are made in it.
                {"destination": "/run", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755", "size=64k"]},
                *bound,
            ],
            "linux": {"namespaces": [{"type": kind} for kind in ("mount", "pid", "ipc", "uts")]},
        }
        (bundle / "config.json").write_text(json.dumps(specification))

    def read_line(self) -> str:
        """The next line on its stdout; "" at its end."""
        assert self.process.stdout is not None
        if not select.select([self.process.stdout], [], [], PATIENCE_S)[0]:
            raise TimeoutError(f"{self.name} says nothing: {self.log.read_text()}")
        return self.process.stdout.readline()

    def execute(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command beside the process, as health checks are."""
        whole = crun("--root", str(self._root), "--cgroup-manager=disabled", "exec", "--user", self._user, self.name, *command)
        return subprocess.run(whole, capture_output=True, text=True, timeout=PATIENCE_S)

    def signal(self, name: str) -> None:
        subprocess.run(crun("--root", str(self._root), "kill", self.name, name), check=True, timeout=PATIENCE_S)

    def wait(self) -> int:
        """Its exit code, once it has ended."""
        return self.process.wait(PATIENCE_S)

    def remove(self) -> None:
        """End it, if it has not, and forget it."""
        subprocess.run(crun("--root", str(self._root), "delete", "--force", self.name), capture_output=True, timeout=PATIENCE_S)
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


@pytest.fixture(scope="session")
def images() -> Mapping[str, Image]:
    """By target of the Dockerfile. Skips where they were not built."""
    if "AUGSERVER_IMAGES" not in os.environ:
        pytest.skip("needs the images: run tests/docker/build.sh, as root")
    found = {}
    for path in Path(os.environ["AUGSERVER_IMAGES"]).glob("*/image.json"):
        config = json.loads(path.read_text())["Docker"]["config"]
        found[path.parent.name] = Image((path.parent / "rootfs").resolve(), config)
    return found


@pytest.fixture(scope="session")
def base(images: Mapping[str, Image]) -> Path:
    """The root of what they were built on."""
    return Path(os.environ["AUGSERVER_IMAGES"], "base").resolve()


@pytest.fixture(scope="session")
def open_to_user() -> Callable[..., None]:
    """Give files and folders to the user of the images: pytest's are closed to others."""

    def give(*paths: Path) -> None:
        for path in paths:
            for each in (path, *path.rglob("*")):
                os.chown(each, USER, USER)
            for parent in path.parents:
                if parent.stat().st_uid == os.getuid() and parent != Path("/"):
                    parent.chmod(parent.stat().st_mode | 0o055)

    return give


@pytest.fixture(scope="module")
def run(images: Mapping[str, Image], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Container]]:
    """Start a container: run("server", *command, entrypoint=, mounts=, writable=). All are removed at the end of the module."""
    folder = tmp_path_factory.mktemp("containers")
    with contextlib.ExitStack() as stack:

        def start(target: str, *command: str, mounts: Mapping[str, Path], writable: tuple[str, ...] = (), **options: Any) -> Container:
            made = Container(images[target], folder, *command, mounts=mounts, writable=frozenset(writable), **options)
            stack.callback(made.remove)
            return made

        yield start
