"""The stream as a tf.data.Dataset."""

from __future__ import annotations

import gc
import threading

import augclient
import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")
import augclient.tensorflow  # noqa: E402

PATCH = (3, 5, 7)
RECIPE = augclient.Recipe()


@pytest.fixture
def one_channel(toy, monkeypatch):
    monkeypatch.setattr(toy, "CHANNELS", 1)


def assert_batch(toy, step, image, label):
    for k in range(4):
        np.testing.assert_array_equal(image[k].numpy(), np.moveaxis(toy.toy_image(step * 4 + k, PATCH), 0, -1))
        np.testing.assert_array_equal(label[k].numpy(), toy.toy_label(step * 4 + k, PATCH))


def step_of(toy, image):
    """The step whose first sample this image is."""
    return next(step for step in range(60) if np.array_equal(np.moveaxis(toy.toy_image(step * 4, PATCH), 0, -1), image[0].numpy()))


@pytest.mark.slow
@pytest.mark.parametrize("channels", [1, 2])
def test_elements_are_channels_last_with_static_shapes_and_equal_the_batches(toy, running, monkeypatch, channels):
    monkeypatch.setattr(toy, "CHANNELS", channels)
    data = augclient.tensorflow.dataset(running.address, RECIPE, patch=PATCH, batch_size=4, start=3, steps=5, passes="same")
    assert data.element_spec == (
        tf.TensorSpec((4, 3, 5, 7, channels), tf.float32),
        tf.TensorSpec((4, 3, 5, 7), tf.uint8),
    )
    assert int(data.cardinality()) == 5
    for _ in range(2):  # a second pass is the same steps
        steps = []
        for image, label in data:
            step = 3 + len(steps)
            assert_batch(toy, step, image, label)
            steps.append(step)
        assert steps == [3, 4, 5, 6, 7]
    assert [request.start for request in running.servicer.requests] == [3, 3]  # one stream a pass


def test_types_and_rank_are_as_asked(toy, running, one_channel):
    with augclient.connect(running.address) as server:
        data = augclient.tensorflow.dataset(server, RECIPE, patch=PATCH, batch_size=4, steps=2, image_dtype="float16", rank=1, world=2)
        assert data.element_spec[0] == tf.TensorSpec((2, 3, 5, 7, 1), tf.float16)
        image, _ = next(iter(data))
        np.testing.assert_array_equal(image[0, ..., 0].numpy(), toy.toy_image(2, PATCH, "float16")[0])


def test_dataset_without_labels_gives_images_alone(toy, running, one_channel):
    running.servicer.labels = False
    data = augclient.tensorflow.dataset(running.address, RECIPE, patch=PATCH, batch_size=4, steps=2)
    assert data.element_spec == tf.TensorSpec((4, 3, 5, 7, 1), tf.float32)
    assert [step_of(toy, image) for image in data] == [0, 1]


def test_restored_checkpoint_goes_on_at_the_next_undelivered_batch(toy, running, one_channel, tmp_path):
    def make():
        return iter(augclient.tensorflow.dataset(running.address, RECIPE, patch=PATCH, batch_size=4, steps=20))

    iterator = make()
    seen = [step_of(toy, next(iterator)[0]) for _ in range(7)]
    path = tf.train.Checkpoint(iterator=iterator).save(str(tmp_path / "state"))
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) < 10_000  # the number, not the batches in prefetch
    running.stop()
    running.start()
    again = make()
    tf.train.Checkpoint(iterator=again).restore(path).assert_consumed()
    seen += [step_of(toy, image) for image, _ in again]
    assert seen == list(range(20))


def test_token_of_a_stream_resumes(toy, running, one_channel):
    with augclient.connect(running.address) as server, server.stream(RECIPE, patch=PATCH, batch_size=4) as stream:
        next(stream)
        next(stream)
        data = augclient.tensorflow.dataset(running.address, RECIPE, patch=PATCH, batch_size=4, steps=4, state=stream.state_dict())
    assert [step_of(toy, image) for image, _ in data] == [2, 3]


