"""Our client against a server of plain generated code."""

from __future__ import annotations

import itertools
import socket

import augclient
import numpy as np
import pytest
from augclient import errors

pytestmark = pytest.mark.usefixtures("each_receiver")

PATCH = (3, 5, 7)
RECIPE = augclient.Recipe()


def check(toy, batch, *, batch_size=4, rank=0, world=1, dtype="float32"):
    """Every byte and every drawn number of a batch against the formulas."""
    count = batch_size // world
    first = batch.step * batch_size + rank * count
    assert batch.image.dtype == dtype
    assert batch.label.dtype == np.uint8
    assert [s.index for s in batch.samples] == list(range(first, first + count))
    for k, index in enumerate(range(first, first + count)):
        np.testing.assert_array_equal(batch.image[k], toy.toy_image(index, PATCH, dtype))
        np.testing.assert_array_equal(batch.label[k], toy.toy_label(index, PATCH))


@pytest.mark.parametrize("dtype", ["float32", "float16", "uint8"])
@pytest.mark.parametrize(("rank", "world"), [(0, 1), (1, 2)])
def test_stream_delivers_every_byte_of_every_step_in_order(toy, running, dtype, rank, world):
    with augclient.connect(running.address) as server:
        stream = server.stream(RECIPE, patch=PATCH, batch_size=4, start=5, steps=4, image_dtype=dtype, rank=rank, world=world)
        steps = []
        for batch in stream:
            check(toy, batch, rank=rank, world=world, dtype=dtype)
            steps.append(batch.step)
    assert steps == [5, 6, 7, 8]


def test_provenance_carries_all_that_was_drawn(toy, running):
    with augclient.connect(running.address) as server:
        batch = next(server.stream(RECIPE, patch=PATCH, batch_size=4))
        plain, drawn = batch.samples[2], batch.samples[3]
        np.testing.assert_array_equal(drawn.affine, np.arange(3, 15, dtype=np.float32).reshape(3, 4))
        assert (drawn.index, drawn.epoch, drawn.volume, drawn.fill) == (3, 0, "case_0", -1000.0)
        assert (drawn.noise_std, drawn.noise_key, drawn.contrast, drawn.brightness, drawn.gamma) == (0.5, 2**64 - 4, 1.25, -2.0, 0.5)
        assert (drawn.window, drawn.occlusion) == ((-160.0, 240.0), (0, 2))
        assert (plain.window, plain.occlusion) == (None, None)


def test_arrays_are_aligned_and_stay_as_they_were_while_any_view_lives(toy, running):
    with augclient.connect(running.address) as server:
        stream = server.stream(RECIPE, patch=PATCH, batch_size=4, steps=40, prefetch=2)
        views = [(batch.step, batch.image[1, 1], batch.label[2]) for batch in stream]
        for step, image, label in views:
            np.testing.assert_array_equal(image, toy.toy_image(step * 4 + 1, PATCH)[1])
            np.testing.assert_array_equal(label, toy.toy_label(step * 4 + 2, PATCH))
        assert stream.statistics().allocated == 40


def test_buffers_are_reused_when_the_reader_lets_go(running):
    with augclient.connect(running.address) as server:
        stream = server.stream(RECIPE, patch=PATCH, batch_size=4, steps=50, prefetch=2)
        addresses = set()
        for batch in stream:
            addresses.add(batch.image.ctypes.data)
            assert batch.image.ctypes.data % 64 == 0
            assert batch.label.ctypes.data % 64 == 0
        assert len(addresses) <= 4
        assert stream.statistics().allocated <= 4


def test_release_lets_go_of_the_arrays_but_not_of_views(toy, running):
    with augclient.connect(running.address) as server:
        stream = server.stream(RECIPE, patch=PATCH, batch_size=4, steps=9)
        batch = next(stream)
        view = batch.image[3]
        batch.release()
        batch.release()
        with pytest.raises(errors.StateError, match="batch 0 was released"):
            _ = batch.image
        list(stream)
        np.testing.assert_array_equal(view, toy.toy_image(3, PATCH))


def test_dataset_without_labels_gives_none(toy, running):
    running.servicer.labels = False
    with augclient.connect(running.address) as server:
        batch = next(server.stream(RECIPE, patch=PATCH, batch_size=2))
        assert batch.label is None
        np.testing.assert_array_equal(batch.image[1], toy.toy_image(1, PATCH))
        assert server.sample(RECIPE, index=3, patch=PATCH).label is None
        assert server.volume("case_1").label is None


