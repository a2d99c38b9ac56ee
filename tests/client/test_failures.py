"""Servers that die, lie or refuse, and readers that leave."""

from __future__ import annotations

import gc
import json
import signal
import subprocess
import sys
import threading
import time

import augclient
import grpc
import numpy as np
import pytest
from augclient import errors
from augclient.wire.v1 import augserver_pb2 as pb

pytestmark = pytest.mark.usefixtures("each_receiver")

PATCH = (3, 5, 7)
RECIPE = augclient.Recipe()


def receiver_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("augclient-")]


def assert_whole(toy, batch):
    for k, sample in enumerate(batch.samples):
        assert sample.index == batch.step * 4 + k
        np.testing.assert_array_equal(batch.image[k], toy.toy_image(sample.index, PATCH))
        np.testing.assert_array_equal(batch.label[k], toy.toy_label(sample.index, PATCH))


def test_stopped_and_restarted_server_leaves_no_gap_and_no_repeat(toy, running):
    with augclient.connect(running.address) as server, server.stream(RECIPE, patch=PATCH, batch_size=4, steps=60) as stream:
        steps = []
        for batch in stream:
            assert_whole(toy, batch)
            steps.append(batch.step)
            if batch.step in (3, 21):
                running.stop()
                running.start()
        assert steps == list(range(60))
        assert len(running.servicer.requests) >= 3


@pytest.mark.slow
def test_killed_server_process_leaves_no_gap_and_no_repeat(toy, server_process, request):
    with augclient.connect(server_process.address) as server, server.stream(RECIPE, patch=PATCH, batch_size=4, steps=1500) as stream:
        steps = []
        for batch in stream:
            steps.append(batch.step)
            if batch.step == 5:
                server_process.kill()
                again = type(server_process)(server_process.port)
                request.addfinalizer(again.kill)
            if batch.step >= 60 and batch.step % 100 == 0:
                assert_whole(toy, batch)
        assert steps == [*range(1500)]


def test_server_that_stays_away_is_unavailable_after_reconnect_s(running):
    with augclient.connect(running.address) as server:
        stream = server.stream(RECIPE, patch=PATCH, batch_size=4, reconnect_s=0.2)
        next(stream)
        running.stop()
        with pytest.raises(errors.UnavailableError, match=r"reconnect_s = 0.2 s; the next one is \d+: restart the server") as caught:
            list(stream)
        assert isinstance(caught.value.__cause__, grpc.RpcError)
    assert receiver_threads() == []
    running.start()
    with augclient.connect(running.address) as server:
        assert next(server.stream(RECIPE, patch=PATCH, batch_size=4, state=stream.state_dict())).step == stream.next_step


def test_draining_server_is_tried_again(toy, running):
    refusals = iter([True, True, False])

    def drain(request, context):
        if next(refusals):
            context.set_trailing_metadata((("augserver-error", "UnavailableError"),))
            context.abort(grpc.StatusCode.UNAVAILABLE, "draining")

    running.servicer.refuse = drain
    with augclient.connect(running.address) as server:
        assert [batch.step for batch in server.stream(RECIPE, patch=PATCH, batch_size=4, steps=3)] == [0, 1, 2]


@pytest.mark.parametrize(
    ("name", "status", "kind"),
    [
        ("PatchError", grpc.StatusCode.INVALID_ARGUMENT, errors.PatchError),
        ("RecipeError", grpc.StatusCode.INVALID_ARGUMENT, errors.RecipeError),
        ("StoreError", grpc.StatusCode.FAILED_PRECONDITION, errors.StoreError),
        ("ErrorOfALaterVersion", grpc.StatusCode.RESOURCE_EXHAUSTED, errors.BudgetError),
        ("dict", grpc.StatusCode.INTERNAL, errors.AugError),
        (None, grpc.StatusCode.INVALID_ARGUMENT, errors.RequestError),
        (None, grpc.StatusCode.UNAUTHENTICATED, errors.AuthError),
        (None, grpc.StatusCode.UNIMPLEMENTED, errors.AugError),
    ],
)
def test_refusals_raise_the_servers_class_and_message_from_next(running, name, status, kind):
    def refuse(request, context):
        if name is not None:
            context.set_trailing_metadata((("augserver-error", name),))
        context.abort(status, "patch (9, 9, 9) exceeds é")

    running.servicer.refuse = refuse
    with augclient.connect(running.address) as server:
        stream = server.stream(RECIPE, patch=PATCH, batch_size=4)
        with pytest.raises(errors.AugError, match=r"patch \(9, 9, 9\) exceeds é") as caught:
            next(stream)
        assert type(caught.value) is kind
        assert len(running.servicer.requests) == 1
        with pytest.raises(errors.StateError, match="closed"):
            next(stream)
    assert receiver_threads() == []


