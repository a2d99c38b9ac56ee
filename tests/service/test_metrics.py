"""Metrics as Prometheus's own parser reads them, and the verdict on made-up and on real streams."""

from __future__ import annotations

import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import augclient
import pytest
from prometheus_client.parser import text_string_to_metric_families

from augserver.errors import ConfigError, StateError
from augserver.pipeline.stage_clock import STAGES, StageClock, StageStatistics
from augserver.service.verdict import VerdictLog, judge


def scrape(running: Any) -> dict[tuple[str, str], float]:
    """(name, value of its only label or "") -> value."""
    with urllib.request.urlopen(f"http://{running.server.metrics.address}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    families = text_string_to_metric_families(text)
    return {
        (sample.name, next(iter(sample.labels.values()), "")): sample.value
        for family in families
        if family.name != "augserver_build"
        for sample in family.samples
    }


@pytest.fixture(scope="module")
def measured(dataset: Any, start_server: Callable[..., Any]) -> Any:
    return start_server(dataset, metrics={"address": "127.0.0.1:0"}, local={"mode": "off"})


def test_counters_grow_by_what_was_streamed(measured: Any) -> None:
    before = scrape(measured)
    with augclient.connect(str(measured.server.address)) as server:
        server.volume("case_1")
        with server.stream(augclient.Recipe(), patch=(5, 7, 9), batch_size=2, steps=6) as stream:
            sent = sum(batch.image.nbytes + batch.label.nbytes for batch in stream)
    assert measured.server.service.wait_idle(10)
    after = scrape(measured)

    def grown(name: str, label: str = "") -> float:
        return after[name, label] - before[name, label]

    assert grown("augserver_batches_total") == 6
    assert grown("augserver_stage_bytes_total", "kernel") == sent
    assert grown("augserver_stage_bytes_total", "wire") > sent
    assert grown("augserver_cache_hits_total") + grown("augserver_cache_misses_total") == 12 + 1
    assert all(grown("augserver_stage_seconds_total", stage) > 0 for stage in ("plan", "kernel", "copy", "wire"))
    assert after["augserver_streams", ""] == 0
    assert after["augserver_quarantined_volumes", ""] == 0
    assert after["augserver_stage_bytes_total", "store"] == after["augserver_cache_used_bytes", ""]  # each volume was decoded once


def test_names_and_units_follow_the_convention(measured: Any) -> None:
    with urllib.request.urlopen(f"http://{measured.server.metrics.address}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    for family in text_string_to_metric_families(text):
        assert family.name.startswith("augserver_")
        assert family.documentation.endswith(".")
        if family.type == "counter":
            assert all(sample.name.endswith("_total") for sample in family.samples)
    assert "case_1" not in text
    assert str(measured.dataset.path) not in text


def test_a_taken_port_keeps_the_server_from_starting(measured: Any, dataset: Any, start_server: Callable[..., Any]) -> None:
    with pytest.raises(StateError, match="for metrics: Address already in use"):
        start_server(dataset, metrics={"address": str(measured.server.metrics.address)})


def test_an_address_that_others_can_reach_keeps_the_server_from_starting_unless_asked_for(
    dataset: Any, start_server: Callable[..., Any]
) -> None:
    with pytest.raises(ConfigError, match=r"metrics\.address 0\.0\.0\.0:0 can be reached from other machines"):
        start_server(dataset, metrics={"address": "0.0.0.0:0"})
    opened = start_server(dataset, metrics={"address": "0.0.0.0:0", "insecure": True}, local={"mode": "off"})
    assert scrape(opened)["augserver_streams", ""] == 0


def stages(**seconds: float) -> dict[str, StageStatistics]:
    return {stage: StageStatistics(seconds.get(stage, 0.0)) for stage in STAGES}


@pytest.mark.parametrize(
    ("seconds", "limited_by", "share"),
    [
        ({}, "", 0.0),
        ({"batch_wait": 6.0, "wire": 2.0, "kernel": 3.0, "store": 1.0}, "kernel", 0.75),
        ({"batch_wait": 6.0, "wire": 2.0, "kernel": 1.0, "store": 3.0}, "store", 0.75),
        ({"batch_wait": 6.0, "plan": 3.0, "store": 1.0}, "plan", 1.0),
        ({"batch_wait": 1.0, "wire": 3.0, "kernel": 9.0}, "wire", 0.75),
        ({"copy": 3.0, "wire": 1.0, "kernel": 9.0}, "copy", 0.75),
        ({"batch_wait": 1.0, "wire": 1.0, "client": 1.5, "lease_wait": 1.5}, "trainer", 0.6),
    ],
)
def test_the_verdict_names_where_the_streams_time_went(seconds: dict[str, float], limited_by: str, share: float) -> None:
    before = {stage: StageStatistics(7.0) for stage in STAGES}  # what was before the interval does not count
    after = {stage: StageStatistics(7.0 + seconds.get(stage, 0.0)) for stage in STAGES}
    verdict = judge(before, after)
    assert (verdict.limited_by, verdict.share) == (limited_by, pytest.approx(share))
    assert (f"limited by: {limited_by}" in str(verdict)) == bool(limited_by)


def test_a_trainer_that_is_busy_is_what_limits_its_stream(dataset: Any, start_server: Callable[..., Any]) -> None:
    running = start_server(dataset, local={"mode": "off"})
    resume = iter(_held(running))
    next(resume)  # and now nobody reads for as long as the server needs to notice
    before = running.server.clock.statistics()["client"].seconds
    list(resume)
    assert running.server.clock.statistics()["client"].seconds > before + 0.3  # half a second, less what counts as sending
    assert running.server.verdict().limited_by == "trainer"


def _held(running: Any) -> Iterator[int]:
    """Batches of 4 MB, more than all buffers on the way hold, of which the second is asked for when the server has stood still."""
    recipe = augclient.Recipe(crop={"pad": True})
    server = augclient.connect(str(running.server.address))
    with server, server.stream(recipe, patch=(64, 64, 128), batch_size=2, steps=16) as stream:
        yield next(stream).step
        made, since = -1, 0
        while since < 20:  # half a second without a batch made: everything is full
            now = running.server.scheduler.statistics().batches
            made, since = (now, since + 1) if now == made else (now, 0)
            running.server.service.wait_idle(0.025)
        yield from (batch.step for batch in stream)


def test_the_log_says_the_verdict_while_something_streams_and_is_silent_otherwise(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "augserver")
    clock = StageClock()
    readings = iter([stages(), stages(), stages(kernel=2.0, batch_wait=2.0), stages(kernel=2.0, batch_wait=2.0)])
    last: list[dict[str, StageStatistics]] = []

    def read() -> Any:
        last.append(next(readings, clock.statistics() if not last else last[-1]))
        return last[-1]

    log = VerdictLog(read, 0.01)
    while len(last) < 6:
        log._closed.wait(0.01)
    log.close()
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 1
    assert lines[0].startswith("limited by: kernel (streams waited 100% of their time for batches")
