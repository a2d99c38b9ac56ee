"""Streams through real proxies: whatever they do to a call, the client asks again by batch index, without a gap and without a repeat."""

from __future__ import annotations

import threading
import time

import augclient
import numpy as np
import pytest
from augclient import errors

NAMES = ("nginx", "haproxy", "nghttpx", "envoy", "caddy")
PATCH = (16, 32, 32)
RECIPE = augclient.Recipe()
PART = r"(does not reach the server: is `augserver serve` running|broke off without a status of the server's own)"
HOW = {"patch": PATCH, "batch_size": 4, "transport": "grpc"}
pytestmark = [pytest.mark.usefixtures("each_receiver"), pytest.mark.slow, pytest.mark.parametrize("name", NAMES)]


def assert_whole(toy, batches, steps):
    assert [batch.step for batch in batches] == list(range(steps))
    for batch in batches:
        for k, sample in enumerate(batch.samples):
            assert sample.index == batch.step * 4 + k
            np.testing.assert_array_equal(batch.image[k], toy.toy_image(sample.index, PATCH))


def test_a_server_that_is_killed_and_comes_back_costs_time_alone(toy, in_front_of, name, server_process, caplog):
    proxy = in_front_of(name, server_process.port)
    batches, again = [], []
    restart = threading.Timer(0.5, lambda: again.append(type(server_process)(server_process.port)))
    with augclient.connect(proxy.address) as server, server.stream(RECIPE, steps=40, reconnect_s=30, **HOW) as stream:
        for batch in stream:
            batches.append(batch)
            if batch.step == 10:
                server_process.kill()
                restart.start()
    restart.join()
    again[0].kill()
    assert_whole(toy, batches, 40)
    assert "is asked for again, for up to 30 s" in caplog.text


def test_a_proxy_that_is_killed_and_comes_back_costs_time_alone(toy, in_front_of, name, server_process):
    proxy = in_front_of(name, server_process.port)
    batches = []
    with augclient.connect(proxy.address) as server, server.stream(RECIPE, steps=40, reconnect_s=30, **HOW) as stream:
        for batch in stream:
            batches.append(batch)
            if batch.step == 10:
                proxy.kill()
                time.sleep(0.5)
                proxy.start()
    assert_whole(toy, batches, 40)


def test_a_trainer_that_pauses_for_longer_than_the_proxy_waits_goes_on(toy, in_front_of, name, running):
    running.servicer.part_bytes = 1 << 16
    proxy = in_front_of(name, running.port, limit_s=1)
    batches = []
    with augclient.connect(proxy.address) as server, server.stream(RECIPE, steps=30, reconnect_s=1.5, **HOW) as stream:
        for batch in stream:
            batches.append(batch)
            if batch.step == 5:
                time.sleep(4)
    assert_whole(toy, batches, 30)


def test_a_server_that_is_silent_for_longer_than_the_proxy_waits_is_asked_again(toy, in_front_of, name, running, monkeypatch, caplog):
    proxy = in_front_of(name, running.port, limit_s=1)
    running.servicer.part_bytes = 1 << 16
    make, late = toy.toy_batch, [True]

    def make_late(request, step, labels=True):
        if step == 3 and late:
            late.clear()
            time.sleep(2.5)
        return make(request, step, labels)

    monkeypatch.setattr(toy, "toy_batch", make_late)
    with augclient.connect(proxy.address) as server:
        batches = list(server.stream(RECIPE, steps=8, reconnect_s=20, **HOW))
    assert_whole(toy, batches, 8)
    assert "raise" in caplog.text
    assert "limits" in caplog.text


def test_a_server_that_stays_away_is_an_error_that_names_the_proxys_part(in_front_of, name, running, each_receiver):
    proxy = in_front_of(name, running.port, limit_s=5)
    with augclient.connect(proxy.address) as server, server.stream(RECIPE, steps=1000, reconnect_s=1, **HOW) as stream:
        next(stream)
        running.stop()
        with pytest.raises(errors.UnavailableError, match=rf"{PART}.*for reconnect_s = 1 s; the next one is \d+") as told:
            for _ in stream:
                pass
        for ask in (server.dataset, lambda: server.volume("case_0")):
            with pytest.raises(errors.UnavailableError, match=PART):
                ask()
    if each_receiver == "own" and name != "haproxy":  # which writes no header of its own
        assert name in str(told.value).lower()
    running.start()
