"""Damage and trouble of the machine are told apart by what was raised, where files and codecs raise it."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from zarr.storage import LocalStore

from augserver.errors import UnavailableError, VolumeError
from augserver.store import Dataset
from augserver.store import dataset as dataset_module
from augserver.store.machine_fault import is_machine_fault


@pytest.mark.parametrize("number", [errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EACCES, errno.ESTALE, errno.ETIMEDOUT])
def test_errors_of_disk_network_and_limits_say_nothing_of_the_content(number: int) -> None:
    assert is_machine_fault(OSError(number, os.strerror(number)))


@pytest.mark.parametrize(
    "error",
    [
        FileNotFoundError(errno.ENOENT, "gone"),
        NotADirectoryError(errno.ENOTDIR, "a file"),
        OSError(errno.EINVAL, "offset"),
        OSError("a codec's own"),
        RuntimeError("Zstd decompression error: Data corruption detected"),
        ValueError("checksum"),
    ],
)
def test_errors_of_content_are_damage(error: Exception) -> None:
    assert not is_machine_fault(error)


def test_no_memory_and_no_thread_are_of_the_machine() -> None:
    assert is_machine_fault(MemoryError())
    assert is_machine_fault(RuntimeError("can't start new thread"))


@pytest.mark.parametrize("number", [errno.EIO, errno.EMFILE])
def test_a_chunk_that_cannot_be_read_now_is_no_damage_and_hides_its_path(
    make_dataset: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    path = make_dataset()
    dataset = Dataset.open(path)

    async def fail(store: Any, key: str, *_: Any, **__: Any) -> None:
        raise OSError(number, os.strerror(number), str(path / key))

    with monkeypatch.context() as patched:
        patched.setattr(LocalStore, "get", fail)
        with pytest.raises(UnavailableError, match=f"volume 'b': 0 cannot be read now .{os.strerror(number)}") as caught:
            dataset.read("b")
    assert str(path) not in str(caught.value)
    assert isinstance(caught.value.__cause__, OSError)
    assert dataset.read("b").image.any()


def test_a_file_that_vanishes_while_it_is_read_is_damage_and_not_zeros(
    make_dataset: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_dataset()
    dataset = Dataset.open(path)
    dataset.read("b")  # later reads do not compare the voxels' sha256
    check = dataset_module.check_files

    def check_then_lose(folder: Path, record: dict[str, Any]) -> None:
        check(folder, record)
        (folder / "0/c/0/0/0/0").unlink()

    monkeypatch.setattr(dataset_module, "check_files", check_then_lose)
    with pytest.raises(VolumeError, match=r"volume 'b' .* is missing"):
        dataset.read("b")


def test_a_dataset_that_is_gone_is_told_from_a_volume_that_is(make_dataset: Callable[..., Path]) -> None:
    path = make_dataset()
    dataset = Dataset.open(path)
    (path / "b").rename(path / "c")
    with pytest.raises(VolumeError, match=r"volume 'b' .* is missing"):
        dataset.read("b")
    path.rename(path.with_name("away"))
    with pytest.raises(UnavailableError, match="is gone as a whole"):
        dataset.read("a")
