"""`augserver preview` as a user meets it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from augserver.cli import main
from augserver.geometry import affine_of
from augserver.store import DatasetWriter


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("store") / "toy.zarr"
    with DatasetWriter(path, modality="ct", classes={1: "liver"}) as writer:
        for seed, name in enumerate(("a", "b")):
            image = np.random.default_rng(seed).integers(-100, 100, (1, 20, 24, 28)).astype(np.int16)
            label = (image[0] > 50).astype(np.uint8)
            writer.write(name, image, label, (1.0, 1.0, 1.0), affine_of((1.0, 1.0, 1.0)), {})
        writer.finish()
    return path


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "recipe.toml"
    path.write_text('[crop]\nmode = "uniform"\n[noise]\nstd = [0, 30]\n[window]\nlow = -100\nhigh = 100\n')
    return path


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["preview", *map(str, arguments)])
    assert isinstance(ended.value.code, int)
    return ended.value.code


def test_it_writes_the_same_picture_every_time_and_says_what_it_shows(
    dataset: Path, recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [tmp_path / "one.png", tmp_path / "two.png", tmp_path / "other.png"]
    for file, seed in zip(files, (7, 7, 8), strict=True):
        assert run(dataset, "--recipe", recipe, "--out", file, "--seed", seed, "--seeds", 2) == 0
    assert files[0].read_bytes() == files[1].read_bytes() != files[2].read_bytes()
    assert f"{files[0]}: volume a, patch 20,24,28, seeds 7 to 8" in capsys.readouterr().out
    with Image.open(files[0]) as picture:
        assert picture.width > 3 * 256


def test_it_needs_no_package_of_the_page(dataset: Path, recipe: Path, tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['starlette'] = sys.modules['uvicorn'] = None; from augserver.cli import main; "
        f"main(['preview', {str(dataset)!r}, '--recipe', {str(recipe)!r}, '--out', 'sheet.png', '--patch', '8,9,10'])"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "sheet.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--patch", "8,8"], 64, "--patch must be three whole numbers"),
        (["--patch", "21,8,8"], 64, "exceeds volume"),
        (["--patch", "999999,999999,999999"], 64, "lower the patch"),
        (["--volume", "c"], 4, "no volume 'c'"),
        (["--seeds", "9"], 64, "9 is not in the range 1<=x<=8"),
        (["--out", "/nowhere/sheet.png"], 6, "cannot be written"),
        (["--recipe", "/nowhere/recipe.toml"], 4, "does not exist"),
    ],
)
def test_errors_are_one_line(
    dataset: Path, recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, words: str
) -> None:
    assert run(dataset, "--recipe", recipe, "--out", tmp_path / "sheet.png", *arguments) == code
    error = capsys.readouterr().err
    assert words in error
    assert "Traceback" not in error
    assert not (tmp_path / "sheet.png").exists()
