"""The decoder of older JPEGs in its process: one that dies or hangs is replaced, and the next good slice is decoded at once."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from augserver.errors import VolumeError
from augserver.ingest.readers import jpeg_process
from augserver.ingest.readers.jpeg_process import read_in_process


@pytest.fixture
def good(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A slice, and no decoder's process before or after the test."""
    monkeypatch.setattr(jpeg_process, "_pools", [])
    writer = sitk.ImageFileWriter()
    writer.SetFileName(str(tmp_path / "good.dcm"))
    writer.Execute(sitk.GetImageFromArray(np.arange(64, dtype=np.int16).reshape(8, 8)[None]))
    yield str(tmp_path / "good.dcm")
    for pool in jpeg_process._pools:
        pool.shutdown()


def _process() -> int:
    [number] = jpeg_process._pools[0]._processes
    return number


def test_a_decoder_that_hangs_is_replaced(tmp_path: Path, good: str, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "hangs.dcm")  # nobody writes into it, so that reading it never ends
    read_in_process(good, "slice 1")
    hung = _process()
    with monkeypatch.context() as patched:
        patched.setattr(jpeg_process, "_TIMEOUT_S", 1.5)
        with pytest.raises(VolumeError, match=r"^slice 2: its packed pixels are corrupt: the decoder did not finish in 1.5 s"):
            read_in_process(str(tmp_path / "hangs.dcm"), "slice 2")
    for name in ("slice 3", "slice 4"):
        np.testing.assert_array_equal(read_in_process(good, name), np.arange(64).reshape(8, 8))
    assert _process() != hung
    deadline = time.monotonic() + 60
    while Path(f"/proc/{hung}").exists():  # it is killed, not left behind
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_decoder_that_dies_is_replaced(good: str) -> None:
    read_in_process(good, "slice 1")
    dead = _process()
    os.kill(dead, 9)
    with pytest.raises(VolumeError, match=r"^slice 2: its packed pixels are corrupt: the decoder ended on them; copy it again"):
        read_in_process(good, "slice 2")
    np.testing.assert_array_equal(read_in_process(good, "slice 3"), np.arange(64).reshape(8, 8))
    assert _process() != dead