def test_missing_volume_is_the_servers_error(running):
    with augclient.connect(running.address) as server, pytest.raises(errors.NotFoundError, match="nearest is 'case_1'"):
        server.volume("case_7")


def drop(n):
    return lambda parts: parts[:n] + parts[n + 1 :]


def swap(parts):
    return [parts[0], parts[2], parts[1], *parts[3:]]


def repeat(parts):
    return [parts[0], parts[1], *parts[1:]]


def edit(n, **fields):
    def change(parts):
        for name, value in fields.items():
            setattr(parts[n], name, value)
        return parts

    return change


def header(**fields):
    def change(parts):
        for name, value in fields.items():
            if isinstance(value, tuple):
                del getattr(parts[0].header, name)[:]
                getattr(parts[0].header, name).extend(value)
            else:
                setattr(parts[0].header, name, value)
        return parts

    return change


def second_header(parts):
    parts[1].header.CopyFrom(parts[0].header)
    return parts


def short_affine(parts):
    del parts[0].header.samples[1].affine[3:]
    return parts


BROKEN = {
    "first part missing": (drop(0), "without a header"),
    "middle part missing": (drop(4), "without gap or overlap"),
    "label part missing": (drop(-2), "without gap or overlap"),
    "last part missing": (lambda parts: parts[:-1], "a part of batch 1 came where batch 0 was due"),
    "parts swapped": (swap, "without gap or overlap"),
    "part repeated": (repeat, "without gap or overlap"),
    "last too early": (edit(3, last=True), "ended after 400 of 3360 image bytes and 0 of 420 label bytes"),
    "offset beyond the end": (edit(3, image_offset=2**63), "without gap or overlap"),
    "payload beyond the end": (edit(3, image=bytes(10000)), "without gap or overlap"),
    "other step": (edit(0, step=9), "a part of batch 9"),
    "second header": (second_header, "a second header"),
    "huge image": (header(image_shape=(4, 2, 3, 5, 2**31)), "image shape"),
    "too many channels": (header(image_shape=(4, 2**31, 3, 5, 7)), "image shape"),
    "other rank": (header(image_shape=(4, 3, 5, 7)), "image shape"),
    "other label shape": (header(label_shape=(4, 3, 5, 8)), "label shape"),
    "other dtype": (header(image_dtype="float64"), "dtype 'float64'"),
    "samples missing": (header(samples=()), "0 samples"),
    "short affine": (short_affine, "affine of 3 numbers"),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_broken_stream_is_a_wire_error_and_never_an_array(running, fault):
    change, words = BROKEN[fault]
    running.servicer.change = change
    with augclient.connect(running.address) as server:
        stream = server.stream(RECIPE, patch=PATCH, batch_size=4)
        with pytest.raises(errors.WireError, match=words):
            next(stream)
        assert running.servicer.cancelled.wait(10)


def test_broken_volume_is_a_wire_error(running):
    for change in (drop(1), swap, lambda parts: parts[:-1]):
        running.servicer.change = change
        with augclient.connect(running.address) as server, pytest.raises(errors.WireError):
            server.volume("case_1")


def test_stream_that_the_server_ends_early_is_a_wire_error(toy, running):
    class Short(toy.ToyServicer):
        def StreamBatches(self, request, context):
            yield from toy.in_parts(toy.toy_batch(request, request.start))

    short = type(running)(type("module", (), {"ToyServicer": Short, "start_server": toy.start_server}))
    try:
        with augclient.connect(short.address) as server:
            stream = server.stream(RECIPE, patch=PATCH, batch_size=4, steps=5)
            assert next(stream).step == 0
            with pytest.raises(errors.WireError, match="ended the stream before batch 1"):
                next(stream)
    finally:
        short.stop()


def test_other_dataset_after_a_restart_is_a_state_error(running):
    with augclient.connect(running.address) as server:
        stream = server.stream(RECIPE, patch=PATCH, batch_size=4)
        next(stream)
        running.stop()
        running.servicer.change = header(fingerprint="toy-2")
        running.start()
        with pytest.raises(errors.StateError, match="'toy-2', the stream began on 'toy-1'"):
            list(stream)


@pytest.mark.parametrize("leave", ["close", "with", "forget", "forget the server too"])
def test_reader_that_leaves_cancels_the_call_and_ends_the_thread(running, leave):
    server = augclient.connect(running.address)
    stream = server.stream(RECIPE, patch=(40, 50, 60), batch_size=4)
    running.servicer.part_bytes = 1 << 20
    next(stream)
    if leave == "close":
        stream.close()
        stream.close()
    elif leave == "with":
        with stream:
            pass
    elif leave == "forget":
        del stream
    else:
        del server, stream
    gc.collect()
    assert receiver_threads() == []
    assert running.servicer.cancelled.wait(10)


@pytest.mark.slow
@pytest.mark.parametrize("leave", ["Ctrl-C", "end of the program"])
def test_process_that_leaves_in_mid_stream_ends_at_once(running, leave):
    program = f"""
import augclient, sys
server = augclient.connect({running.address!r})
stream = server.stream(augclient.Recipe(), patch=(3, 5, 7), batch_size=4)
print(next(stream).step, flush=True)
if {leave!r} == "Ctrl-C":
    for batch in stream:
        pass
"""
    with subprocess.Popen([sys.executable, "-P", "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "0\n"
        if leave == "Ctrl-C":
            process.send_signal(signal.SIGINT)
        _, complaints = process.communicate(timeout=20)
    assert process.returncode == (-signal.SIGINT if leave == "Ctrl-C" else 0)
    assert ("KeyboardInterrupt" in complaints) == (leave == "Ctrl-C")
    assert "Fatal" not in complaints
    assert running.servicer.cancelled.wait(10)


def test_close_from_another_thread_wakes_a_waiting_reader(running):
    asked, leave = threading.Event(), threading.Event()

    def hang(request, context):
        asked.set()
        leave.wait()

    running.servicer.refuse = hang
    with augclient.connect(running.address) as server:
        stream = server.stream(RECIPE, patch=PATCH, batch_size=4)
        closer = threading.Thread(target=lambda: (asked.wait(), stream.close()))
        closer.start()
        with pytest.raises(errors.StateError, match="closed"):
            next(stream)
        closer.join()
        leave.set()


def test_close_while_the_receiver_starts_wakes_the_reader_too(running, monkeypatch):
    running.servicer.refuse = lambda request, context: context.abort(grpc.StatusCode.UNAVAILABLE, "not yet")
    with augclient.connect(running.address) as server:
        stream = server.stream(RECIPE, patch=PATCH, batch_size=4)
        make = stream._delivery._receive

        def make_late(*arguments):
            receiver = make(*arguments)
            closer = threading.Thread(target=stream.close)  # next() has not stored the receiver yet
            closer.start()
            closer.join()
            return receiver

        monkeypatch.setattr(stream._delivery, "_receive", make_late)
        with pytest.raises(errors.StateError, match="closed"):
            next(stream)


def test_slow_reader_holds_the_server_back(running):
    running.servicer.part_bytes = 1 << 20
    with augclient.connect(running.address) as server:
        stream = server.stream(RECIPE, patch=(40, 100, 100), batch_size=4, prefetch=2)  # 14 MB a batch
        for _ in range(4):
            next(stream)
        assert running.servicer.sent <= 4 + 2 + 3  # taken, prefetched, in the buffers of gRPC and the kernel
        assert stream.statistics().allocated <= 4


def test_token_resumes_at_the_next_undelivered_batch_in_any_world(toy, running):
    with augclient.connect(running.address) as server:
        stream = server.stream(RECIPE, patch=PATCH, batch_size=4, start=2, steps=10)
        for _ in range(3):
            next(stream)
        token = json.loads(json.dumps(stream.state_dict()))
        assert len(json.dumps(token)) < 400
        rest = list(server.stream(RECIPE, patch=PATCH, batch_size=4, start=2, steps=10, state=token))
        assert [batch.step for batch in rest] == [5, 6, 7, 8, 9, 10, 11]
        for batch in rest:
            assert_whole(toy, batch)
        half = next(server.stream(RECIPE, patch=PATCH, batch_size=4, state=token, rank=1, world=2))
        assert [sample.index for sample in half.samples] == [22, 23]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"recipe": augclient.Recipe(noise={"std": 1})}, "with recipe"),
        ({"seed": 1}, "with seed 0, this one has 1"),
        ({"patch": (3, 5, 8)}, "with patch"),
        ({"batch_size": 8}, "with batch_size 4, this one has 8"),
        ({"image_dtype": "uint8"}, "with image_dtype"),
        ({"start": 9}, r"next step 1 is outside this stream's steps \[9, None\]"),
        ({"steps": 0}, r"outside this stream's steps \[0, 0\]"),
    ],
)
def test_token_of_another_stream_is_a_state_error(running, change, words):
    with augclient.connect(running.address) as server:
        stream = server.stream(RECIPE, patch=PATCH, batch_size=4)
        next(stream)
        with pytest.raises(errors.StateError, match=words):
            server.stream(**{"recipe": RECIPE, "patch": PATCH, "batch_size": 4, **change}, state=stream.state_dict())


