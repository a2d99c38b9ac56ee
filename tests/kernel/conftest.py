"""Volumes and random configurations for the kernel's tests."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from augserver.augment.sample import SampleParams
from augserver.config import CudaConfig
from augserver.kernel import Backend, open_backend
from augserver.kernel import warp as warp_on
from augserver.kernel.cpu import instruction_sets
from augserver.volume import Volume, VolumeInfo

VECTOR_SETS = tuple(isa for isa in instruction_sets() if isa != "scalar")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """`isa` runs a test on every instruction set, `vector_isa` on all but the reference; `each_backend` on all builds of `--backend`."""
    if "isa" in metafunc.fixturenames:
        metafunc.parametrize("isa", instruction_sets())
    if "vector_isa" in metafunc.fixturenames:
        metafunc.parametrize("vector_isa", VECTOR_SETS)
    if "each_backend" in metafunc.fixturenames:
        builds = instruction_sets() if metafunc.config.getoption("--backend") == "cpu" else ("cuda",)
        metafunc.parametrize("each_backend", builds, indirect=True)


@pytest.fixture(scope="session")
def backend(backend_name: str, cuda_config: CudaConfig) -> Iterator[Backend]:
    """The backend of `--backend`."""
    opened = open_backend(backend_name, cuda=cuda_config)
    yield opened
    opened.close()


@pytest.fixture
def each_backend(request: pytest.FixtureRequest, backend: Backend) -> Iterator[Backend]:
    """`backend` in one of its builds: an instruction set of the CPU, or the GPU."""
    if request.param == "cuda":
        yield backend
        return
    opened = open_backend("cpu", isa=request.param)
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def warp(backend: Backend) -> Callable[..., Any]:
    """augserver.kernel.warp on `backend`."""
    return functools.partial(warp_on, backend=backend)


def as_volume(image: NDArray[Any], label: NDArray[np.uint8] | None = None, name: str = "toy") -> Volume:
    """(C, Z, Y, X) and (Z, Y, X) as a Volume."""
    info = VolumeInfo(
        id=name,
        shape=image.shape,
        dtype=image.dtype.name,
        spacing_mm=(1.0, 1.0, 1.0),
        affine=np.eye(4),
        has_label=label is not None,
    )
    return Volume(info=info, image=image, label=label)


@pytest.fixture(scope="session")
def make_volume() -> Callable[..., Volume]:
    return as_volume


@dataclass(frozen=True)
class Case:
    """A configuration that a test runs on several builds."""

    volume: Volume
    params: SampleParams
    patch: tuple[int, int, int]
    dtype: type[np.generic]
    nearest: bool


def _affine(rng: np.random.Generator, shape: tuple[int, ...], patch: tuple[int, int, int]) -> NDArray[np.float32]:
    """Ordinary, reflected, sheared, axis-aligned, far outside, hugely scaled, singular: one of them."""
    kind = int(rng.integers(9))
    matrix = np.eye(3) + rng.normal(0, 0.3, (3, 3))
    offset_noise = rng.normal(0, 2, 3)
    if kind == 0:
        matrix, offset_noise = np.eye(3), np.round(offset_noise)
    elif kind == 1:
        matrix = np.eye(3)[rng.permutation(3)] * rng.choice([-1.0, 1.0], 3)
    elif kind == 2:
        offset_noise = rng.choice([-1, 1], 3) * rng.uniform(0, 1e5, 3)
    elif kind == 3:
        matrix = rng.normal(0, 1000, (3, 3))
    elif kind == 4:
        matrix[:, 2] = rng.choice([0.0, 1e-7, 1e-3], 3)
    elif kind == 5:
        matrix *= 0.01
    elif kind == 6:
        matrix[:, int(rng.integers(3))] *= -1
    centre = (np.array(shape) - 1) / 2 - matrix @ ((np.array(patch) - 1) / 2)
    return np.hstack([matrix, (centre + offset_noise)[:, None]]).astype(np.float32)


def random_case(seed: int) -> Case:
    """A small configuration of any kind that the kernel accepts."""
    rng = np.random.default_rng(seed)
    channels = int(rng.integers(1, 9)) if seed % 4 == 0 else int(rng.integers(1, 3))
    shape = tuple(int(n) for n in rng.integers(1, 40, 3))
    if seed % 5 == 0:
        shape = tuple(1 if axis == seed // 5 % 3 else n for axis, n in enumerate(shape))
    patch = tuple(int(n) for n in rng.integers(1, 24, 3))
    patch = (1 if seed % 9 == 0 else patch[0], patch[1], int(rng.choice([1, 3, 17, 64, 65, 130, 1030])))
    image = rng.integers(-1000, 1500, (channels, *shape)).astype(rng.choice([np.int16, np.float32]))
    if image.dtype == np.float32:
        image += rng.normal(0, 1, image.shape).astype(np.float32)
        image[rng.random(image.shape) < 0.01] = -0.0
    label = None if seed % 7 == 0 else rng.integers(0, 256, shape).astype(np.uint8)
    dtype = (np.float32, np.float16, np.uint8)[int(rng.integers(3))]
    window = (-160.0, float(rng.uniform(-150, 900))) if dtype is np.uint8 or rng.random() < 0.7 else None
    start = int(rng.integers(0, patch[0] + 1))
    params = SampleParams(
        affine=_affine(rng, shape, patch),
        fill=float(rng.choice([0.0, -0.0, -1000.0, 33.3])),
        contrast=float(rng.choice([1.0, 0.8, 1.3])),
        pivot=float(rng.choice([0.0, 40.0])),
        brightness=float(rng.choice([0.0, -17.5])),
        gamma=float(rng.choice([1.0, 0.5, 2.2])) if window else 1.0,
        noise_std=float(rng.choice([0.0, 12.5])),
        noise_key=int(rng.integers(2**64, dtype=np.uint64)),
        window=window,
        occlusion=(start, int(rng.integers(start, patch[0] + 1))) if rng.random() < 0.4 else None,
        occlusion_label=(0, 7, None)[int(rng.integers(3))],
        keep_labels=frozenset(int(v) for v in rng.integers(0, 256, 60)) if rng.random() < 0.3 else None,
    )
    nearest = bool(rng.random() < 0.15)
    limits = tuple(tuple(sorted(rng.uniform(-1200, 1700, 2))) for _ in range(channels)) if rng.random() < 0.2 else None
    params = dataclasses.replace(
        params,
        fills=tuple(float(v) for v in rng.choice([0.0, -0.0, -1000.0, 33.3], channels)) if rng.random() < 0.3 else None,
        border="edge" if rng.random() < 0.3 else "fill",
        tap_limits=limits,
        label_rule="linear" if rng.random() < 0.5 else "nearest",
        outside_label=int(rng.choice([0, 0, 255, 3])),
        ignore_label=int(rng.integers(0, 4)) if rng.random() < 0.3 else None,
    )
    if label is not None and rng.random() < 0.6:  # few labels, in lumps: places with two or three of them around, and ties
        label //= np.uint8(rng.choice([64, 100]))
        label = np.ascontiguousarray(np.repeat(label, 2, axis=2)[:, :, : shape[2]])
    return Case(as_volume(image, label), params, patch, dtype, nearest=nearest)


@pytest.fixture(scope="session")
def make_case() -> Callable[[int], Case]:
    return random_case
