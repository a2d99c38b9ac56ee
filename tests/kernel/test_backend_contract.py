"""What every backend keeps: refusals before any work, labels, callers at once, flat memory. Of `--backend`, by default the CPU."""

from __future__ import annotations

import itertools
import threading
from dataclasses import replace

import numpy as np
import pytest

from augserver.augment.sample import SampleParams
from augserver.errors import BackendError, RecipeError, RequestError
from augserver.kernel import open_backend

PARAMS = SampleParams(affine=np.eye(3, 4, dtype=np.float32), noise_std=3.0, noise_key=1)


@pytest.fixture
def volume(make_volume):
    rng = np.random.default_rng(0)
    return make_volume(rng.integers(-100, 100, (2, 50, 6, 7)).astype(np.int16), rng.integers(0, 5, (50, 6, 7)).astype(np.uint8))


def outputs(backend, samples: int = 1) -> tuple[np.ndarray, np.ndarray]:
    image, label = backend.allocate((samples, 2, 45, 6, 7), np.float32), backend.allocate((samples, 45, 6, 7), np.uint8)
    image[...] = label[...] = 5
    return image, label


def test_a_volume_without_a_label_gives_background(backend, make_volume, volume):
    image, label = outputs(backend)
    backend.augment([make_volume(volume.image)], [PARAMS], image, label)
    assert (label == 0).all()


def test_the_label_may_be_left_out(backend, volume):
    with_label, label = outputs(backend)
    without, _ = outputs(backend)
    backend.augment([volume], [PARAMS], with_label, label)
    backend.augment([volume], [PARAMS], without)
    assert with_label.tobytes() == without.tobytes()


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"volumes": []}, RequestError, "0 volumes"),
        ({"out_image": np.zeros((1, 1, 45, 6, 7), np.float32)}, RequestError, "C = 2"),
        ({"out_image": np.zeros((1, 2, 45, 6, 7))}, RequestError, "float64"),
        ({"out_image": np.zeros((1, 2, 45, 6, 14), np.float32)[..., ::2]}, RequestError, "C-contiguous"),
        ({"out_label": np.zeros((1, 45, 6, 8), np.uint8)}, RequestError, "out_label"),
        ({"out_image": np.zeros((1, 2, 45, 6, 7), np.uint8)}, RecipeError, "uint8 output"),
        ({"params": [replace(PARAMS, gamma=2.0)]}, RecipeError, "gamma"),
        ({"params": [replace(PARAMS, gamma=0.0)]}, RecipeError, "gamma is 0.0"),
        ({"params": [replace(PARAMS, keep_labels=frozenset({300}))]}, RecipeError, "label 300"),
        ({"params": [replace(PARAMS, occlusion=(0, 46))]}, RecipeError, "occlusion"),
    ],
)
def test_a_bad_batch_is_refused_before_anything_is_written(backend, volume, change, error, message):
    image, label = outputs(backend)
    arguments = {"volumes": [volume], "params": [PARAMS], "out_image": image, "out_label": label} | change
    with pytest.raises(error, match=message):
        backend.augment(**arguments)
    assert (image == 5).all()
    assert (label == 5).all()


def test_read_only_outputs_and_foreign_types_are_refused(backend, volume, make_volume):
    image, label = outputs(backend)
    image.flags.writeable = False
    with pytest.raises(RequestError, match="writable"):
        backend.augment([volume], [PARAMS], image, label)
    image, label = outputs(backend)
    with pytest.raises(RequestError, match="float64"):
        backend.augment([make_volume(volume.image.astype(np.float64))], [PARAMS], image, label)
    with pytest.raises(RequestError, match="not C-contiguous"):
        backend.augment([make_volume(volume.image[:, ::2])], [PARAMS], image, label)


def test_a_closed_backend_says_so(backend_name, cuda_config, volume):
    backend = open_backend(backend_name, cuda=cuda_config)
    image, label = outputs(backend)
    backend.close()
    backend.close()
    with pytest.raises(BackendError, match="closed"):
        backend.augment([volume], [PARAMS], image, label)


def test_callers_at_once_get_what_they_would_get_alone(backend, volume):
    params = [replace(PARAMS, noise_key=key) for key in range(6)]
    alone = [outputs(backend) for _ in params]
    for one, (image, label) in zip(params, alone, strict=True):
        backend.augment([volume], [one], image, label)
    results = [outputs(backend) for _ in params]

    def work(k: int) -> None:
        for _ in range(50):
            backend.augment([volume], [params[k]], *results[k])

    callers = [threading.Thread(target=work, args=(k,)) for k in range(len(params))]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    for (image, label), (expected, expected_label) in zip(results, alone, strict=True):
        assert image.tobytes() == expected.tobytes()
        assert label.tobytes() == expected_label.tobytes()


@pytest.mark.slow
def test_memory_does_not_grow_over_many_calls(backend, volume):
    image, label = outputs(backend, 2)
    process = pytest.importorskip("psutil").Process()

    def push(times: int) -> int:
        for _ in range(times):
            backend.augment([volume] * 2, [PARAMS] * 2, image, label)
        return int(process.memory_info().rss)

    sizes = [push(1000) for _ in range(6)]
    # A leak grows with every thousand calls; what other threads of this process take, they take once.
    assert min(after - before for before, after in itertools.pairwise(sizes)) < 128 << 10
