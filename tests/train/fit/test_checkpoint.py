"""A checkpoint is whole or not there, and damage is told with a way out."""

from __future__ import annotations

import random
import re
from pathlib import Path

import numpy as np
import pytest
from augclient.errors import StateError
from augtrain.fit.checkpoint import Checkpoint, read_last, write_checkpoint


def some(step: int) -> Checkpoint:
    rng = np.random.default_rng(step)
    arrays = {"variable/00000": rng.normal(size=(3, 5)).astype(np.float32), "variable/00001": np.array([7, step], np.int64)}
    return Checkpoint(step, arrays, {"note": f"step {step}", "nothing": None})


def test_what_was_written_is_read_back_to_the_bit(tmp_path: Path) -> None:
    assert read_last(tmp_path / "checkpoints") is None
    write_checkpoint(tmp_path / "checkpoints", some(3), keep=2)
    found = read_last(tmp_path / "checkpoints")
    assert found is not None
    assert (found.step, found.document["note"], found.document["nothing"]) == (3, "step 3", None)
    for name, array in some(3).arrays.items():
        assert found.arrays[name].dtype == array.dtype
        np.testing.assert_array_equal(found.arrays[name], array)


def test_the_last_ones_are_kept_in_the_order_of_their_steps(tmp_path: Path) -> None:
    for step in (9, 10, 999_999_999, 1_000_000_000):
        write_checkpoint(tmp_path, some(step), keep=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step_1000000000.npz", "step_999999999.npz"]
    found = read_last(tmp_path)
    assert found is not None
    assert found.step == 1_000_000_000


@pytest.mark.parametrize("seed", range(20))
def test_any_damage_is_noticed_and_the_one_before_named(tmp_path: Path, seed: int) -> None:
    for step in (1, 2):
        path = write_checkpoint(tmp_path, some(step), keep=2)
    content, rng = bytearray(path.read_bytes()), random.Random(seed)
    if seed % 4 == 0:
        del content[rng.randrange(len(content)) :]
    else:
        array = some(2).arrays["variable/00000"].tobytes()
        content[content.index(array) + rng.randrange(len(array))] ^= 1 << rng.randrange(8)
    path.write_bytes(content)
    with pytest.raises(StateError, match=r"step_000000002\.npz is damaged .*; delete it to go on from step_000000001\.npz"):
        read_last(tmp_path)
    path.unlink()
    found = read_last(tmp_path)
    assert found is not None
    assert found.step == 1


def test_another_version_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("augtrain.fit.checkpoint.VERSION", 99)
    write_checkpoint(tmp_path, some(1), keep=1)
    monkeypatch.undo()
    with pytest.raises(StateError, match="of version 99, this program reads 1"):
        read_last(tmp_path)


def test_a_disk_that_is_full_leaves_the_one_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_checkpoint(tmp_path, some(1), keep=1)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(StateError, match=re.escape("cannot be written (No space left on device)")):
        write_checkpoint(tmp_path, some(2), keep=1)
    found = read_last(tmp_path)
    assert found is not None
    assert found.step == 1
