"""The CPU backend: its struct, what it refuses before any work, its threads and its memory."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from dataclasses import replace

import numpy as np
import psutil
import pytest

from augserver.augment.sample import SampleParams
from augserver.errors import BackendError, RecipeError, RequestError
from augserver.kernel import _cpu, allocate, open_backend
from augserver.kernel.cpu import instruction_sets
from augserver.kernel.params import PARAMS_DTYPE

PARAMS = SampleParams(affine=np.eye(3, 4, dtype=np.float32), noise_std=3.0, noise_key=1)


@pytest.fixture
def volume(make_volume):
    rng = np.random.default_rng(0)
    return make_volume(rng.integers(-100, 100, (2, 50, 6, 7)).astype(np.int16), rng.integers(0, 5, (50, 6, 7)).astype(np.uint8))


def outputs(samples: int = 1) -> tuple[np.ndarray, np.ndarray]:
    return np.full((samples, 2, 45, 6, 7), 5, np.float32), np.full((samples, 45, 6, 7), 5, np.uint8)


def test_params_layout_is_the_compiled_one():
    layout = _cpu.params_layout()
    assert layout.pop("sizeof") == PARAMS_DTYPE.itemsize
    assert layout == {name: PARAMS_DTYPE.fields[name][1] for name in PARAMS_DTYPE.names}


def test_a_volume_without_a_label_gives_background(make_volume, volume):
    image, label = outputs()
    with open_backend("cpu") as backend:
        backend.augment([make_volume(volume.image)], [PARAMS], image, label)
    assert (label == 0).all()


def test_the_label_may_be_left_out(volume):
    with_label, label = outputs()
    without, _ = outputs()
    with open_backend("cpu") as backend:
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
def test_a_bad_batch_is_refused_before_anything_is_written(volume, change, error, message):
    image, label = outputs()
    arguments = {"volumes": [volume], "params": [PARAMS], "out_image": image, "out_label": label} | change
    with open_backend("cpu") as backend, pytest.raises(error, match=message):
        backend.augment(**arguments)
    assert (image == 5).all()
    assert (label == 5).all()


def test_read_only_outputs_and_foreign_types_are_refused(volume, make_volume):
    image, label = outputs()
    image.flags.writeable = False
    with open_backend("cpu") as backend:
        with pytest.raises(RequestError, match="writable"):
            backend.augment([volume], [PARAMS], image, label)
        image, label = outputs()
        with pytest.raises(RequestError, match="float64"):
            backend.augment([make_volume(volume.image.astype(np.float64))], [PARAMS], image, label)
        with pytest.raises(RequestError, match="not C-contiguous"):
            backend.augment([make_volume(volume.image[:, ::2])], [PARAMS], image, label)


@pytest.mark.parametrize(("arguments", "message"), [({"threads": 0}, "threads is 0"), ({"isa": "mmx"}, "isa 'mmx'")])
def test_a_backend_that_cannot_be_is_refused(arguments, message):
    with pytest.raises(BackendError, match=message):
        open_backend("cpu", **arguments)


def test_a_closed_backend_says_so(volume):
    backend = open_backend("cpu")
    backend.close()
    backend.close()
    with pytest.raises(BackendError, match="closed"):
        backend.augment([volume], [PARAMS], *outputs())


def test_description_names_threads_and_instruction_set():
    with open_backend("cpu", threads=2) as backend:
        assert backend.description == f"cpu, 2 threads, {instruction_sets()[0]}"


def test_callers_at_once_get_what_they_would_get_alone(volume):
    params = [replace(PARAMS, noise_key=key) for key in range(6)]
    with open_backend("cpu", threads=3) as backend:
        alone = [outputs() for _ in params]
        for one, (image, label) in zip(params, alone, strict=True):
            backend.augment([volume], [one], image, label)
        results = [outputs() for _ in params]

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
def test_memory_does_not_grow_over_many_calls(volume):
    image, label = outputs(2)
    process = psutil.Process()
    with open_backend("cpu", threads=3) as backend:

        def push(times: int) -> int:
            for _ in range(times):
                backend.augment([volume] * 2, [PARAMS] * 2, image, label)
            return int(process.memory_info().rss)

        before = push(200)
        assert push(3000) - before < 512 << 10


def test_threads_end_with_the_backend(volume):
    before = psutil.Process().num_threads()
    with open_backend("cpu", threads=4) as backend:
        backend.augment([volume] * 2, [PARAMS] * 2, *outputs(2))
        assert psutil.Process().num_threads() == before + 3
    assert psutil.Process().num_threads() == before


# A process of its own: the child of a fork, and an interpreter that ends with a backend open.
FORK = """
import os, sys
import numpy as np
from augserver.augment.sample import SampleParams
from augserver.kernel import open_backend
from augserver.volume import Volume, VolumeInfo
image = np.arange(2 * 60 * 5 * 6, dtype=np.int16).reshape(1, 120, 5, 6)
info = VolumeInfo(id="v", shape=image.shape, dtype="int16", spacing_mm=(1, 1, 1), affine=np.eye(4), has_label=False)
volume, params = Volume(info=info, image=image, label=None), SampleParams(affine=np.eye(3, 4, dtype=np.float32))
backend, out = open_backend("cpu", threads=3), np.empty((1, 1, 120, 5, 6), np.float32)
backend.augment([volume], [params], out)
child = os.fork()
out[...] = 0
backend.augment([volume], [params], out)
ok = bool((out[0] == image).all())
if child == 0:
    backend.close()
    os._exit(0 if ok else 1)
sys.exit(0 if ok and os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0 else 1)
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_starts_threads_of_its_own_and_both_exit_cleanly():
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", FORK], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("shape", [(3,), (2, 3, 5), (1, 160, 120, 121)])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32])
def test_allocate_gives_aligned_zeros_that_own_their_memory(shape, dtype):
    array = allocate(shape, dtype)
    assert (array.shape, array.dtype) == (shape, np.dtype(dtype))
    assert array.ctypes.data % (64 if array.nbytes < 2 << 20 else 2 << 20) == 0
    assert array.flags.c_contiguous
    assert array.flags.writeable
    assert not array.any()
