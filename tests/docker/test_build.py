"""Builds the images and runs test_image.py and test_compose_up.py on them, where that is asked for: it takes minutes, and root."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("build.sh")
TOOLS = ("buildah", "debootstrap", "crun", "podman", "unshare")
LIMIT_S = 1800


@pytest.mark.slow
@pytest.mark.timeout(LIMIT_S + 60)
@pytest.mark.skipif(os.environ.get("AUGSERVER_DOCKER_TESTS") != "1", reason="builds images for minutes: set AUGSERVER_DOCKER_TESTS=1")
def test_the_images_are_built_run_and_gone_again(tmp_path: Path) -> None:
    missing = [name for name in TOOLS if shutil.which(name) is None]
    if missing or os.getuid() != 0:
        pytest.skip(f"needs root and {', '.join(missing or TOOLS)}: apt-get install buildah debootstrap crun podman")
    mounts = Path("/proc/mounts").read_text()
    log = tmp_path / "log"
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    with log.open("wb") as out:
        environment = {**os.environ, "PYTHON": sys.executable, "TMPDIR": str(temporary)}
        subprocess.run([SCRIPT], stdout=out, stderr=out, env=environment, timeout=LIMIT_S)
    said = log.read_text()
    assert " s: done" in said.splitlines()[-1], said
    assert "skipped" not in said
    assert list(temporary.iterdir()) == []
    assert Path("/proc/mounts").read_text() == mounts
    left = [each.name for each in Path("/proc").iterdir() if each.name.isdecimal() and str(temporary) in command_of(each)]
    assert left == []


def command_of(process: Path) -> str:
    try:
        return (process / "cmdline").read_text()
    except OSError:
        return ""