def test_stride_delivers_every_nth_step(toy, running):
    with augclient.connect(running.address) as server:
        stream = server.stream(RECIPE, patch=PATCH, batch_size=4, start=1, steps=8, stride=3)
        for batch, step in zip(stream, [1, 4, 7], strict=True):
            assert batch.step == step
            check(toy, batch)
    [request] = running.servicer.requests  # one call, up to the last batch
    assert (request.start, request.stride, request.steps) == (1, 3, 7)


@pytest.mark.parametrize("steps", [8, 6, 1, 0, None])
def test_a_server_of_a_release_before_the_stride_is_asked_for_one_batch_at_a_time(toy, running, steps):
    running.servicer.knows_stride = False
    wanted = list(range(1, 1 + (8 if steps is None else steps), 3))
    with augclient.connect(running.address) as server:
        stream = server.stream(RECIPE, patch=PATCH, batch_size=4, start=1, steps=steps, stride=3)
        got = list(itertools.islice(stream, len(wanted) if steps is None else None))
        assert [batch.step for batch in got] == wanted
        for batch in got:
            check(toy, batch)
    requests = running.servicer.requests
    assert [(request.start, request.stride, request.steps) for request in requests[1 : len(wanted)]] == [(k, 0, 1) for k in wanted[1:]]


def test_dataset_volume_and_sample(toy, running):
    with augclient.connect([running.address]) as server:
        dataset = server.dataset()
        assert (dataset.fingerprint, dataset.modality) == (toy.FINGERPRINT, "ct")
        assert dataset.volumes == ("case_0", "case_1", "case_2")
        assert dataset.classes == {0: "background", 1: "liver"}
        assert dataset.class_voxels == {0: 10, 1: 7}
        assert dataset.spacing_mm == (3.0, 1.0, 0.5)
        info = dataset.info("case_2")
        assert (info.shape, info.dtype, info.has_label) == ((2, 5, 7, 11), "int16", True)
        with pytest.raises(errors.NotFoundError, match="did you mean 'case_2'"):
            dataset.info("case_22")
        volume = server.volume("case_2")
        np.testing.assert_array_equal(volume.image, toy.toy_image(2, (5, 7, 11), "int16"))
        np.testing.assert_array_equal(volume.label, toy.toy_label(2, (5, 7, 11)))
        np.testing.assert_array_equal(volume.affine, np.arange(16.0).reshape(4, 4))
        assert volume.spacing_mm == (3.0, 1.0, 0.5)
        patch = server.sample(RECIPE, index=17, seed=0, patch=PATCH, image_dtype="float16")
        np.testing.assert_array_equal(patch.image, toy.toy_image(17, PATCH, "float16"))
        np.testing.assert_array_equal(patch.label, toy.toy_label(17, PATCH))
        assert (patch.sample.index, patch.sample.volume) == (17, "case_2")


def test_request_carries_what_was_asked_for(running):
    recipe = augclient.Recipe(noise={"std": [0, 30]})
    with augclient.connect(running.address, token="secret") as server:
        with server.stream(recipe, patch=PATCH, batch_size=6, seed=2**64 - 1, start=7, steps=3, rank=2, world=3) as stream:
            next(stream)
        request = running.servicer.requests[0]
        assert request.recipe == recipe.proto
        assert list(request.patch) == [3, 5, 7]
        assert (request.batch_size, request.seed, request.start, request.steps) == (6, 2**64 - 1, 7, 3)
        assert (request.rank, request.world, request.fingerprint) == (2, 3, "toy-1")
        assert running.servicer.metadata[0]["authorization"] == "Bearer secret"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"patch": (3, 5)}, r"patch: got \(3, 5\).*three whole numbers"),
        ({"patch": 8}, "patch: got 8"),
        ({"patch": (0, 5, 7)}, "patch Z: got 0; allowed: 1 to"),
        ({"patch": (3, 5, 7.5)}, "patch X: got 7.5; allowed: a whole number"),
        ({"batch_size": 0}, "batch_size: got 0"),
        ({"batch_size": 10**12}, "batch_size: got 1000000000000"),
        ({"seed": -1}, "seed: got -1"),
        ({"start": -1}, "start: got -1"),
        ({"steps": -5}, "steps: got -5"),
        ({"world": 3}, "batch_size: got 4; allowed: a multiple of world = 3"),
        ({"world": 2, "rank": 2}, "rank: got 2; allowed: 0 to 1"),
        ({"image_dtype": "float64"}, "image_dtype: got 'float64'; allowed: float32, float16, uint8"),
        ({"stride": 0}, "stride: got 0; allowed: 1 to"),
        ({"transport": "tcp"}, "transport: got 'tcp'"),
        ({"prefetch": 0}, "prefetch: got 0"),
        ({"reconnect_s": -1}, "reconnect_s"),
        ({"reconnect_s": float("nan")}, "reconnect_s"),
        ({"reconnect_s": "5"}, "reconnect_s: got '5'; allowed: a number of seconds, 0 or more"),
        ({"step_timeout_s": 0}, "step_timeout_s: got 0; allowed: a number of seconds above 0"),
        ({"recipe": {"noise": {}}}, "recipe: got dict"),
    ],
)
def test_bad_arguments_are_named_before_any_call(running, arguments, words):
    with augclient.connect(running.address) as server:
        with pytest.raises(errors.RequestError, match=words):
            server.stream(**{"recipe": RECIPE, "patch": PATCH, "batch_size": 4, **arguments})
        assert running.servicer.requests == []


