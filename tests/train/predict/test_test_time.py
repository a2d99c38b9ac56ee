"""Transforms are drawn, applied and undone by the server's kernel; SciPy says where voxels must land."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from augclient import Recipe, Server, Volume
from augclient.errors import RecipeError
from augtrain.predict.test_time import average_over_transforms
from numpy.typing import NDArray
from scipy import ndimage

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def volume(served: tuple[Server, Path]) -> Volume:
    return served[0].volume("oblique")


def by_value(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Bone, soft tissue and air by how near the value is to theirs."""
    share = np.clip((image[0] + 1000) / 1700, 0, 1)
    return np.stack([1 - share, share], axis=-1).astype(np.float32)


def test_a_reflection_and_its_inverse_cancel(served: tuple[Server, Path], volume: Volume) -> None:
    """Each axis is reflected for certain; the answer depends on the voxel's value alone, and so must not change."""
    recipe = Recipe(affine={"reflect": [1.0, 1.0, 1.0]})
    seen: list[NDArray[np.float32]] = []

    def keep(image: NDArray[np.float32]) -> NDArray[np.float32]:
        seen.append(image.copy())
        return by_value(image)

    averaged = average_over_transforms(served[0], volume, 1, recipe, -1000.0, keep)
    np.testing.assert_allclose(averaged, by_value(np.asarray(volume.image, np.float32)), atol=1e-5)
    np.testing.assert_array_equal(seen[0], volume.image)
    np.testing.assert_allclose(seen[1], volume.image[:, ::-1, ::-1, ::-1], atol=1e-2)


def test_what_depends_on_the_place_is_averaged_over_the_places(served: tuple[Server, Path], volume: Volume) -> None:
    z = np.linspace(0, 1, volume.image.shape[1], dtype=np.float32)
    share = np.broadcast_to(z[:, None, None], volume.image.shape[1:])
    answer = np.stack([share, 1 - share], axis=-1)
    recipe = Recipe(affine={"reflect": [1.0, 0.0, 0.0]})
    averaged = average_over_transforms(served[0], volume, 1, recipe, -1000.0, lambda image: answer.copy())
    np.testing.assert_allclose(averaged, 0.5, atol=1e-5)


def test_a_turn_about_the_middle_is_the_one_that_the_server_tells(served: tuple[Server, Path], volume: Volume) -> None:
    """The image is SciPy's with the sample's matrix, and after the way back the mean differs by interpolation alone."""
    server, _ = served
    recipe = Recipe(affine={"rotate_deg": [12, 12], "scale": [1.1, 1.1]})
    seen: list[NDArray[np.float32]] = []

    def keep(image: NDArray[np.float32]) -> NDArray[np.float32]:
        seen.append(image.copy())
        return by_value(image)

    averaged = average_over_transforms(server, volume, 1, recipe, -1000.0, keep)
    sample = server.sample(recipe, index=0, patch=volume.image.shape[1:], volumes=["oblique"]).sample
    theirs = ndimage.affine_transform(
        volume.image[0].astype(np.float64), sample.affine[:, :3], sample.affine[:, 3], order=1, mode="grid-constant", cval=-1000.0
    )
    inside = np.s_[2:-2, 2:-2, 2:-2]
    assert np.abs(seen[1][0] - theirs)[inside].max() < 2.0  # HU, of 1700
    plain = by_value(np.asarray(volume.image, np.float32))
    np.testing.assert_allclose(averaged.sum(axis=-1), 1, atol=1e-5)
    assert np.abs(averaged - plain).mean() < 0.01
    assert (averaged.argmax(-1) == plain.argmax(-1)).mean() > 0.995


def test_many_classes_travel_in_several_volumes(served: tuple[Server, Path], volume: Volume) -> None:
    def eleven(image: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.eye(11, dtype=np.float32)[np.clip((image[0] + 1000) / 170, 0, 10).round().astype(int)]

    recipe = Recipe(affine={"reflect": [0.0, 1.0, 0.0]})
    averaged = average_over_transforms(served[0], volume, 2, recipe, -1000.0, eleven)
    np.testing.assert_allclose(averaged, eleven(np.asarray(volume.image, np.float32)), atol=1e-5)


def test_a_recipe_that_the_server_refuses_is_told_before_any_work(served: tuple[Server, Path], volume: Volume) -> None:
    def never(image: NDArray[np.float32]) -> NDArray[np.float32]:
        raise AssertionError("the network was asked")

    with pytest.raises(RecipeError, match="singular"):
        average_over_transforms(served[0], volume, 1, Recipe(affine={"warp": [[-1.0, -1.0], 0.0, 0.0]}), -1000.0, never)
