"""What the machine lacks while a call is answered: a status under which a client may try again, never INTERNAL."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import Any

import grpc
import pytest
from augclient.wire.v1 import augserver_pb2 as pb

from augserver.store import Dataset


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (OSError(errno.EMFILE, os.strerror(errno.EMFILE)), grpc.StatusCode.UNAVAILABLE, "Too many open files"),
        (OSError(errno.ENFILE, os.strerror(errno.ENFILE)), grpc.StatusCode.UNAVAILABLE, "Too many open files in system"),
        (RuntimeError("can't start new thread"), grpc.StatusCode.UNAVAILABLE, "can't start new thread"),
        (MemoryError(), grpc.StatusCode.RESOURCE_EXHAUSTED, "no memory left"),
        (ZeroDivisionError("a bug"), grpc.StatusCode.INTERNAL, "incident"),
    ],
)
def test_a_shortage_is_told_from_a_bug(
    dataset: Dataset,
    start_server: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    status: grpc.StatusCode,
    words: str,
) -> None:
    running = start_server(dataset, local={"mode": "off"})

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(running.server.cache, "lease", fail)
    with pytest.raises(grpc.RpcError) as caught:
        list(running.stub.GetVolume(pb.GetVolumeRequest(id="case_1"), timeout=20))
    assert caught.value.code() is status
    assert words in caught.value.details()
