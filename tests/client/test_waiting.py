"""What a stream says of its trainer's time."""

from __future__ import annotations

import time

import augclient
import pytest
from augclient.stream.stream import StreamStatistics

pytestmark = pytest.mark.usefixtures("each_receiver")


def statistics(waiting_s: float, elapsed_s: float) -> StreamStatistics:
    return StreamStatistics(batches=9, waiting_s=waiting_s, elapsed_s=elapsed_s, allocated=0, free=0, shared=0, copied=0, held=0)


@pytest.mark.parametrize(
    ("waiting_s", "elapsed_s", "share", "limited_by"),
    [(0.0, 0.0, 0.0, ""), (9.0, 10.0, 0.9, "data"), (0.51, 10.0, 0.051, "data"), (0.49, 10.0, 0.049, "trainer")],
)
def test_waiting_is_a_share_of_the_time_and_names_who_limits(waiting_s: float, elapsed_s: float, share: float, limited_by: str) -> None:
    judged = statistics(waiting_s, elapsed_s)
    assert judged.waiting_share == pytest.approx(share)
    assert judged.limited_by == limited_by


def test_a_stream_counts_its_batches_and_the_time_between_them(toy, running):
    with augclient.connect(running.address) as server, server.stream(augclient.Recipe(), patch=(3, 5, 7), batch_size=4, steps=5) as stream:
        assert stream.statistics().limited_by == ""
        began = time.monotonic()
        assert sum(1 for _ in stream) == 5
        told, elapsed_s = stream.statistics(), time.monotonic() - began
    assert told.batches == 5
    assert 0.0 <= told.waiting_s <= told.elapsed_s <= elapsed_s