def test_two_iterators_of_one_dataset_are_both_right(toy, running, one_channel):
    data = augclient.tensorflow.dataset(running.address, RECIPE, patch=PATCH, batch_size=4, steps=6, passes="same")
    pairs = [(step_of(toy, a), step_of(toy, b)) for (a, _), (b, _) in zip(data, data, strict=True)]
    assert pairs == [(k, k) for k in range(6)]


def test_kept_elements_do_not_change(toy, running, one_channel):
    """The arrays are shared with TensorFlow, so their buffers must wait for its last tensor."""
    data = augclient.tensorflow.dataset(running.address, RECIPE, patch=PATCH, batch_size=4, steps=30)
    kept = list(data)
    assert len(kept) == 30
    for step, (image, label) in enumerate(kept):
        assert_batch(toy, step, image, label)


def test_errors_surface_with_the_servers_message(running, one_channel):
    def refuse(request, context):
        context.set_trailing_metadata((("augserver-error", "PatchError"),))
        context.abort(augclient.errors.PatchError.status, "patch (3, 5, 7) exceeds volume 'case_1'")

    running.servicer.refuse = refuse
    data = augclient.tensorflow.dataset(running.address, RECIPE, patch=PATCH, batch_size=4)
    with pytest.raises(tf.errors.OpError, match=r"PatchError: patch \(3, 5, 7\) exceeds volume 'case_1'"):
        next(iter(data))


@pytest.mark.parametrize(("hedge_s", "step_timeout_s", "doubled"), [(0.1, 60.0, True), (None, 0.3, False)])
def test_a_server_that_hangs_is_doubled_or_left_as_asked(toy, hung_fleet, one_channel, hedge_s, step_timeout_s, doubled):
    addresses = [server.address for server in hung_fleet]
    with augclient.connect(addresses) as server:
        data = augclient.tensorflow.dataset(
            server, RECIPE, patch=PATCH, batch_size=4, steps=8, hedge_s=hedge_s, step_timeout_s=step_timeout_s
        )
        assert [step_of(toy, image) for image, _ in data] == list(range(8))
    assert any(request.share.instead_of for each in hung_fleet for request in each.servicer.requests) == doubled


def test_bad_arguments_raise_at_once(running):
    with pytest.raises(augclient.errors.RequestError, match="batch_size: got 0"):
        augclient.tensorflow.dataset(running.address, RECIPE, patch=PATCH, batch_size=0)
    with pytest.raises(augclient.errors.RequestError, match="hedge_s: got -1"):
        augclient.tensorflow.dataset(running.address, RECIPE, patch=PATCH, batch_size=4, hedge_s=-1)
    with pytest.raises(augclient.errors.RequestError, match=r"below 2\*\*63"):
        augclient.tensorflow.dataset(running.address, RECIPE, patch=PATCH, batch_size=4, start=2**63, steps=1)


def test_forgotten_dataset_ends_its_stream(running, one_channel):
    data = augclient.tensorflow.dataset(running.address, RECIPE, patch=PATCH, batch_size=4)
    iterator = iter(data)
    next(iterator)
    assert any(thread.name.startswith("augclient-") for thread in threading.enumerate())
    del iterator, data
    gc.collect()
    assert not any(thread.name.startswith("augclient-") for thread in threading.enumerate())


@pytest.mark.slow
def test_keras_trains_on_it(running, one_channel):
    import keras

    data = augclient.tensorflow.dataset(running.address, RECIPE, patch=PATCH, batch_size=4, steps=6)
    model = keras.Sequential([keras.layers.Conv3D(6, 1, activation="softmax")])
    model.compile(optimizer="sgd", loss="sparse_categorical_crossentropy")
    history = model.fit(data, epochs=2, verbose=0, shuffle=False)
    assert np.all(np.isfinite(history.history["loss"]))
