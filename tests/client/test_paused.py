"""A server that is paused or gone at some point of the way to a stream: its socket, its memory, the call."""

from __future__ import annotations

import threading
import time

import augclient
import grpc
import pytest
from augclient import errors
from augclient.stream.road import Road
from augclient.wire.v1 import augserver_pb2 as pb

pytestmark = pytest.mark.usefixtures("each_receiver")

PATCH = (3, 5, 7)
RECIPE = augclient.Recipe()


class Pause:
    """Holds up calls of a toy server's method while it is on."""

    def __init__(self, servicer, name):
        self.on = False
        self._over = threading.Event()
        method = getattr(servicer, name)
        setattr(servicer, name, lambda request, context: (self._over.wait(60) if self.on else None, method(request, context))[1])

    def end(self):
        self.on = False
        self._over.set()


@pytest.fixture
def pause(toy, running):
    """Of GetDataset, on a server of its own: gRPC asks the servicer for its methods once."""
    servicer = toy.ToyServicer()
    pause = Pause(servicer, "GetDataset")
    running.stop()
    running.servicer = servicer
    running.start()
    yield pause
    pause.end()


def test_a_server_paused_where_it_is_asked_for_its_socket_is_noticed_by_the_deadline_of_a_step(running, pause):
    with augclient.connect(running.address) as server:  # timeout_s is 30
        stream = server.stream(RECIPE, patch=PATCH, batch_size=2, step_timeout_s=0.2, reconnect_s=0.5)
        pause.on = True
        begun = time.monotonic()
        with pytest.raises(errors.UnavailableError, match=r"nothing came for step_timeout_s = 0\.2 s, though batch 0 is due"):
            next(stream)
        assert time.monotonic() - begun < 10


def test_a_stream_that_is_on_its_way_to_a_paused_server_closes_at_once(running, pause):
    with augclient.connect(running.address) as server:
        stream = server.stream(RECIPE, patch=PATCH, batch_size=2)
        pause.on = True
        begun = time.monotonic()
        closer = threading.Timer(0.2, stream.close)
        closer.start()
        with pytest.raises(errors.StateError, match="closed while it waited for batch 0"):
            next(stream)
        closer.join()
        assert time.monotonic() - begun < 10  # timeout_s is 30


def test_a_server_paused_for_longer_than_an_answer_may_take_is_waited_for(toy, running, pause):
    with augclient.connect(running.address, timeout_s=0.2) as server:
        stream = server.stream(RECIPE, patch=PATCH, batch_size=2, steps=3)
        pause.on = True
        resume = threading.Timer(0.7, pause.end)
        resume.start()
        assert [batch.step for batch in stream] == [0, 1, 2]
        resume.join()


def test_a_server_that_still_counts_the_stream_it_lost_is_asked_again(running):
    """Its budget is full for a moment: no answer to give the trainer. At a stream's beginning it is one."""
    leave = threading.Event()
    refusals = 2

    def refuse(request, context):
        nonlocal refusals
        if len(running.servicer.requests) == 1:
            leave.wait(60)
        elif refusals:
            refusals -= 1
            context.set_trailing_metadata((("augserver-error", "BudgetError"),))
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "1 streams are open, the budget is streams.max_streams = 1")

    running.servicer.refuse = refuse
    with augclient.connect(running.address) as server:
        with server.stream(RECIPE, patch=PATCH, batch_size=2, steps=3, step_timeout_s=0.2) as stream:
            assert [batch.step for batch in stream] == [0, 1, 2]
        assert refusals == 0
        refusals = 1
        with pytest.raises(errors.BudgetError, match=r"streams\.max_streams = 1"):
            next(server.stream(RECIPE, patch=PATCH, batch_size=2))
    leave.set()


class Answered:
    """A call of which the answer is there."""

    def __init__(self, *answers):
        self._answers = list(answers)

    def result(self):
        return self._answers[0]

    def cancel(self):
        pass

    def __next__(self):
        return self._answers.pop(0)


class Link:
    token = b"token"


class Calls:
    """A server whose socket fails the first times."""

    def __init__(self, monkeypatch, *failures):
        self.asked = 0
        self.get_dataset = self
        failures = list(failures)

        def open_link(path, *, writable):
            if failures:
                raise failures.pop(0)
            return Link()

        monkeypatch.setattr("augclient.stream.road.open_link", open_link)

    def future(self, request, metadata, timeout):
        self.asked += 1
        return Answered(pb.Dataset(local_socket="/run/augserver/it.sock"))

    def stream_batches(self, request, metadata):
        return Answered(b"shared" if request.HasField("local") else b"sent")


GONE = (errors.UnavailableError("nobody listens"), errors.DeadlineError("no answer"))


@pytest.mark.parametrize("failure", GONE)
@pytest.mark.parametrize("transport", ["auto", "local"])
def test_a_server_that_goes_between_its_answer_and_its_socket_is_asked_again(monkeypatch, transport, failure):
    calls, road = Calls(monkeypatch, failure), Road(transport, prefetch=2)
    assert next(road.open(calls, (), pb.StreamBatchesRequest())) == b"shared"
    assert (calls.asked, road.taken) == (2, "local")


@pytest.mark.parametrize("failure", GONE)
def test_a_socket_that_never_answers_costs_shared_memory_or_the_call(monkeypatch, failure):
    road = Road("auto", prefetch=2)
    assert next(road.open(Calls(monkeypatch, failure, failure), (), pb.StreamBatchesRequest())) == b"sent"
    assert (road.taken, road.reason) == ("grpc", f"shared memory cannot be had: {failure}")
    with pytest.raises(grpc.RpcError, match=str(failure)) as lost:
        next(Road("local", prefetch=2).open(Calls(monkeypatch, failure, failure), (), pb.StreamBatchesRequest()))
    assert lost.value.code() is grpc.StatusCode.UNAVAILABLE  # as of a lost server, which is called again


def test_a_socket_that_was_never_there_is_an_answer(monkeypatch):
    absent = errors.StateError("there is no socket here")
    calls = Calls(monkeypatch, absent)
    with pytest.raises(errors.StateError, match='transport="local": there is no socket here'):
        next(Road("local", prefetch=2).open(calls, (), pb.StreamBatchesRequest()))
    assert calls.asked == 1
