"""Killed, contended and resumed writers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from augserver.errors import ConfigError, StoreError
from augserver.store import Dataset, DatasetWriter

KILLED_WRITER = textwrap.dedent("""
    import os, pathlib, signal, sys
    import numpy as np
    import augserver.store.writer as writer
    from augserver.geometry import affine_of

    def volume(seed):
        rng = np.random.default_rng(seed)
        return rng.integers(-1000, 2000, (1, 5, 7, 11)), rng.integers(0, 3, (5, 7, 11)).astype(np.uint8), (3.0, 1.0, 0.5), affine_of(
            (3.0, 1.0, 0.5), (10.0 + seed, 20.0, -30.0)
        )

    owner = pathlib.Path if sys.argv[2] == "rename" else writer.layout
    original = getattr(owner, sys.argv[2])
    w = writer.DatasetWriter(sys.argv[1], modality="ct", classes={1: "liver"})
    w.write("a", *volume(1))

    def die(*args):
        original(*args)
        os.kill(os.getpid(), signal.SIGKILL)

    setattr(owner, sys.argv[2], die)
    w.write("b", *volume(2))
""")


@pytest.mark.slow
@pytest.mark.parametrize("point", ["shard_sizes", "flush_tree", "rename"])
def test_a_writer_killed_inside_a_volume_resumes_to_the_fingerprint_of_an_undisturbed_one(
    make_dataset: Callable[..., Path], tmp_path: Path, volume: Callable[..., Any], point: str
) -> None:
    path = tmp_path / "killed.zarr"
    killed = subprocess.run([sys.executable, "-P", "-c", KILLED_WRITER, path, point], capture_output=True, timeout=120, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    debris = [item.name for item in path.iterdir() if item.name.startswith(".")]
    assert ".augserver.lock" in debris
    assert (".partial-b" in debris) == (point != "rename")  # after the rename, the volume is whole
    with pytest.raises(StoreError, match="not finished"):
        Dataset.open(path)
    with DatasetWriter(path, modality="ct", classes={1: "liver"}) as writer:
        assert writer.has("a")
        assert writer.has("b") == (point == "rename")
        assert not (path / ".partial-b").exists()
        if not writer.has("b"):
            writer.write("b", **volume(2))
        resumed = writer.finish()
    assert resumed == Dataset.open(make_dataset()).fingerprint
    assert sorted(item.name for item in path.iterdir()) == [".statistics", "a", "b", "zarr.json"]


def test_there_is_one_writer_at_a_time_and_it_frees_the_dataset_when_it_ends(tmp_path: Path, volume: Callable[..., Any]) -> None:
    path = tmp_path / "ds.zarr"
    with DatasetWriter(path, modality="ct") as writer:
        writer.write("a", **volume(1))
        with pytest.raises(StoreError, match="another process is writing"):
            DatasetWriter(path, modality="ct")
    with DatasetWriter(path, modality="ct") as writer:
        assert writer.has("a")
    assert [item.name for item in path.glob(".*")] == [".statistics"]  # no lock, nothing half written


@pytest.mark.parametrize("options", [{"modality": "mr"}, {"classes": {1: "spleen"}}, {"preprocessing": {"spacing_mm": [3, 3, 3]}}])
def test_other_settings_do_not_resume(make_dataset: Callable[..., Path], options: dict[str, Any]) -> None:
    path = make_dataset()
    with pytest.raises(StoreError, match=f"was written with {next(iter(options))}"):
        DatasetWriter(path, **({"modality": "ct", "classes": {1: "liver"}} | options))
    Dataset.open(path)


def test_readers_see_the_finished_state_until_an_extension_is_finished(
    make_dataset: Callable[..., Path], volume: Callable[..., Any]
) -> None:
    path = make_dataset()
    before = Dataset.open(path).fingerprint
    with DatasetWriter(path, modality="ct", classes={1: "liver"}) as writer:
        writer.write("c", **volume(3))
        assert Dataset.open(path).fingerprint == before
        assert Dataset.open(path).volumes == ("a", "b")
        after = writer.finish()
    assert after != before
    assert Dataset.open(path).fingerprint == after
    assert Dataset.open(path).volumes == ("a", "b", "c")


def test_a_folder_with_other_things_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "precious.txt").write_text("x")
    with pytest.raises(StoreError, match=r"not empty and not a dataset \(it holds 'precious.txt'\)"):
        DatasetWriter(tmp_path, modality="ct")
    assert [item.name for item in tmp_path.iterdir()] == ["precious.txt"]
    with pytest.raises(StoreError, match="cannot be made"):
        DatasetWriter(tmp_path / "precious.txt", modality="ct")


def test_a_disk_that_fails_is_told_and_leaves_no_half_volume(
    tmp_path: Path, volume: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "ds.zarr"
    with DatasetWriter(path, modality="ct", classes={1: "liver"}) as writer:
        writer.write("a", **volume(1))

        def full(folder: Path) -> None:
            raise OSError(28, os.strerror(28))

        with monkeypatch.context() as patch:
            patch.setattr("augserver.store.layout.flush_tree", full)
            with pytest.raises(StoreError, match=r"volume 'b' cannot be written .*No space left"):
                writer.write("b", **volume(2))
        assert not (path / ".partial-b").exists()
        writer.write("b", **volume(2))
        writer.finish()
    assert Dataset.open(path).volumes == ("a", "b")


class Watched(dict):  # type: ignore[type-arg]
    """A dict that counts how often someone walks through all of it."""

    walks = 0

    def __iter__(self) -> Any:
        self.walks += 1
        return super().__iter__()

    def items(self) -> Any:
        self.walks += 1
        return super().items()

    def values(self) -> Any:
        self.walks += 1
        return super().values()


def test_a_volume_costs_the_same_however_many_there_are(tmp_path: Path, volume: Callable[..., Any]) -> None:
    with DatasetWriter(tmp_path / "many.zarr", modality="ct") as writer:
        writer.write("first", **volume(1))
        for k in range(20_000):
            writer._keep(f"v{k}", {"class_voxels": {"1": 5}, "added_classes": {"1": "liver"}})
        writer._records = Watched(writer._records)
        writer.write("last", **volume(2))
        with pytest.raises(StoreError, match="already has volume 'v19999'"):
            writer.write("V19999", **volume(3))
        assert writer.classes == {0: "background", 1: "liver"}
        assert 1 in writer.class_ids
        assert writer._records.walks == 0


def test_classes_follow_the_labels_that_volumes_have_now(tmp_path: Path, volume: Callable[..., Any]) -> None:
    path = tmp_path / "labels.zarr"
    given = volume(1)
    one, two = np.zeros_like(given["label"]), np.zeros_like(given["label"])
    one[0], two[0] = 7, 9
    with DatasetWriter(path, modality="ct") as writer:
        writer.write("a", **given | {"label": one})
        assert writer.class_ids == {0, 7}
        writer.write_label("a", two, {9: "spleen"})
        assert writer.class_ids == {0, 9}
        writer.finish()
    with DatasetWriter.reopen(path) as writer:
        assert writer.class_ids == {0, 9}
        assert writer.classes == {0: "background", 9: "spleen"}
        with pytest.raises(StoreError, match="already has volume 'a'"):
            writer.write("A", **given)
    assert Dataset.open(path).classes == {0: "background", 9: "spleen"}


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ({1: "liver", 2: "liver"}, "class names must differ"),
        ({1: "background"}, "'background' is id 0's"),
        ({1: "class_2"}, "class 1 cannot be called 'class_2': so is an id that has no name"),
        ({256: "liver"}, "classes map ids 0..255 to names"),
    ],
)
def test_class_names_that_could_mean_two_classes_are_refused(tmp_path: Path, classes: dict[int, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        DatasetWriter(tmp_path / "x.zarr", modality="ct", classes=classes)
    DatasetWriter(tmp_path / "x.zarr", modality="ct", classes={2: "class_2", 3: "class_of_2026"}).close()
    assert not (tmp_path / "x.zarr").exists()
