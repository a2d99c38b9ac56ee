"""Every build of the kernel gives the bytes of the scalar reference, whatever the threads and the batch."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from augserver.kernel import Backend, open_backend

CASES = 600


def run(backend: Backend, case) -> tuple[bytes, bytes]:
    image = backend.allocate((1, case.volume.image.shape[0], *case.patch), case.dtype)
    label = backend.allocate((1, *case.patch), np.uint8)
    image[...], label[...] = 9, 99
    backend.augment([case.volume], [case.params], image, label, nearest=case.nearest)
    return image.tobytes(), label.tobytes()


@pytest.fixture(scope="module")
def reference(make_case):
    with open_backend("cpu", threads=1, isa="scalar") as backend:
        return [run(backend, make_case(seed)) for seed in range(CASES)]


@pytest.mark.slow
def test_vector_builds_equal_the_reference_byte_for_byte(vector_isa, make_case, reference):
    with open_backend("cpu", threads=1, isa=vector_isa) as backend:
        different = [seed for seed in range(CASES) if run(backend, make_case(seed)) != reference[seed]]
    assert different == []


@pytest.mark.slow
def test_the_backend_under_test_equals_the_reference_byte_for_byte(backend, make_case, reference):
    assert [seed for seed in range(CASES) if run(backend, make_case(seed)) != reference[seed]] == []


@pytest.mark.slow
@pytest.mark.parametrize("threads", [2, 5])
def test_threads_do_not_change_a_byte(threads, isa, make_case, reference):
    with open_backend("cpu", threads=threads, isa=isa) as backend:
        for seed in range(0, CASES, 5):
            assert run(backend, make_case(seed)) == reference[seed], seed


def test_a_tall_patch_is_cut_between_threads_without_a_seam(isa, make_volume):
    rng = np.random.default_rng(5)
    volume = make_volume(rng.integers(-1000, 1500, (2, 90, 7, 9)).astype(np.int16), rng.integers(0, 9, (90, 7, 9)).astype(np.uint8))
    case = dataclasses.replace(make_case_params(), noise_std=20.0)
    results = set()
    for threads in (1, 2, 5):
        with open_backend("cpu", threads=threads, isa=isa) as backend:
            image, label = np.empty((1, 2, 85, 5, 3), np.float32), np.empty((1, 85, 5, 3), np.uint8)
            backend.augment([volume], [case], image, label)
            results.add((image.tobytes(), label.tobytes()))
    assert len(results) == 1


def make_case_params():
    from augserver.augment.sample import SampleParams

    affine = np.array([[0.98, 0.1, 0.02, 1], [-0.1, 0.9, 0.2, 2], [0.05, -0.2, -0.9, 6]], np.float32)
    return SampleParams(affine=affine, fill=-1000.0, noise_key=0x0123456789ABCDEF, window=(-500.0, 500.0))


def test_a_sample_does_not_depend_on_the_batch_it_is_in(backend, make_volume):
    rng = np.random.default_rng(6)
    shapes = [(5, 7, 11), (13, 4, 6), (9, 9, 2)]
    volumes = [
        make_volume(rng.integers(-900, 900, (1, *shape)).astype(dtype), rng.integers(0, 9, shape).astype(np.uint8))
        for shape, dtype in zip(shapes, (np.int16, np.float32, np.int16), strict=True)
    ]
    params = [dataclasses.replace(make_case_params(), noise_std=10.0 * k, noise_key=k) for k in range(3)]
    whole, whole_label = backend.allocate((3, 1, 6, 8, 10), np.float32), backend.allocate((3, 6, 8, 10), np.uint8)
    backend.augment(volumes, params, whole, whole_label)
    for k in (2, 0, 1):
        alone, alone_label = backend.allocate((1, 1, 6, 8, 10), np.float32), backend.allocate((1, 6, 8, 10), np.uint8)
        backend.augment([volumes[k]], [params[k]], alone, alone_label)
        assert alone.tobytes() == whole[k].tobytes()
        assert alone_label.tobytes() == whole_label[k].tobytes()
    assert len({whole[k].tobytes() for k in range(3)}) == 3
