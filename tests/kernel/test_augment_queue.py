"""Push and pop on the CPU backend, with the faults of older such queues as the things that must not happen."""

from __future__ import annotations

import threading
import time
from dataclasses import replace

import numpy as np
import pytest

from augserver.augment.sample import SampleParams
from augserver.errors import BudgetError, GeometryError, RecipeError, RequestError, StateError
from augserver.kernel import AugmentQueue
from augserver.volume import Volume, VolumeInfo

SHAPE = (3, 4, 5)
IDENTITY = SampleParams(affine=np.eye(3, 4, dtype=np.float32))


def volume_of(number: int) -> Volume:
    image = np.random.default_rng(number).integers(-900, 900, (1, 5, 7, 11)).astype(np.int16)
    image.flags.writeable = False
    label = (np.abs(image[0]) % 7).astype(np.uint8)
    info = VolumeInfo(id=f"v{number}", shape=image.shape, dtype="int16", spacing_mm=(3.0, 1.0, 0.5), affine=np.eye(4), has_label=True)
    return Volume(info=info, image=image, label=label)


def test_results_come_in_the_order_of_the_pushes(backend):
    volumes = [volume_of(k) for k in range(8)]
    with AugmentQueue(backend, depth=8) as queue:
        for volume in volumes:
            queue.push([volume], [IDENTITY], SHAPE, label=True)
        for volume in volumes:
            image, label = queue.pop()
            assert label is not None
            np.testing.assert_array_equal(image[0, 0], volume.image[0, :3, :4, :5])
            np.testing.assert_array_equal(label[0], volume.label[:3, :4, :5])


def test_pop_on_empty_is_an_error_that_leaves_the_queue_usable(backend):
    with AugmentQueue(backend) as queue:
        with pytest.raises(StateError, match="push a batch first"):
            queue.pop()
        queue.push([volume_of(1)], [IDENTITY], SHAPE)
        assert queue.pop()[0].shape == (1, 1, *SHAPE)
        with pytest.raises(StateError, match="empty"):
            queue.pop()


@pytest.mark.parametrize(
    ("params", "error"),
    [
        (replace(IDENTITY, window=(5.0, 5.0)), RecipeError),
        (replace(IDENTITY, affine=np.full((3, 4), np.nan, np.float32)), GeometryError),
        (replace(IDENTITY, noise_std=-1.0), RecipeError),
        (None, RequestError),
    ],
)
def test_a_push_that_fails_leaves_nothing_behind(backend, params, error):
    with AugmentQueue(backend, depth=2) as queue:
        for _ in range(5):
            with pytest.raises(error):
                queue.push([volume_of(1)], [] if params is None else [params], SHAPE)
        assert queue.statistics().waiting == 0
        queue.push([volume_of(2)], [IDENTITY], SHAPE)
        np.testing.assert_array_equal(queue.pop()[0][0, 0], volume_of(2).image[0, :3, :4, :5])


def test_a_full_queue_refuses_or_waits_for_a_pop_as_asked(backend):
    with AugmentQueue(backend, depth=1) as queue:
        queue.push([volume_of(1)], [IDENTITY], SHAPE)
        with pytest.raises(BudgetError, match="pop one first"):
            queue.push([volume_of(2)], [IDENTITY], SHAPE)
        waiting = threading.Thread(target=queue.push, args=([volume_of(2)], [IDENTITY], SHAPE), kwargs={"timeout_s": None})
        waiting.start()
        for number in (1, 2):
            if number == 2:
                waiting.join()
            np.testing.assert_array_equal(queue.pop()[0][0, 0], volume_of(number).image[0, :3, :4, :5])


def test_noise_does_not_repeat_between_pushes_of_different_keys_and_does_for_the_same_key(backend):
    noisy = [replace(IDENTITY, noise_std=10.0, noise_key=key) for key in (1, 2, 1)]
    with AugmentQueue(backend, depth=3) as queue:
        for params in noisy:
            queue.push([volume_of(1)], [params], SHAPE)
        first, second, again = (queue.pop()[0] for _ in noisy)
    assert (first != second).mean() > 0.9
    np.testing.assert_array_equal(first, again)


def test_voxels_of_the_far_faces_keep_their_values(backend):
    volume = volume_of(3)
    with AugmentQueue(backend) as queue:
        queue.push([volume], [IDENTITY], (5, 7, 11))
        np.testing.assert_array_equal(queue.pop()[0][0], volume.image)


def test_a_queue_gives_what_warp_gives(backend, warp):
    params = SampleParams(
        affine=np.array([[1.1, 0.1, 0, 0.3], [0, 0.9, 0.2, 1], [0.1, 0, 1.05, 2]], np.float32),
        noise_std=5.0,
        noise_key=77,
        window=(-500.0, 600.0),
        occlusion=(1, 2),
        fill=-1000.0,
    )
    volume = volume_of(5)
    with AugmentQueue(backend) as queue:
        queue.push([volume], [params], SHAPE, label=True)
        image, label = queue.pop()
    expected, expected_label = warp(
        volume.image,
        params.affine,
        SHAPE,
        label=volume.label,
        noise_std=5.0,
        noise_key=77,
        window=(-500.0, 600.0),
        occlude=(1, 2),
        fill=-1000.0,
    )
    assert image[0].tobytes() == expected.tobytes()
    assert label[0].tobytes() == expected_label.tobytes()


def test_a_closed_queue_refuses(backend):
    queue = AugmentQueue(backend)
    queue.push([volume_of(1)], [IDENTITY], SHAPE)
    queue.close()
    queue.close()
    with pytest.raises(StateError, match="closed"):
        queue.push([volume_of(1)], [IDENTITY], SHAPE)


class Counting:
    """A backend that counts the arrays it hands out."""

    def __init__(self, backend):
        self._backend = backend
        self.allocated = 0

    def __getattr__(self, name):
        return getattr(self._backend, name)

    def allocate(self, shape, dtype):
        self.allocated += 1
        return self._backend.allocate(shape, dtype)


def test_who_waits_for_a_place_holds_no_results(backend):
    counting = Counting(backend)
    with AugmentQueue(counting, depth=2) as queue:
        pushers = [
            threading.Thread(target=queue.push, args=([volume_of(k)], [IDENTITY], SHAPE), kwargs={"timeout_s": None}) for k in range(6)
        ]
        for thread in pushers:
            thread.start()
        for popped in range(6):
            until = time.monotonic() + 10
            while queue.statistics().waiting < min(2, 6 - popped):
                assert time.monotonic() < until
                time.sleep(0.001)
            assert counting.allocated == min(popped + 2, 6)
            queue.pop()
        for thread in pushers:
            thread.join(10)
        assert queue.statistics().waiting == 0


def test_a_refused_push_gives_its_place_back(backend):
    with AugmentQueue(backend, depth=1) as queue:
        for _ in range(3):
            with pytest.raises(RecipeError):
                queue.push([volume_of(1)], [replace(IDENTITY, noise_std=-1.0)], SHAPE)
        queue.push([volume_of(1)], [IDENTITY], SHAPE)
        assert queue.statistics().waiting == 1
