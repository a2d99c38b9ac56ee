"""Streams from several servers: the same batches as from one, whoever dies, hangs, drains, returns or is new."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter

import augclient
import grpc
import numpy as np
import pytest
from augclient import errors
from augclient.fleet.seeds import Seeds, peer_addresses
from augclient.wire.rendezvous import order
from augclient.wire.v1 import augserver_pb2 as pb

pytestmark = pytest.mark.usefixtures("each_receiver")

PATCH = (3, 5, 7)
RECIPE = augclient.Recipe()
BATCH = 5  # not a multiple of three volumes: shares differ from step to step


def addresses(fleet):
    return [server.address for server in fleet]


def fleet_threads():
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("augclient-")]


def assert_whole(toy, batch, *, first=None, count=BATCH):
    first = batch.step * BATCH if first is None else first
    assert [sample.index for sample in batch.samples] == list(range(first, first + count))
    for k, index in enumerate(range(first, first + count)):
        np.testing.assert_array_equal(batch.image[k], toy.toy_image(index, PATCH))
        np.testing.assert_array_equal(batch.label[k], toy.toy_label(index, PATCH))
        assert batch.samples[k].affine[0, 0] == index


def owner_of(fleet, volume):
    """The server to which a volume falls."""
    first = order(addresses(fleet), volume)[0]
    return next(server for server in fleet if server.address == first)


def test_batches_are_whole_and_in_order_and_each_server_sends_its_own_volumes(toy, fleet):
    with augclient.connect(addresses(fleet)) as server, server.stream(RECIPE, patch=PATCH, batch_size=BATCH, steps=12) as stream:
        steps = []
        for batch in stream:
            assert_whole(toy, batch)
            steps.append(batch.step)
        assert steps == list(range(12))
    for server in fleet:
        [request] = server.servicer.requests
        assert (request.share.member, sorted(request.share.members)) == (server.address, sorted(addresses(fleet)))
    assert fleet_threads() == []


@pytest.mark.parametrize("change", [{"rank": 1, "world": 5}, {"stride": 3}, {"prefetch": 1}, {"image_dtype": "uint8"}, {"start": 7}])
def test_every_kind_of_stream_works_as_from_one_server(fleet, change):
    how = {"patch": PATCH, "batch_size": BATCH, "start": 2, "steps": 9} | change
    with augclient.connect(addresses(fleet)) as many, augclient.connect(fleet[0].address) as one:
        got, wanted = (
            [(b.step, b.image.tobytes(), b.label.tobytes(), [str(s) for s in b.samples]) for b in s.stream(RECIPE, **how)]
            for s in (many, one)
        )
    assert got == wanted
    assert got


@pytest.mark.parametrize("old", [1, 3])
def test_servers_of_a_release_before_the_stride_take_part(toy, fleet, old):
    for server in fleet[:old]:
        server.servicer.knows_stride = False
    with augclient.connect(addresses(fleet)) as server:
        steps = []
        for batch in server.stream(RECIPE, patch=PATCH, batch_size=BATCH, start=1, steps=20, stride=4):
            assert_whole(toy, batch)
            steps.append(batch.step)
    assert steps == [1, 5, 9, 13, 17]


def test_the_token_is_that_of_one_server_and_either_goes_on_with_it(toy, fleet):
    how = {"patch": PATCH, "batch_size": BATCH, "steps": 9}
    with augclient.connect(addresses(fleet)) as many, augclient.connect(fleet[1].address) as one:
        streams = many.stream(RECIPE, **how), one.stream(RECIPE, **how)
        for stream in streams:
            next(stream), next(stream)
        assert streams[0].state_dict() == streams[1].state_dict()
        token = json.loads(json.dumps(streams[0].state_dict()))
        for server in (many, one):
            rest = list(server.stream(RECIPE, state=token, **how))
            assert [batch.step for batch in rest] == list(range(2, 9))
            for batch in rest:
                assert_whole(toy, batch)


def test_servers_that_stop_and_return_are_not_noticed(toy, fleet):
    with augclient.connect(addresses(fleet)) as server, server.stream(RECIPE, patch=PATCH, batch_size=BATCH, steps=60) as stream:
        for step, batch in enumerate(stream):
            assert batch.step == step
            assert_whole(toy, batch)
            if step in (5, 9):
                fleet[step % 3].stop()
            if step in (20, 40):
                fleet[2 if step == 20 else 0].start()
    assert step == 59
    assert any(len(request.share.members) == 1 for server in fleet for request in server.servicer.requests)


def test_a_member_that_returns_gets_its_volumes_back(toy, fleet):
    with augclient.connect(addresses(fleet)) as server, server.stream(RECIPE, patch=PATCH, batch_size=BATCH) as stream:
        next(stream)
        fleet[1].stop()
        while all(len(request.share.members) == 3 for request in fleet[0].servicer.requests):
            assert_whole(toy, next(stream))
        asked = len(fleet[0].servicer.requests)
        fleet[1].start()
        while len(fleet[0].servicer.requests) == asked or len(fleet[0].servicer.requests[-1].share.members) < 3:
            assert_whole(toy, next(stream))


def test_a_draining_server_is_left_at_once_and_asked_again_later(toy, fleet):
    draining = threading.Event()
    draining.set()

    def drain(request, context):
        if draining.is_set():
            context.set_trailing_metadata((("augserver-error", "UnavailableError"),))
            context.abort(grpc.StatusCode.UNAVAILABLE, "draining")

    fleet[0].servicer.refuse = drain
    with augclient.connect(addresses(fleet)) as server, server.stream(RECIPE, patch=PATCH, batch_size=BATCH, reconnect_s=0.0) as stream:
        for _ in range(10):
            assert_whole(toy, next(stream))
        draining.clear()
        while not fleet[0].servicer.sent:
            assert_whole(toy, next(stream))


@pytest.mark.parametrize("hung", [1, 2])
def test_the_shares_of_a_hung_server_come_from_the_next_in_order(toy, fleet, hung):
    """Nobody is lost: step_timeout_s is far away."""
    leave = threading.Event()
    late = [owner_of(fleet, "case_0"), next(s for s in fleet if s is not owner_of(fleet, "case_0"))][:hung]
    for each in late:
        each.servicer.refuse = lambda request, context: leave.wait(60)
    try:
        with augclient.connect(addresses(fleet)) as server:
            stream = server.stream(RECIPE, patch=PATCH, batch_size=BATCH, steps=20, hedge_s=0.1, step_timeout_s=60)
            for step, batch in enumerate(stream):
                assert batch.step == step
                assert_whole(toy, batch)
        assert step == 19
        stand_ins = [r.share for s in fleet for r in s.servicer.requests if r.share.instead_of]
        assert {name for share in stand_ins for name in share.instead_of} == set(addresses(late))
        assert all(len(share.members) == 3 for share in stand_ins)
        assert fleet_threads() == []
    finally:
        leave.set()


def test_a_server_that_is_late_once_takes_its_shares_back(toy, fleet):
    slow = owner_of(fleet, "case_0")
    leave = threading.Event()
    slow.servicer.change = lambda parts: (leave.wait(60) if not leave.is_set() else None, parts)[1]
    with augclient.connect(addresses(fleet)) as server:
        stream = server.stream(RECIPE, patch=PATCH, batch_size=BATCH, hedge_s=0.1, step_timeout_s=60)
        for _ in range(4):
            assert_whole(toy, next(stream))
        leave.set()
        sent = slow.servicer.sent
        while slow.servicer.sent < sent + 20:
            assert_whole(toy, next(stream))
        for _ in range(20):
            assert_whole(toy, next(stream))
        others = [s for s in fleet if s is not slow]
        assert all(s.servicer.cancelled.is_set() for s in others if any(r.share.instead_of for r in s.servicer.requests))


def test_a_hung_server_is_gone_after_step_timeout_s(toy, fleet):
    leave = threading.Event()
    hung = owner_of(fleet, "case_1")
    hung.servicer.refuse = lambda request, context: leave.wait(60)
    try:
        with augclient.connect(addresses(fleet)) as server:
            stream = server.stream(RECIPE, patch=PATCH, batch_size=BATCH, hedge_s=None, step_timeout_s=0.3)
            for _ in range(8):
                assert_whole(toy, next(stream))
            assert any(len(r.share.members) == 2 for s in fleet for r in s.servicer.requests)
            assert not any(r.share.instead_of for s in fleet for r in s.servicer.requests)
    finally:
        leave.set()


def test_a_single_server_that_hangs_is_called_again(toy, running):
    leave = threading.Event()
    running.servicer.refuse = lambda request, context: leave.wait(60) if len(running.servicer.requests) == 1 else None
    with augclient.connect(running.address) as server:
        assert next(server.stream(RECIPE, patch=PATCH, batch_size=BATCH, step_timeout_s=0.3)).step == 0
        running.servicer.refuse = lambda request, context: leave.wait(60)
        with pytest.raises(errors.UnavailableError, match=r"nothing came for step_timeout_s = 0.2 s, though batch 0 is due"):
            next(server.stream(RECIPE, patch=PATCH, batch_size=BATCH, step_timeout_s=0.2, reconnect_s=0.0))
    leave.set()


def test_a_trainer_that_pauses_takes_no_server_for_hung(toy, fleet):
    pause = threading.Event()
    with augclient.connect(addresses(fleet)) as server:
        stream = server.stream(RECIPE, patch=PATCH, batch_size=BATCH, hedge_s=0.1, step_timeout_s=0.3)
        next(stream)
        assert not pause.wait(0.8)
        for _ in range(5):
            assert_whole(toy, next(stream))
    assert all(len(server.servicer.requests) == 1 for server in fleet)


def test_all_servers_gone_is_unavailable_and_names_each(fleet):
    with augclient.connect(addresses(fleet)) as server:
        stream = server.stream(RECIPE, patch=PATCH, batch_size=BATCH, reconnect_s=0.3)
        next(stream)
        for each in fleet:
            each.stop()
        with pytest.raises(errors.UnavailableError, match=r"No server for reconnect_s = 0.3 s; the next batch is") as caught:
            list(stream)
        assert all(each.address in str(caught.value) for each in fleet)
    assert fleet_threads() == []


def test_servers_of_different_datasets_are_refused_at_connect(toy, fleet):
    class Other(toy.ToyServicer):
        def GetDataset(self, request, context):
            message = super().GetDataset(request, context)
            message.fingerprint = "toy-2"
            return message

        def StreamBatches(self, request, context):
            context.set_trailing_metadata((("augserver-error", "StateError"),))
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, "this server holds 'toy-2'")

    server, port = toy.start_server(Other())
    try:
        with pytest.raises(errors.StateError) as caught:
            augclient.connect([fleet[0].address, f"127.0.0.1:{port}"])
        assert all(word in str(caught.value) for word in (fleet[0].address, "toy-1", str(port), "toy-2"))
        # one that comes back with another dataset stays out
        fleet[1].stop()
        with augclient.connect(addresses(fleet)) as many:
            stream = many.stream(RECIPE, patch=PATCH, batch_size=BATCH)
            other, _ = toy.start_server(Other(), fleet[1].port)
            for _ in range(30):
                assert_whole(toy, next(stream))
            fleet[0].stop(), fleet[2].stop()
            strangers = [toy.start_server(Other(), fleet[k].port)[0] for k in (0, 2)]
            with pytest.raises(errors.StateError, match=r"no server can go on with this stream: .*'toy-2'"):
                list(stream)
            for each in (other, *strangers):
                each.stop(None).wait()
    finally:
        server.stop(None).wait()


def test_a_server_that_is_away_at_connect_joins_later(toy, fleet):
    fleet[2].stop()
    with augclient.connect(addresses(fleet)) as server, server.stream(RECIPE, patch=PATCH, batch_size=BATCH) as stream:
        for _ in range(3):
            assert_whole(toy, next(stream))
        fleet[2].start()
        while not fleet[2].servicer.sent:
            assert_whole(toy, next(stream))


@pytest.mark.parametrize("peers", ["all", "self"])
def test_servers_that_a_server_names_take_part(toy, fleet, peers):
    class Named(toy.ToyServicer):
        def GetDataset(self, request, context):
            message = super().GetDataset(request, context)
            message.peers.extend(f":{each.port}" for each in (fleet if peers == "all" else fleet[:1]))
            return message

    fleet[0].stop()
    fleet[0].servicer = Named()
    fleet[0].start()
    with augclient.connect(fleet[0].address) as server, server.stream(RECIPE, patch=PATCH, batch_size=BATCH, steps=6) as stream:
        for batch in stream:
            assert_whole(toy, batch)
    assert [len(each.servicer.requests) for each in fleet] == ([1, 1, 1] if peers == "all" else [1, 0, 0])


def test_addresses_behind_a_name_are_followed_while_streaming(toy, fleet, monkeypatch):
    """DNS gives addresses of one port: so the answers are exchanged, not the servers."""
    behind = [fleet[:2]]
    monkeypatch.setattr("augclient.fleet.roster._RESOLVE_S", 0.05)
    monkeypatch.setattr(Seeds, "dynamic", True)
    monkeypatch.setattr(Seeds, "resolve", lambda seeds, timeout_s=0: tuple(addresses(behind[0])))
    with augclient.connect("dns:///fleet:1") as server, server.stream(RECIPE, patch=PATCH, batch_size=BATCH) as stream:
        assert_whole(toy, next(stream))
        behind[0] = fleet[1:]
        while not fleet[2].servicer.sent:
            assert_whole(toy, next(stream))
        assert sorted(fleet[2].servicer.requests[-1].share.members) in (sorted(addresses(fleet)), sorted(addresses(fleet[1:])))
        while len(fleet[1].servicer.requests[-1].share.members) != 2 or fleet[0].address in fleet[1].servicer.requests[-1].share.members:
            assert_whole(toy, next(stream))
        assert fleet[0].address not in server._fleet._connections._open  # or a process that runs for weeks would keep every pod's
        assert fleet[0].address not in stream.transport_reason
        assert server.volume("case_0").label is not None


def test_a_name_gives_all_its_addresses_and_their_certificates_name():
    seeds = Seeds(["dns:///localhost:50051", "10.0.0.9:1"])
    assert seeds.dynamic
    found = seeds.resolve()
    assert found[-1] == "10.0.0.9:1"
    assert "127.0.0.1:50051" in found
    assert seeds.tls_name("127.0.0.1:50051") == "localhost"
    assert seeds.tls_name("10.0.0.9:1") is None
    assert not Seeds("127.0.0.1:1").dynamic
    for bad in ("dns:///localhost", "dns:///:1", "dns:///localhost:x"):
        with pytest.raises(errors.ConfigError, match="name:port"):
            Seeds(bad).resolve()


@pytest.mark.parametrize(
    ("asked", "peer", "address"),
    [("10.0.0.1:5", ":6", "10.0.0.1:6"), ("[::1]:5", ":6", "[::1]:6"), ("unix:/x", ":6", "127.0.0.1:6"), ("a:5", "b:6", "b:6")],
)
def test_a_peer_without_a_host_is_on_the_host_that_was_asked(asked, peer, address):
    assert peer_addresses(asked, [peer, "no address"]) == [address]


def test_an_answer_of_one_server_ends_the_stream(fleet):
    def refuse(request, context):
        context.set_trailing_metadata((("augserver-error", "PatchError"),))
        context.abort(grpc.StatusCode.INVALID_ARGUMENT, "patch (3, 5, 7) exceeds")

    fleet[1].servicer.refuse = refuse
    with augclient.connect(addresses(fleet)) as server:
        stream = server.stream(RECIPE, patch=PATCH, batch_size=BATCH)
        with pytest.raises(errors.PatchError, match="exceeds"):
            next(stream)
    assert fleet_threads() == []


def whole_batches(request, context):
    """As a server of an older version, which knows no shares."""
    request.ClearField("share")


def shifted(parts):
    for sample in parts[0].header.samples:
        sample.index += 5
    return parts


def empty(parts):
    for part in parts:
        part.ClearField("image"), part.ClearField("label")
    parts[0].header.ClearField("samples")
    parts[0].header.image_shape[0] = parts[0].header.label_shape[0] = 0
    return parts


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ({"refuse": whole_batches}, "which falls to another server"),
        ({"change": shifted}, "each once, in order"),
        ({"change": empty}, "samples are missing"),
        ({"change": lambda parts: parts[:-1]}, "a part of batch|ended the stream"),
        ({"change": lambda parts: [parts[0], *parts[2:]]}, "without gap or overlap"),
        ({"change": lambda parts: parts[1:]}, "without a header"),
    ],
    ids=["whole batches", "other indices", "fewer samples", "last part missing", "part missing", "header missing"],
)
def test_shares_that_do_not_fit_are_wire_errors_and_never_an_array(fleet, fault, words):
    wrong = owner_of(fleet, "case_0")
    for name, value in fault.items():
        setattr(wrong.servicer, name, value)
    with augclient.connect(addresses(fleet)) as server, pytest.raises(errors.WireError, match=words):
        list(server.stream(RECIPE, patch=PATCH, batch_size=6, steps=3))
    assert fleet_threads() == []


def test_volumes_and_samples_come_from_whoever_is_there(toy, fleet):
    with augclient.connect(addresses(fleet)) as server:
        owner_of(fleet, "case_1").stop()
        np.testing.assert_array_equal(server.volume("case_1").image, toy.toy_image(1, (5, 7, 11), "int16"))
        np.testing.assert_array_equal(server.sample(RECIPE, index=17, patch=PATCH).image, toy.toy_image(17, PATCH))


def test_a_slow_trainer_holds_all_servers_back(fleet):
    for each in fleet:
        each.servicer.part_bytes = 1 << 20
    with augclient.connect(addresses(fleet)) as server:
        stream = server.stream(RECIPE, patch=(40, 100, 100), batch_size=6, prefetch=2)
        for _ in range(4):
            next(stream)
        assert all(each.servicer.sent <= 4 + 2 + 3 for each in fleet)
        assert stream.statistics().allocated <= 4


def test_shares_are_copied_to_no_sample_that_the_trainer_holds(toy, fleet):
    """Arrays are the trainer's own: what a late server sends afterwards must not come through."""
    slow = owner_of(fleet, "case_0")
    leave = threading.Event()
    slow.servicer.change = lambda parts: parts[:1] + [part for part in parts[1:] if leave.wait(60)]
    with augclient.connect(addresses(fleet)) as server:
        stream = server.stream(RECIPE, patch=PATCH, batch_size=6, hedge_s=0.1, step_timeout_s=60)
        batch = next(stream)
        batch.image[:] = -1
        leave.set()
        for _ in range(10):
            next(stream)
        assert Counter(batch.image.ravel().tolist()) == {-1.0: batch.image.size}


def test_a_request_of_a_share_is_small():
    share = pb.Share(members=[f"10.0.0.{k}:50051" for k in range(100)], member="10.0.0.1:50051")
    assert len(pb.StreamBatchesRequest(share=share).SerializeToString()) < 2000


def test_time_in_which_the_trainer_asks_for_nothing_does_not_count_against_reconnect_s(toy, fleet):
    with augclient.connect(addresses(fleet)) as server:
        stream = server.stream(RECIPE, patch=PATCH, batch_size=BATCH, steps=9, prefetch=1, reconnect_s=2)
        batches = [next(stream), next(stream)]
        time.sleep(0.5)  # the next one is received meanwhile, and nothing more is due
        for each in fleet:
            each.stop()
        time.sleep(2.5)
        for each in fleet:
            threading.Timer(0.5, each.start).start()
        batches += list(stream)
    assert [batch.step for batch in batches] == list(range(9))
    for batch in batches:
        assert_whole(toy, batch)
