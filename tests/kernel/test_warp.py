"""augserver.kernel.warp: shapes, types, and what it refuses."""

from __future__ import annotations

import importlib
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from augserver.errors import BackendError, BudgetError, GeometryError, RecipeError, RequestError
from augserver.kernel import Backend, in_process, open_backend

IDENTITY = np.eye(3, 4)
IMAGE = np.arange(5 * 7 * 11, dtype=np.int16).reshape(5, 7, 11)


def test_a_volume_keeps_its_axes_and_the_label_comes_along(warp):
    out = warp(IMAGE, IDENTITY, (5, 7, 11))
    assert out.shape == (5, 7, 11)
    assert out.dtype == np.float32
    assert (out == IMAGE).all()
    out, label = warp(IMAGE, IDENTITY, (4, 6, 10), label=(IMAGE % 7).astype(np.uint8))
    assert (out == IMAGE[:4, :6, :10]).all()
    assert (label == IMAGE[:4, :6, :10] % 7).all()


def test_channels_stay_in_front(warp):
    image = np.stack([IMAGE, IMAGE + 1000, -IMAGE])
    assert (warp(image, IDENTITY, (5, 7, 11)) == image).all()


def test_a_flat_image_takes_a_flat_affine(warp):
    image = np.arange(6 * 9, dtype=np.float32).reshape(6, 9)
    transposed = warp(image, [[0, 1, 0], [1, 0, 0]], (9, 6))
    assert (transposed == image.T).all()
    out, label = warp(image, [[1, 0, 1], [0, 1, 2]], (3, 4), label=(image % 5).astype(np.uint8), window=(0, 53))
    np.testing.assert_allclose(out, image[1:4, 2:6] / 53, atol=1e-6)
    assert (label == image[1:4, 2:6] % 5).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int32, np.uint16, np.int64, np.float16, np.float64, ">i2", ">f4"])
def test_types_that_convert_exactly_are_converted(warp, dtype):
    image = (IMAGE % 100).astype(dtype)
    assert (warp(image, IDENTITY, (5, 7, 11)) == IMAGE % 100).all()


def test_views_are_read_by_their_strides(warp):
    image = np.arange(10 * 14 * 22, dtype=np.int16).reshape(10, 14, 22)
    view = image[::2, ::-2, 1::2]
    assert (warp(view, IDENTITY, (5, 7, 11)) == view).all()


def test_equal_window_limits_are_refused_and_never_nan(warp):
    """The paper's library divided by zero here."""
    with pytest.raises(RecipeError, match=r"window \(50, 50\)"):
        warp(IMAGE, IDENTITY, (5, 7, 11), window=(50, 50))


