"""Every command and every program of client/README.md runs, on small torsos and for a few steps."""

from __future__ import annotations

import json
import math
import os
import re
import select
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import augtrain
import nibabel
import numpy as np
import pytest
from augclient import connect
from augtrain.fit import FitConfig

REPOSITORY = Path(__file__).resolve().parents[3]
README = (REPOSITORY / "client" / "README.md").read_text(encoding="utf-8")
SMALL = Path(__file__).with_name("small.py")
ADDRESS = "127.0.0.1:50051"
SHORTER = {
    "--rung-steps 50": "--rung-steps 1",
    "--steps 400": "--steps 2",
    "--fp 0.5,1,1.5 --fn 0.5,1,1.5": "--fp 0.5,1 --fn 1.5",
    "--out runs/compare": "--out runs/compare --steps 1 --seeds 0 --loss iou",
    "--out runs/chests": "--out runs/chests --steps 1 --seeds 0 --loss iou",
    "client/augtrain/": f"{Path(augtrain.__path__[0])}/",
    "steps_per_epoch=100": "steps_per_epoch=2",
    "steps=100": "steps=2",
}
ENVIRONMENT = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "3"}

pytestmark = pytest.mark.slow


def blocks(language: str) -> list[str]:
    """The fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


COMMANDS = [line for block in blocks("sh") for line in block.replace("\\\n", "").splitlines()]
FILES = {match[1]: block for block in (*blocks("toml"), *blocks("python")) if (match := re.match(r"# (\w+\.\w+)\n", block))}
PROGRAMS = {
    name: block
    for block in blocks("python")
    for name in ("tensorflow", "torch", "jax")
    if f"import {name}\n" in block.replace("augclient.", "")
}


@dataclass(frozen=True)
class Place:
    """A folder with the README's files beside the demo's dataset, and where that is served."""

    folder: Path
    address: str

    def here(self, text: str) -> str:
        """What the README says, for this place."""
        for long, short in {**SHORTER, ADDRESS: self.address}.items():
            text = text.replace(long, short)
        return text

    def run(self, command: str) -> str:
        """Run a command to its end; what it printed."""
        program, *arguments = shlex.split(self.here(command))
        start = [sys.executable, "-P"] if program == "python" else [sys.executable, "-P", str(SMALL), program]
        done = subprocess.run(
            [*start, *arguments], cwd=self.folder, env=ENVIRONMENT, capture_output=True, text=True, timeout=400, check=False
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        return done.stdout


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("readme")
    demo, serve = (next(line for line in COMMANDS if line.startswith(f"augserver {name} ")) for name in ("demo", "serve"))
    Place(folder, ADDRESS).run(demo)
    assert serve.endswith(" &")
    arguments = shlex.split(serve.removesuffix(" &").replace(ADDRESS, "127.0.0.1:0"))
    with (folder / "server.log").open("wb") as log:
        server = subprocess.Popen([sys.executable, "-P", str(SMALL), *arguments], cwd=folder, stdout=subprocess.PIPE, stderr=log, text=True)
    try:
        assert server.stdout is not None
        assert select.select([server.stdout], [], [], 200)[0], (folder / "server.log").read_text()
        line = server.stdout.readline()
        assert line.startswith("serving on "), (folder / "server.log").read_text()
        place = Place(folder, line.split()[2])
        for name, text in FILES.items():
            (folder / name).write_text(place.here(text))
        yield place
    finally:
        server.terminate()
        server.communicate()


def commands(*beginnings: str) -> list[str]:
    return [line for line in COMMANDS if line.startswith(beginnings)]


TRAIN = commands("augtrain fit --server", "augtrain predict", "python", "augtrain evaluate")
CALIBRATE = commands("augtrain calibrate", "augtrain fit calibration/")
COMPARE = commands("augtrain compare --out")
CHESTS = commands("augserver ingest", "augtrain compare client/")


def test_no_command_and_no_program_is_left_out() -> None:
    assert sorted([*commands("augserver demo", "augserver serve"), *TRAIN, *CALIBRATE, *COMPARE, *CHESTS]) == sorted(COMMANDS)
    assert len(set(PROGRAMS.values())) == 3
    assert {*PROGRAMS.values(), *FILES.values()} == {*blocks("python"), *blocks("toml")}
    assert len(blocks(r"\w+")) == len(blocks("python")) + len(blocks("toml")) + len(blocks("sh"))


def test_the_install_line_names_an_extra_that_there_is() -> None:
    extras = tomllib.loads((REPOSITORY / "client" / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    named = re.findall(r"augserver-client\[([\w-]+)\]", README)
    assert named
    assert set(named) <= extras.keys()


def test_ten_lines_train_segment_and_score(place: Place) -> None:
    assert len(COMMANDS) >= 6
    printed = [place.run(command) for command in TRAIN]
    assert "network saved in" in printed[0]
    segmented, truth = (nibabel.load(place.folder / name / "torso_5.nii.gz") for name in ("segmented", "truth"))
    assert segmented.shape == truth.shape == (35, 30, 33)
    np.testing.assert_allclose(segmented.affine, truth.affine, atol=1e-4)
    with connect(place.address) as server:
        np.testing.assert_array_equal(np.asarray(truth.dataobj).T, server.volume("torso_5").label)
    assert "liver" in printed[-1]
    assert "mean Dice of the organs" in printed[-1]


def test_calibrate_writes_a_config_that_fit_takes_as_it_is(place: Place) -> None:
    calibrated, trained = (place.run(command) for command in CALIBRATE)
    assert "augtrain fit calibration/best.toml" in calibrated
    assert "network saved in" in trained
    best = FitConfig.load(place.folder / "calibration" / "best.toml")
    assert not isinstance(best.loss, str)
    assert (best.loss["fp_weight"], best.loss["fn_weight"]) in {(0.5, 1.5), (1.0, 1.5)}
    assert (place.folder / "calibration" / "best" / "model" / "card.json").is_file()
    assert (place.folder / "calibration" / "calibration.png").is_file()


def test_compare_makes_torsos_of_its_own(place: Place) -> None:
    (command,) = COMPARE
    printed = place.run(command)
    assert re.search(r"iou\W+without\W+1 ", printed)
    assert re.search(r"iou\W+with\W+1 ", printed)
    table = (place.folder / "runs" / "compare" / "table.md").read_text().splitlines()
    assert table[0] == "| loss | augmentation | n | mean organ Dice | liver | bladder | lungs | kidneys | bone |"
    assert table[0] in README


def test_compare_on_chests_scores_the_one_that_it_did_not_train_on(place: Place, shared_data: Path) -> None:
    """Skips where the real scans are not."""
    ingest, compare = (command.replace("../shared/data", str(shared_data)) for command in CHESTS)
    assert "3 in, 0 refused" in place.run(ingest)
    assert re.search(r"iou\W+with\W+1 ", place.run(compare))
    results = (place.folder / "runs" / "chests" / "results.jsonl").read_text().splitlines()
    assert json.loads(results[0])["comparison"]["validation"]["volumes"] == ["3DCT_lung"]
    table = (place.folder / "runs" / "chests" / "table.md").read_text().splitlines()
    assert table[0] == "| loss | augmentation | n | mean organ Dice | lungs | bone |"
    assert table[0] in README


@pytest.mark.parametrize("framework", ["tensorflow", "torch", "jax"])
def test_a_loop_of_ones_own_trains(place: Place, framework: str) -> None:
    (place.folder / f"{framework}_loop.py").write_text(place.here(PROGRAMS[framework]))
    printed = place.run(f"python {framework}_loop.py")
    last = printed.strip().splitlines()[-1]
    assert last.startswith("loss ")
    assert math.isfinite(float(last.removeprefix("loss ")))
