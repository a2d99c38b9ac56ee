"""Tiles cover everything, and their mean is what MONAI and a voxel-by-voxel sum say it is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from augclient.errors import AugError, ConfigError, PatchError, StateError
from augtrain.sliding_window import count_tiles, predictor, segment
from numpy.typing import NDArray

PATCH = (4, 6, 5)


@pytest.fixture(scope="module")
def image() -> NDArray[np.float32]:
    """No axis like another, none a multiple of the patch."""
    return np.random.default_rng(3).random((9, 17, 11, 2), np.float32)


def by_value(tiles: NDArray[np.float32]) -> NDArray[np.float32]:
    """Two classes that depend on a voxel's value alone: no tile can disagree with another."""
    return np.stack([tiles[..., 0], 1 - tiles[..., 0]], axis=-1)


def by_place(tiles: NDArray[np.float32]) -> NDArray[np.float32]:
    """Depends on the place in the tile, differently along each axis, and on the value."""
    z, y, x = np.indices(tiles.shape[1:4], dtype=np.float32)
    ramp = np.broadcast_to(z + 10 * y + 100 * x, tiles.shape[:4])
    return np.stack([ramp * tiles[..., 0], ramp + tiles[..., 1]], axis=-1)


def first_value(overlap: float, size: int, side: int) -> list[int]:
    """Starts along one axis, counted out: steps until a tile reaches the end, the last one moved back in."""
    starts = [0]
    while starts[-1] + side < size:
        starts.append(min(starts[-1] + max(1, int(side * (1 - overlap))), size - side))
    return starts


@pytest.mark.parametrize("weighting", ["flat", "gaussian"])
@pytest.mark.parametrize("shape", [(9, 17, 11), (4, 6, 5), (2, 17, 3), (1, 1, 1)])
@pytest.mark.parametrize("overlap", [0.0, 0.3, 0.5, 0.9])
def test_what_depends_on_the_value_alone_comes_back_at_every_voxel(
    image: NDArray[np.float32], shape: tuple[int, int, int], overlap: float, weighting: str
) -> None:
    part = image[: shape[0], : shape[1], : shape[2]]
    answer = segment(by_value, part, PATCH, overlap=overlap, weighting=weighting, batch_size=3)
    assert answer.shape == (*shape, 2)
    assert answer.dtype == np.float32
    np.testing.assert_allclose(answer, by_value(part[None])[0], atol=1e-5)


@pytest.mark.parametrize("weighting", ["flat", "gaussian"])
def test_tiles_are_averaged_by_their_weights(image: NDArray[np.float32], weighting: str) -> None:
    sums = np.zeros((*image.shape[:3], 2))
    weights = np.zeros(image.shape[:3])
    sigma = np.array(PATCH) / 8
    for z in first_value(0.5, 9, 4):
        for y in first_value(0.5, 17, 6):
            for x in first_value(0.5, 11, 5):
                answer = by_place(image[None, z : z + 4, y : y + 6, x : x + 5])[0]
                for place in np.ndindex(PATCH):
                    offset = np.array(place) - (np.array(PATCH) - 1) / 2
                    weight = 1.0 if weighting == "flat" else float(np.exp(-((offset / sigma) ** 2).sum() / 2))
                    voxel = (z + place[0], y + place[1], x + place[2])
                    sums[voxel] += weight * answer[place]
                    weights[voxel] += weight
    np.testing.assert_allclose(segment(by_place, image, PATCH, weighting=weighting), sums / weights[..., None], rtol=1e-4)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("shape", [(9, 17, 11), (12, 12, 10), (3, 17, 4)])
@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.5])
def test_flat_averages_equal_those_of_monai(image: NDArray[np.float32], shape: tuple[int, int, int], overlap: float) -> None:
    torch = pytest.importorskip("torch")
    inferers = pytest.importorskip("monai.inferers")
    part = np.resize(image, (*shape, 2))

    def channels_first(tiles: Any) -> Any:
        return torch.from_numpy(np.moveaxis(by_place(np.moveaxis(tiles.numpy(), 1, -1)), -1, 1))

    theirs = inferers.sliding_window_inference(
        torch.from_numpy(np.ascontiguousarray(np.moveaxis(part, -1, 0)))[None], PATCH, 2, channels_first, overlap=overlap, mode="constant"
    )
    ours = segment(by_place, part, PATCH, overlap=overlap, batch_size=2)
    np.testing.assert_allclose(ours, np.moveaxis(theirs.numpy()[0], 0, -1), rtol=1e-5, atol=1e-5)


def test_a_smaller_volume_lies_in_the_middle_of_the_padding(image: NDArray[np.float32]) -> None:
    seen: list[NDArray[np.float32]] = []

    def keep(tiles: NDArray[np.float32]) -> NDArray[np.float32]:
        seen.append(tiles.copy())
        return by_value(tiles)

    part = image[:2, :6, :2]
    segment(keep, part, PATCH, pad_value=-3)
    expected = np.full((*PATCH, 2), -3, np.float32)
    expected[1:3, :, 1:3] = part
    np.testing.assert_array_equal(seen, expected[None, None])


def test_no_call_gets_more_tiles_than_asked_and_progress_counts_them_all(image: NDArray[np.float32]) -> None:
    sizes: list[int] = []
    told: list[tuple[int, int]] = []

    def count(tiles: NDArray[np.float32]) -> NDArray[np.float32]:
        sizes.append(len(tiles))
        return by_value(tiles)

    segment(count, image, PATCH, batch_size=7, on_tile=lambda done, total: told.append((done, total)))
    tiles = count_tiles((9, 17, 11), PATCH)
    assert tiles == len(first_value(0.5, 9, 4)) * len(first_value(0.5, 17, 6)) * len(first_value(0.5, 11, 5))
    assert max(sizes) == 7
    assert sum(sizes) == tiles
    assert told == list(zip(np.cumsum(sizes), [tiles] * len(sizes), strict=True))


class FakeModel:
    """As much of a Keras model as a predictor uses: a 2-D network with two heads."""

    input_shape = (None, 6, 5, 2)

    def predict_on_batch(self, tiles: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        assert tiles.ndim == 4
        return [by_value(tiles), by_value(tiles[:, ::2, ::2])]


def test_a_2d_network_sees_planes_and_its_finest_head_answers(image: NDArray[np.float32]) -> None:
    answer = segment(predictor(FakeModel()), image, (1, 6, 5), batch_size=4)
    np.testing.assert_allclose(answer, by_value(image[None])[0], atol=1e-6)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"patch": (4, 6)}, PatchError, "three whole numbers"),
        ({"patch": (4, 0, 5)}, PatchError, "three whole numbers"),
        ({"overlap": 1.0}, ConfigError, "overlap"),
        ({"overlap": float("nan")}, ConfigError, "overlap"),
        ({"weighting": "round"}, ConfigError, "flat, gaussian"),
        ({"batch_size": 0}, ConfigError, "batch_size"),
        ({"image": np.zeros((4, 6, 5))}, PatchError, "Z, Y, X, C"),
        ({"predict": lambda tiles: tiles[:, ::2]}, PatchError, "strides"),
        ({"predict": lambda tiles: tiles * np.nan}, StateError, "not finite"),
    ],
)
def test_what_has_no_meaning_is_refused(change: dict[str, Any], error: type[AugError], words: str) -> None:
    arguments = {"predict": by_value, "image": np.ones((4, 6, 5, 1), np.float32), "patch": PATCH} | change
    with pytest.raises(error, match=words):
        segment(**arguments)
