"""What the page says of a running server."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import augclient
import pytest
from augclient import Recipe

from augserver.web import live
from augserver.web.live import LiveView


def test_rates_and_the_verdict_are_of_the_last_seconds_alone(shown: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(live, "time", SimpleNamespace(monotonic=lambda: now))  # not time.monotonic itself: other threads sleep by it
    view = LiveView(shown.server)

    def stream(steps: int) -> None:
        with augclient.connect(str(shown.server.address)) as server:
            assert sum(1 for _ in server.stream(Recipe(), patch=(8, 8, 8), batch_size=2, steps=steps, transport="grpc")) == steps

    first = view.read()
    assert (first["span_s"], first["made"]) == (0.0, 0)
    stream(3)
    now += 2
    second = view.read()
    assert (second["span_s"], second["made"]) == (2.0, 3)
    assert second["stages"]["kernel"]["size_bytes"] == 3 * 2 * 8**3 * 5
    assert second["verdict"]["limited_by"]
    now += 9
    stream(2)
    third = view.read()
    assert (third["span_s"], third["made"]) == (11.0, 5)
    now += 3
    assert (view.read()["span_s"], view.read()["made"]) == (3.0, 0)  # the reading of 12 s ago has gone
    now += 3600
    late = view.read()
    assert (late["span_s"], late["made"]) == (0.0, 0)
    assert late["verdict"]["reason"] == shown.server.verdict().reason