@pytest.mark.parametrize(
    "change",
    [{"version": 2}, {"fingerprint": "toy-0"}, {"step": "1"}, {"step": None}, {"step": -1}, "drop", "list"],
    ids=str,
)
def test_damaged_token_is_a_state_error(running, change):
    with augclient.connect(running.address) as server:
        token = server.stream(RECIPE, patch=PATCH, batch_size=4).state_dict()
        state = {"drop": {"version": 1}, "list": [1, 2]}[change] if isinstance(change, str) else {**token, **change}
        with pytest.raises(errors.StateError, match="state: "):
            server.stream(RECIPE, patch=PATCH, batch_size=4, state=state)


def test_random_answers_are_wire_errors(running, toy):
    """Bytes that are no message at all, past the handlers of generated code."""
    from concurrent import futures

    handler = grpc.method_handlers_generic_handler(
        "augserver.v1.AugServer",
        {
            "GetDataset": grpc.unary_unary_rpc_method_handler(
                running.servicer.GetDataset, pb.GetDatasetRequest.FromString, pb.Dataset.SerializeToString
            ),
            "StreamBatches": grpc.unary_stream_rpc_method_handler(lambda request, context: iter([b"\x12\xff\xff\x03abc"])),
            "GetSample": grpc.unary_unary_rpc_method_handler(lambda request, context: b"\x12\x03abc"),
        },
    )
    server = grpc.server(futures.ThreadPoolExecutor(2))
    server.add_generic_rpc_handlers((handler,))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        with augclient.connect(f"127.0.0.1:{port}") as client:
            with pytest.raises(errors.WireError, match="claims 65535 bytes"):
                next(client.stream(RECIPE, patch=PATCH, batch_size=4))
            with pytest.raises(errors.WireError, match="BatchHeader of 3 bytes"):
                client.sample(RECIPE, index=1, patch=PATCH)
    finally:
        server.stop(None).wait()


def test_time_in_which_the_trainer_asks_for_nothing_does_not_count_against_reconnect_s(toy, running):
    with augclient.connect(running.address) as server:
        stream = server.stream(RECIPE, patch=PATCH, batch_size=4, steps=9, prefetch=1, reconnect_s=2)
        batches = [next(stream), next(stream)]
        time.sleep(0.5)  # the next one is received meanwhile, and nothing more is due
        running.stop()
        time.sleep(2.5)
        threading.Timer(0.5, running.start).start()
        batches += list(stream)
    assert [batch.step for batch in batches] == list(range(9))
    for batch in batches:
        assert_whole(toy, batch)