def test_nan_in_an_image_does_not_spread_or_crash(warp):
    image = np.zeros((4, 5, 20), np.float32)
    image[2, 2, 10] = np.nan
    out = warp(image, np.hstack([np.eye(3), [[0], [0], [0.25]]]), (4, 5, 20), window=(-1, 1))
    assert np.isfinite(out).all()
    assert (out == 0.5).sum() >= out.size - 20


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"affine": np.full((3, 4), np.nan)}, GeometryError, "not finite"),
        ({"affine": np.eye(3, 4) * 1e39}, GeometryError, "not finite"),
        ({"affine": np.eye(3, 4) * 1e6}, GeometryError, "steps 1e"),
        ({"affine": np.eye(3, 4) + np.eye(3, 4, 3) * 1e9}, GeometryError, "reaches"),
        ({"affine": np.eye(4)}, GeometryError, r"\(3, 4\)"),
        ({"affine": "north"}, GeometryError, "no array of numbers"),
        ({"shape": (5, 7)}, RequestError, r"shape \(5, 7\)"),
        ({"shape": (5, 7, 0)}, RequestError, "whole numbers >= 1"),
        ({"shape": (5, 7, 2.5)}, RequestError, "whole numbers >= 1"),
        ({"image": [[1]]}, RequestError, "list"),
        ({"image": np.zeros((2, 0, 3))}, RequestError, "no voxel"),
        ({"image": np.zeros((9, 2, 2, 2), np.int16)}, RequestError, "1 to 8 channels"),
        ({"image": np.full((2, 2, 2), 0.1)}, RequestError, "float64 holds values"),
        ({"image": np.full((2, 2, 2), 2**24 + 1)}, RequestError, "int64 holds values"),
        ({"image": np.zeros((2, 2, 2), complex)}, RequestError, "complex"),
        ({"label": np.zeros((5, 7, 12), np.uint8)}, RequestError, "label shape"),
        ({"label": np.full((5, 7, 11), 256)}, RequestError, "label dtype int64"),
        ({"interpolation": "cubic"}, RequestError, "'linear', 'nearest'"),
        ({"noise_std": -1.0}, RecipeError, "noise_std is -1.0"),
        ({"noise_std": float("nan")}, RecipeError, "noise_std is nan"),
        ({"noise_key": 2**64}, RecipeError, "noise_key"),
        ({"fill": float("inf")}, RecipeError, "fill is inf"),
        ({"window": (3, 2)}, RecipeError, "low < high"),
        ({"window": (1e8, 1e8 + 1e-3)}, RecipeError, "float32"),
        ({"window": (0, float("nan"))}, RecipeError, "window"),
        ({"occlude": (2, 9)}, RecipeError, "occlusion"),
        ({"occlude": (3, 2)}, RecipeError, "occlusion"),
        ({"fill": "12"}, RecipeError, "fill '12'; allowed: a number"),
        ({"noise_std": None}, RecipeError, "noise_std None"),
        ({"noise_key": 1.5}, RecipeError, "noise_key 1.5; allowed: a whole number"),
        ({"window": 5}, RecipeError, r"window 5; allowed: two numbers \(low, high\)"),
        ({"window": (None, 1)}, RecipeError, "window"),
        ({"window": (1, 2, 3)}, RecipeError, "window"),
        ({"occlude": 3}, RecipeError, "occlude 3; allowed: two whole numbers"),
        ({"occlude": (0.5, 2)}, RecipeError, "occlude"),
        ({"shape": (10**6, 10**6, 10**6)}, BudgetError, "smaller output"),
        ({"backend": "tpu"}, BackendError, "'tpu'"),
    ],
)
def test_bad_input_is_a_typed_error_that_names_it(warp, change, error, message):
    arguments = {"image": IMAGE, "affine": IDENTITY, "shape": (5, 7, 11)} | change
    with pytest.raises(error, match=message):
        warp(arguments.pop("image"), arguments.pop("affine"), arguments.pop("shape"), **arguments)


def test_the_first_calls_of_many_threads_open_one_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []

    def open_slowly(name: str) -> Backend:
        opened.append(name)
        all_wait.wait(0.2)  # nobody sets it: this is how long the others have to come in between
        return open_backend("cpu", threads=1)

    all_wait, backends = threading.Event(), {}
    monkeypatch.setattr(in_process, "_backends", backends)
    monkeypatch.setattr(in_process, "open_backend", open_slowly)
    image = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    with ThreadPoolExecutor(4) as pool:
        warped = list(pool.map(lambda _: in_process.warp(image, np.eye(3, 4), (2, 3, 4)), range(4)))
    assert opened == ["auto"]
    assert all(np.array_equal(each, image) for each in warped)
    in_process.warp(image, np.eye(3, 4), (2, 3, 4), backend="cpu")  # it is open already, under the name of what "auto" took
    assert opened == ["auto"]
    for backend in set(backends.values()):
        backend.close()


def test_the_package_shows_the_function_and_no_module_hides_behind_it() -> None:
    assert importlib.import_module("augserver.kernel").warp is in_process.warp
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("augserver.kernel.warp")
