"""A folder that holds what the documents' commands speak of, and a way to run those commands in it, as they stand."""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
import pytest
import trustme

from augserver.ingest.torso_phantom import CLASSES, make_torso

REPOSITORY = Path(__file__).resolve().parents[2]
SHAPE = (162, 122, 142)  # just above the patch of the README's first example
RAS_OF_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
READY_S = 60.0
STOP_S = 30.0


@dataclass(frozen=True)
class Workshop:
    """A folder to run commands in.

    Attributes:
        folder: with scans/, labels/, classes.toml, recipe.toml, server.pem, server.key, ca.pem and proto/.
        environment: whose PATH begins with `augserver` and `python` of this interpreter.
    """

    folder: Path
    environment: Mapping[str, str]

    def run(self, command: str) -> subprocess.CompletedProcess[str]:
        """A command line in a shell, to its end."""
        return subprocess.run(
            ["bash", "-c", command], cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=200, check=False
        )

    @contextmanager
    def serving(self, command: str) -> Iterator[str]:
        """`augserver serve ...` on ports that are free, until the block ends; its address. It must end with code 0.

        What it says on stderr is in the file `serve.log`.
        """
        free = re.sub(r"(--http) \S+", r"\1 127.0.0.1:0", command)
        # the last one given counts; no GPU, whose supervisor would be a process more
        line = f"exec {free} --address 127.0.0.1:0 --backend cpu 2> serve.log"
        process = subprocess.Popen(["bash", "-c", line], cwd=self.folder, env=self.environment, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        try:
            assert select.select([process.stdout], [], [], READY_S)[0], command
            ready = process.stdout.readline()
            assert ready.startswith("serving on "), (self.folder / "serve.log").read_text()
            yield ready.split()[2]
        finally:
            process.send_signal(signal.SIGTERM)
            process.stdout.close()
            code = process.wait(STOP_S)
        assert code == 0, (self.folder / "serve.log").read_text()


@pytest.fixture(scope="session")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    """Two torsos as files with labels, and what else the commands name; no dataset yet."""
    folder = tmp_path_factory.mktemp("workshop")
    for name in ("scans", "labels", "bin"):
        (folder / name).mkdir()
    (folder / "proto").symlink_to(REPOSITORY / "proto")
    for seed in range(2):
        torso = make_torso(seed, SHAPE)
        affine = RAS_OF_LPS @ torso.affine[:, [2, 1, 0, 3]]
        for where, array in (("scans", torso.image[0]), ("labels", torso.label)):
            nibabel.save(nibabel.Nifti1Image(array.transpose(), affine), folder / where / f"torso_{seed}.nii")
    (folder / "classes.toml").write_text("".join(f'{id_} = "{name}"\n' for id_, name in CLASSES.items() if id_))
    readme = (REPOSITORY / "README.md").read_text()
    (folder / "recipe.toml").write_text(readme.split("```toml\n")[1].split("```")[0])
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    issued.cert_chain_pems[0].write_to_path(str(folder / "server.pem"))
    issued.private_key_pem.write_to_path(str(folder / "server.key"))
    for name, run in (("augserver", '-c "from augserver.cli import main; main()"'), ("python", "")):
        script = folder / "bin" / name
        script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -P {run} "$@"\n')
        script.chmod(0o755)
    return Workshop(folder, {**os.environ, "PATH": f"{folder / 'bin'}:{os.environ['PATH']}", "PYTHON": sys.executable})
