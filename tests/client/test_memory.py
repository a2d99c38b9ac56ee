"""Memory of the reading process over many batches, and of what it allocates per batch."""

from __future__ import annotations

import gc
import os
import threading

import augclient
import psutil
import pytest

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
def test_opening_and_dropping_streams_leaves_nothing(running, open_sockets):
    process = psutil.Process(os.getpid())
    with augclient.connect(running.address) as server:
        used = []
        for round_ in range(60):
            next(server.stream(RECIPE, patch=(3, 5, 7), batch_size=4))
            if round_ in (20, 59):
                gc.collect()
                threads = [each for each in threading.enumerate() if each.name.startswith("augclient-")]
                used.append((process.memory_info().rss, len(threads), open_sockets()))
    (rss, threads, sockets), (rss_after, threads_after, sockets_after) = used
    assert rss_after - rss < 8 << 20
    assert threads_after <= threads
    assert sockets_after <= sockets + 2  # both ends of the last one may still be closing
