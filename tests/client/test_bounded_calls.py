"""Calls end: a server that stands still behind something that answers pings, and one that is not there yet."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent import futures

import augclient
import grpc
import numpy as np
import pytest
from augclient import Transform, errors
from augclient.wire.methods import SERVICE
from augclient.wire.v1 import augserver_pb2 as pb

RECIPE = augclient.Recipe()
HOW = {"patch": (3, 5, 7), "batch_size": 2}
pytestmark = pytest.mark.usefixtures("each_receiver")


@pytest.fixture
def leave() -> Iterator[threading.Event]:
    """Set at the end, so that handlers which stand still end too."""
    event = threading.Event()
    yield event
    event.set()


def test_a_volume_that_stops_coming_is_a_deadline_error(running, leave):
    def stand_still(parts):
        yield parts[0]
        leave.wait(60)

    running.servicer.change = stand_still
    with augclient.connect(running.address, timeout_s=0.5) as server:
        began = time.monotonic()
        with pytest.raises(errors.DeadlineError, match=r"nothing of volume 'case_1' came for timeout_s = 0\.5 s"):
            server.volume("case_1")
        assert time.monotonic() - began < 5
    assert not [thread for thread in threading.enumerate() if thread.name == "augclient-silence" and thread.is_alive() and time.sleep(0.2)]


def test_a_volume_that_comes_slowly_is_not_cut_off(running):
    def slowly(parts):
        for part in parts:
            time.sleep(0.1)
            yield part

    running.servicer.change = slowly  # 10 parts: longer than timeout_s in all
    with augclient.connect(running.address, timeout_s=0.5) as server:
        assert server.volume("case_1").label.shape == (5, 7, 11)


class Still(grpc.GenericRpcHandler):
    """Says what it holds; a Warp that reads and never answers."""

    def __init__(self, toy, leave: threading.Event) -> None:
        self._toy = toy.ToyServicer()
        self._leave = leave

    def service(self, call):
        if call.method == f"/{SERVICE}/GetDataset":
            return grpc.unary_unary_rpc_method_handler(self._toy.GetDataset, pb.GetDatasetRequest.FromString, pb.Dataset.SerializeToString)
        if call.method != f"/{SERVICE}/Warp":
            return None

        def warp(messages, context):
            for _ in messages:
                pass
            self._leave.wait(60)
            return iter(())

        return grpc.stream_stream_rpc_method_handler(warp, None, None)


@pytest.fixture
def still(toy, leave) -> Iterator[str]:
    server = grpc.server(futures.ThreadPoolExecutor(4))
    server.add_generic_rpc_handlers((Still(toy, leave),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    leave.set()
    server.stop(None).wait()


def test_a_warp_that_is_not_answered_is_a_deadline_error_that_says_how_to_go_on(still):
    with augclient.connect(still) as server:
        began = time.monotonic()
        stream = server.warp([np.zeros((4, 4, 4), np.int16)] * 3, Transform(), step_timeout_s=0.5)
        with pytest.raises(errors.DeadlineError, match="Items from 0 on have no result: start another warp stream"):
            next(stream)
        assert 0.4 < time.monotonic() - began < 5


def test_the_callers_own_slowness_is_not_the_servers_silence(still):
    def slow():
        time.sleep(1.0)
        yield np.zeros((4, 4, 4), np.int16)

    with augclient.connect(still) as server:
        began = time.monotonic()
        stream = server.warp(slow(), Transform(), step_timeout_s=0.4)
        with pytest.raises(errors.DeadlineError):
            next(stream)
        assert time.monotonic() - began > 1.3


@pytest.mark.parametrize("value", ["5", -1, float("nan"), [3]])
@pytest.mark.parametrize(
    ("name", "ask"),
    [
        ("hedge_s", lambda server, value: server.stream(RECIPE, hedge_s=value, **HOW)),
        ("step_timeout_s", lambda server, value: server.warp([], Transform(), step_timeout_s=value)),
        ("wait_s", lambda server, value: augclient.connect("127.0.0.1:1", wait_s=value)),
    ],
)
def test_what_is_no_number_of_seconds_is_refused(running, name, ask, value):
    with augclient.connect(running.address) as server, pytest.raises(errors.RequestError, match=f"{name}: got"):
        ask(server, value)


def test_weights_for_volumes_are_refused_by_name(running):
    with augclient.connect(running.address) as server:
        for volumes in ({"case_0": 2.0}, "case_0", 7, [], ["case_0", "case_0"], [7]):
            with pytest.raises(errors.RequestError, match="volumes: got"):
                server.stream(RECIPE, volumes=volumes, **HOW)
        with pytest.raises(errors.RequestError, match="a weight for each volume is not supported"):
            server.stream(RECIPE, volumes={"case_0": 2.0}, **HOW)
        assert len(list(server.stream(RECIPE, volumes={"case_0", "case_1"}, steps=2, **HOW))) == 2


def test_connect_and_a_stream_wait_for_a_server_that_is_not_there_yet(running, caplog):
    running.stop()
    with pytest.raises(errors.UnavailableError):
        augclient.connect(running.address)
    with pytest.raises(errors.UnavailableError, match=r"It was asked for 0\.3 s"):
        augclient.connect(running.address, wait_s=0.3)
    threading.Timer(0.5, running.start).start()
    with augclient.connect(running.address, wait_s=20) as server:
        running.stop()
        threading.Timer(0.5, running.start).start()
        assert [batch.step for batch in server.stream(RECIPE, steps=3, reconnect_s=20, **HOW)] == [0, 1, 2]
    assert "waiting for a server, for up to 20 s" in caplog.text


def test_who_may_read_streams_is_said(running):
    with pytest.raises(errors.ConfigError, match="receiver: got 'gprcio'; allowed: auto, own, grpcio"):
        augclient.connect(running.address, receiver="gprcio")
