"""`augserver info`: what a dataset holds, and exit codes for what is none."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from augserver.cli import main
from augserver.geometry import affine_of
from augserver.store import Dataset, DatasetWriter


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    label = np.zeros((5, 7, 11), np.uint8)
    label[1, 2, 3] = 4
    with DatasetWriter(tmp_path / "ds.zarr", modality="mr", classes={4: "[b]kidney"}) as writer:
        writer.write("one", np.ones((1, 5, 7, 11), np.int16), label, (3, 1, 0.5), affine_of((3, 1, 0.5)))
        writer.write("two", np.full((2, 5, 7, 11), 0.5), None, (3, 1, 0.5), affine_of((3, 1, 0.5)))
        writer.finish()
    return tmp_path / "ds.zarr"


def run(*args: object) -> int:
    with pytest.raises(SystemExit) as stop:
        main(["info", *map(str, args)])
    return int(stop.value.code or 0)


def test_text_shows_volumes_classes_memory_and_fingerprint(dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(dataset) == 0
    out = capsys.readouterr().out
    for part in (
        "1x5x7x11",
        "2x5x7x11",
        "float32",
        "no label",
        "2 volumes, modality mr, spacing z,y,x mm: 3, 1, 0.5",
        "class 4 [b]kidney: 1 voxels",
        "class 0 background: 384 voxels",
        f"fingerprint {Dataset.open(dataset).fingerprint}",
    ):
        assert part in out


def test_json_holds_the_same_and_the_memory_is_that_of_the_decoded_arrays(dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(dataset, "--json") == 0
    report = json.loads(capsys.readouterr().out)
    opened = Dataset.open(dataset)
    arrays = [array for name in opened.volumes for array in (opened.read(name).image, opened.read(name).label) if array is not None]
    assert report["size_bytes"] == sum(array.nbytes for array in arrays)
    assert report["class_voxels"] == {"0": 384, "4": 1}
    assert [volume["id"] for volume in report["volumes"]] == ["one", "two"]
    assert report["volumes"][0]["affine"] == affine_of((3, 1, 0.5)).tolist()


def test_what_is_no_dataset_or_damaged_has_its_exit_code(dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path / "absent.zarr") == 4
    assert "there is no dataset at" in capsys.readouterr().err
    assert run(tmp_path) == 6
    assert "is not a Zarr v3 group" in capsys.readouterr().err
    (dataset / "one/0/c/0/0/0/0").unlink()
    assert run(dataset) == 6
    assert "volume 'one' of" in capsys.readouterr().err


def test_a_spacing_that_rounding_moved_does_not_differ(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with DatasetWriter(tmp_path / "ds.zarr", modality="ct") as writer:
        for name, z in (("one", 3.0), ("two", 3.0000000000000004)):
            writer.write(name, np.ones((1, 5, 7, 11), np.int16), None, (z, 1, 0.5), affine_of((z, 1, 0.5)))
        writer.finish()
    assert run(tmp_path / "ds.zarr") == 0
    assert "2 volumes, modality ct, spacing z,y,x mm: 3, 1, 0.5" in capsys.readouterr().out
    assert run(tmp_path / "ds.zarr", "--json") == 0
    assert json.loads(capsys.readouterr().out)["spacing_mm"] == [3.0, 1.0, 0.5]


def test_statistics_are_shown_computed_where_absent_and_kept_when_asked(dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (dataset / ".statistics/two.json").unlink()
    assert run(dataset, "--statistics") == 0
    out = capsys.readouterr().out
    assert "statistics one channel 1 foreground: mean 1, std 0, 0.5 % 1, 99.5 % 1" in out
    assert "statistics two channel 2 all: mean 0.5, std 0, 0.5 % 0.5, 99.5 % 0.5" in out
    assert "statistics two channel 1 foreground: no voxels" in out
    assert not (dataset / ".statistics/two.json").exists()
    assert run(dataset, "--statistics", "--write", "--json") == 0
    report = json.loads(capsys.readouterr().out)["statistics"]
    assert report["volumes"]["two"]["channels"][1]["all"]["count"] == 385
    assert report["foreground"][0]["mean"] == 1
    assert Dataset.open(dataset).statistics("two").channels[0].all.mean == 0.5
    assert run(dataset, "--write") == 64
