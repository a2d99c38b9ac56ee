"""Epochs as people write them in TensorFlow: over restarts, broken off, two at once, and in Keras."""

from __future__ import annotations

import json
from typing import Any

import augclient
import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")
import augclient.tensorflow  # noqa: E402

PATCH = (3, 5, 7)
RECIPE = augclient.Recipe()


@pytest.fixture
def make(toy: Any, running: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A dataset with passes of 8 batches."""
    monkeypatch.setattr(toy, "CHANNELS", 1)
    return lambda **how: augclient.tensorflow.dataset(running.address, RECIPE, **{"patch": PATCH, "batch_size": 4, "steps": 8} | how)


def step_of(batch: Any) -> int:
    """The number of a batch, by its first voxel: index * 7 % 251, as toy_server says; below 62."""
    first = int(np.ravel(batch[0])[0])
    return next(step for step in range(62) if step * 4 * 7 % 251 == first)


def steps_of(batches: Any) -> list[int]:
    return [step_of(batch) for batch in batches]


def test_passes_go_on_or_are_the_same(make: Any) -> None:
    for passes, wanted in (("continue", [range(8), range(8, 16), range(16, 24)]), ("same", [range(8)] * 3)):
        data = make(passes=passes)
        assert int(data.cardinality()) == 8
        assert [steps_of(data) for _ in range(3)] == [list(steps) for steps in wanted]
        assert steps_of(data.repeat(2)) == (list(range(24, 40)) if passes == "continue" else list(range(8)) * 2)
    with pytest.raises(augclient.errors.RequestError, match="passes: got 'again'; allowed: continue, same"):
        make(passes="again")


@pytest.mark.parametrize("channels", [1, 2])
def test_a_look_and_a_break_lose_nothing_that_waits_in_prefetch(make: Any, toy: Any, monkeypatch: Any, channels: int) -> None:
    monkeypatch.setattr(toy, "CHANNELS", channels)
    for steps in (None, 8):
        data = make(steps=steps)
        got = [step_of(next(iter(data.take(1))))]
        for _ in range(3):
            for batch in data:
                got.append(step_of(batch))
                if len(got) % 5 == 0:
                    break
        assert got == list(range(15))
        assert augclient.tensorflow.state_dict(data)["step"] == 15
    assert steps_of(data) == list(range(15, 23))


def test_two_iterators_at_once_never_return_a_batch_twice(make: Any) -> None:
    data = make()
    pairs = zip(data, data, strict=True)
    assert [step_of(batch) for batch in next(pairs)] == [0, 1]
    with pytest.raises(tf.errors.OpError, match="StateError: batch 1: another iterator of this dataset has gone on"):
        next(pairs)
    older, newer = iter(data), iter(data)
    assert step_of(next(older)) == 2
    assert [step_of(next(newer)) for _ in range(3)] == [3, 4, 5]
    with pytest.raises(tf.errors.OpError, match="another iterator"):
        next(older)
    assert step_of(next(newer)) == 6


@pytest.mark.parametrize("passes", ["continue", "same"])
@pytest.mark.parametrize("delivered", [0, 1, 5, 8])
def test_a_resumed_pass_has_its_rest_and_the_next_ones_are_whole(make: Any, passes: str, delivered: int) -> None:
    before = make(passes=passes)
    iterator = iter(before)
    got = [step_of(next(iterator)) for _ in range(delivered)]
    token = json.loads(json.dumps(augclient.tensorflow.state_dict(before)))
    after = make(passes=passes, state=token)
    rest = steps_of(after)
    whole = [*got, *rest] if delivered < 8 else rest
    assert whole == (list(range(8, 16)) if passes == "continue" and delivered == 8 else list(range(8)))
    assert steps_of(after) == (list(range(whole[-1] + 1, whole[-1] + 9)) if passes == "continue" else list(range(8)))


def test_a_checkpoint_of_any_pass_goes_on_and_the_next_pass_too(make: Any, tmp_path: Any) -> None:
    data = make()
    assert steps_of(data) == list(range(8))
    iterator = iter(data)
    assert [step_of(next(iterator)) for _ in range(3)] == [8, 9, 10]
    path = tf.train.Checkpoint(iterator=iterator).save(str(tmp_path / "state"))
    fresh = make()
    again = iter(fresh)
    tf.train.Checkpoint(iterator=again).restore(path).assert_consumed()
    assert steps_of(again) == list(range(11, 16))
    assert augclient.tensorflow.state_dict(fresh)["step"] == 16
    assert steps_of(fresh) == list(range(16, 24))
    assert steps_of(iterator) == list(range(11, 16))  # the one that was saved goes on as well


def test_set_epoch_jumps(make: Any) -> None:
    data = make(start=2)
    for epoch in (3, 4, 0, 0):
        augclient.tensorflow.set_epoch(data, epoch)
        assert steps_of(data) == list(range(2 + 8 * epoch, 10 + 8 * epoch))
    assert steps_of(data) == list(range(10, 18))
    with pytest.raises(augclient.errors.RequestError, match="not a dataset made of it"):
        augclient.tensorflow.set_epoch(data.take(1), 0)


@pytest.mark.slow
@pytest.mark.parametrize(("steps", "steps_per_epoch"), [(8, None), (8, 8), (None, 8), (None, 5)])
def test_keras_sees_every_batch_once_and_validates_on_the_same(make: Any, steps: int | None, steps_per_epoch: int | None) -> None:
    import keras

    seen: dict[str, list[int]] = {"train": [], "validation": []}

    def watched(data: Any, name: str) -> Any:
        def note(image: Any) -> Any:
            seen[name].append(step_of([image]))
            return np.int64(0)

        def pass_on(image: Any, label: Any) -> Any:
            nothing = tf.ensure_shape(tf.numpy_function(note, [image], tf.int64), ())
            return image + tf.cast(nothing, image.dtype), label

        return data.map(pass_on)

    model = keras.Sequential([keras.layers.Input((*PATCH, 1)), keras.layers.Conv3D(6, 1, activation="softmax")])
    model.compile(optimizer="sgd", loss="sparse_categorical_crossentropy")
    validation = watched(make(passes="same", steps=3, start=50), "validation")
    train = watched(make(steps=steps), "train")
    model.fit(train, epochs=3, steps_per_epoch=steps_per_epoch, validation_data=validation, verbose=0, shuffle=False)
    count = 3 * (steps_per_epoch or 8)
    assert seen["train"][:count] == list(range(count))
    assert len(seen["train"]) <= count + 3  # what a pipeline behind ours takes ahead
    assert seen["validation"] == [50, 51, 52] * 3
