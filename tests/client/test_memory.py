"""Memory of the reading process over many batches, and of what it allocates per batch."""

from __future__ import annotations

import gc
import os
import weakref
from types import SimpleNamespace

import augclient
import numpy as np
import psutil
import pytest
from augclient.stream.receiver import Receiver

PATCH = (8, 32, 32)  # 0.3 MB a batch with two channels, in five parts
RECIPE = augclient.Recipe()


@pytest.mark.slow
def test_reader_stays_flat_over_a_thousand_batches(server_process):
    process = psutil.Process(os.getpid())
    with augclient.connect(server_process.address) as server:
        stream = server.stream(RECIPE, patch=PATCH, batch_size=4, steps=1100)
        resident = {}
        for batch in stream:
            if batch.step in (100, 1099):
                gc.collect()
                resident[batch.step] = process.memory_info().rss
        assert stream.statistics().allocated <= 4
        assert resident[1099] - resident[100] < 4 << 20  # 13 batches; 1000 were received


@pytest.mark.slow
def test_opening_and_dropping_streams_leaves_nothing(running):
    process = psutil.Process(os.getpid())
    with augclient.connect(running.address) as server:
        used = []
        for round_ in range(60):
            next(server.stream(RECIPE, patch=(3, 5, 7), batch_size=4))
            if round_ in (20, 59):
                gc.collect()
                used.append((process.memory_info().rss, process.num_threads(), process.num_fds()))
    (rss, threads, fds), (rss_after, threads_after, fds_after) = used
    assert rss_after - rss < 8 << 20
    assert threads_after <= threads + 1  # the toy server, in this process too, may have one more
    assert fds_after <= fds


class Part(bytearray):
    """A part that can be referenced weakly, which bytes cannot."""


class Call:
    """A call that gives `parts` parts, and notes of each whether it was still there when the next one was asked for."""

    def __init__(self, parts):
        self._left = parts
        self._last = None
        self.kept = []

    def __iter__(self):
        return self

    def __next__(self):
        if self._last is not None:
            self.kept.append(self._last() is not None)
        if not self._left:
            raise StopIteration
        self._left -= 1
        part = Part(b"some voxels")
        self._last = weakref.ref(part)
        return part

    def cancel(self):
        pass


def test_each_part_is_let_go_before_the_next_one_is_received():
    call = Call(parts=6)
    seen = []

    def add(data, step):
        seen.append(len(data))
        return augclient.Batch(step, np.zeros((1, 1, 2, 3, 4), np.float32), None, ()) if len(seen) % 3 == 0 else None

    receiver = Receiver(
        lambda step: call,
        SimpleNamespace(add=add, reset=lambda: None),
        address="here:1",
        first=0,
        stop=2,
        stride=1,
        prefetch=2,
        reconnect_s=1,
        step_timeout_s=60,
    )
    assert [receiver.take().step, receiver.take().step, receiver.take()] == [0, 1, None]
    receiver.close()
    assert call.kept == [False] * 6