@pytest.mark.parametrize("id", [None, 3, b"case_1", "\ud800"])
def test_what_is_no_text_is_no_volume_id(running, id):
    with augclient.connect(running.address) as server, pytest.raises(errors.RequestError, match="id: got"):
        server.volume(id)


def test_infinite_time_is_not_over_at_once(running):
    with augclient.connect(running.address, timeout_s=float("inf")) as server:
        assert server.dataset().volumes
        stream = server.stream(RECIPE, patch=PATCH, batch_size=4, reconnect_s=float("inf"), step_timeout_s=float("inf"))
        assert next(stream).step == 0


@pytest.mark.parametrize("timeout_s", ["3", None, 0, float("nan")])
def test_a_timeout_that_is_none_is_refused(running, timeout_s):
    with pytest.raises(errors.RequestError, match="timeout_s: got"):
        augclient.connect(running.address, timeout_s=timeout_s)


def test_a_listener_that_never_answers_is_told_apart_from_none():
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(errors.DeadlineError, match="did not answer in timeout_s"):
        augclient.connect(f"127.0.0.1:{silent.getsockname()[1]}", timeout_s=0.3)


def test_a_token_whose_step_no_request_can_carry_is_a_state_error(running):
    with augclient.connect(running.address) as server:
        token = server.stream(RECIPE, patch=PATCH, batch_size=4).state_dict()
        with pytest.raises(errors.StateError, match="outside this stream"):
            server.stream(RECIPE, patch=PATCH, batch_size=4, state={**token, "step": 1 << 64})


@pytest.mark.parametrize(
    "address", ["", "  ", [], ["a:1", ""], [7], 7, None, "127.0.0.1", "127.0.0.1:99999", "a:0", "a:b", ":1", "dns:///name"]
)
def test_what_is_no_address_is_refused(address):
    with pytest.raises(errors.ConfigError, match="address: got"):
        augclient.connect(address)


@pytest.mark.parametrize("address", ["gpu-node:50051", "127.0.0.1.example.org:50051", "dns:localhost:1", "localhost.example.org:1"])
def test_token_does_not_travel_in_the_clear(address):
    with pytest.raises(errors.ConfigError, match="unencrypted"):
        augclient.connect(address, token="secret")


@pytest.mark.parametrize("token", ["", " ", "secret\n", "geheimnisträger", 5])
def test_a_token_that_no_header_carries_is_refused_and_not_shown(running, token):
    with pytest.raises(errors.ConfigError, match="token: got one that") as caught:
        augclient.connect(running.address, token=token)
    assert "secret" not in str(caught.value)


def test_nobody_there_is_unavailable_and_says_what_to_check():
    with pytest.raises(errors.UnavailableError, match="augserver serve"):
        augclient.connect("127.0.0.1:1")


def test_closed_server_and_stream_say_so(running):
    server = augclient.connect(running.address)
    stream = server.stream(RECIPE, patch=PATCH, batch_size=4)
    next(stream)
    server.close()
    server.close()
    with pytest.raises(errors.StateError, match="closed"):
        next(stream)
    with pytest.raises(errors.StateError, match="connect"):
        server.dataset()


def test_finished_stream_stays_finished(running):
    with augclient.connect(running.address) as server:
        stream = server.stream(RECIPE, patch=PATCH, batch_size=4, steps=2)
        assert [batch.step for batch in stream] == [0, 1]
        assert list(stream) == []
        assert list(server.stream(RECIPE, patch=PATCH, batch_size=4, steps=0)) == []
